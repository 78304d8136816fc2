"""Fill a delivery ledger, or merge the new deliveries of a run into one and print CPU seconds and memory."""

from __future__ import annotations

import json
import random
import resource
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shared.periods import Period, months_between, number_of, start_of
from shared.state.deliveries import Ledger, decode
from tests.bench.calibration import timed

NOW = datetime(2026, 7, 10, 9, tzinfo=UTC)
MONTHS = list(months_between("2023-08", "2026-07"))
SCOPES, DATASETS, OWNER = 10_000, ("actual", "focus"), "62687bb7-99bc-50de-8efe-5651ed7e8ce7"


def main(file: str, step: str) -> None:
    """Write a full ledger to `file`; or load it, merge the two newest months of every scope, and encode it again."""
    if step == "fill":
        Path(file).write_bytes(_ledger(MONTHS, NOW - timedelta(days=1)).encode(NOW))
        return
    before = _peak_mb()
    news = _ledger(MONTHS[-2:], NOW)

    def merged() -> float:
        stored = decode(Path(file).read_bytes(), "azure", OWNER)
        assert stored.merge(news, NOW)
        stored.compact(NOW)
        assert stored.encode(NOW)
        return _peak_mb()

    peak, timing = timed(merged)
    print(json.dumps({"peak_mb": peak - before, **timing._asdict()}))


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
