"""Fill a delivery ledger, or merge the new deliveries of a run into one and print CPU seconds and megabytes."""

from __future__ import annotations

import random
import resource
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.periods import Period, months_between, number_of, start_of
from shared.state.deliveries import Ledger, decode

NOW = datetime(2026, 7, 10, 9, tzinfo=UTC)
MONTHS = list(months_between("2023-08", "2026-07"))
SCOPES, DATASETS, OWNER = 10_000, ("actual", "focus"), "62687bb7-99bc-50de-8efe-5651ed7e8ce7"


def main(file: str, step: str) -> None:
    """Write a full ledger to `file`; or load it, merge the two newest months of every scope, and encode it again."""
    if step == "fill":
        Path(file).write_bytes(_ledger(MONTHS, NOW - timedelta(days=1)).encode(NOW))
        return
    before, started = _peak_mb(), time.process_time()
    news = _ledger(MONTHS[-2:], NOW)
    made = time.process_time()
    stored = decode(Path(file).read_bytes(), "azure", OWNER)
    assert stored.merge(news, NOW)
    stored.compact(NOW)
    assert stored.encode(NOW)
    seconds = time.process_time() - made
    sys.stdout.write(f"{seconds} {_peak_mb() - before}\n")
    sys.stderr.write(f"generating the new deliveries took {made - started:.1f} s\n")


def _ledger(months: list[str], now: datetime) -> Ledger:
    rng, ledger = random.Random(len(months)), Ledger("azure", OWNER)
    for scope in _scopes():
        for dataset in DATASETS:
            ledger.note(scope, dataset, {month: _period(month, rng) for month in months}, now)
    return ledger


def _scopes() -> Iterator[str]:
    rng = random.Random(1)
    return (str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(SCOPES))


def _period(month: str, rng: random.Random) -> Period:
    start = start_of(number_of(month) or 0)
    first = start + timedelta(seconds=rng.randrange(3 * 86_400))
    last = start + timedelta(days=32, seconds=rng.randrange(4 * 86_400))
    size = int(rng.lognormvariate(14, 2))
    return Period(rng.randrange(1, 12), size, first, last, last - timedelta(seconds=rng.randrange(86_400)))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main(*sys.argv[1:])
