"""CPU seconds that hold on a noisy machine: each measurement is divided by that of a fixed workload beside it.

Neighbors on the same processor, a lower clock rate, or a slower machine slow down both alike, so their ratio stays. The
result is in calibrated seconds: what the measured code takes where the workload takes REFERENCE_S.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from tests.limits import HANG_S

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_S = 0.120  # CPU seconds of the workload with Python 3.11 on an idle machine (x86-64, 2 virtual cores)
RECORDS, ROUNDS = 20_000, 3
START = datetime(2026, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Timing(NamedTuple):
    """The CPU seconds of one measurement, and of one workload at that time."""

    cpu_s: float
    workload_s: float

    @classmethod
    def of(cls, figures: Mapping[str, float]) -> Timing:
        """Return the timing among the figures that a process printed."""
        return cls(figures["cpu_s"], figures["workload_s"])


class _Record(msgspec.Struct, frozen=True, gc=False):
    scope: str
    name: str
    at: datetime
    facts: dict[str, int]


def workload() -> str:
    """Build, index, encode, decode, compare, sort and hash records, as a run of a function does; return the hash.

    The hash proves that the work is the same everywhere.
    """
    known: dict[tuple[str, str], _Record] = {}
    for number in range(RECORDS):
        scope, day = f"{number * 7919 % 500:06X}", START + timedelta(days=number % 35)
        known[scope, f"copy/{day:%Y-%m-%d}/{number}"] = _Record(scope, str(number), day, {"rows": number})
    decoded = msgspec.json.decode(msgspec.json.encode(list(known.values())), type=list[_Record])
    later, digest = START + timedelta(days=17), sha256()
    for key, record in sorted(zip(known, decoded, strict=True), key=lambda pair: pair[0]):
        kept = record if record.at < later else msgspec.structs.replace(record, at=later)
        digest.update("\x1f".join((*key, kept.scope, kept.name, str(kept.facts.get("rows")))).encode())
    return digest.hexdigest()


def timed(measured: Callable[[], T]) -> tuple[T, Timing]:
    """Run `measured` between two measurements of the workload; return its result and timing.

    The mean of both counts, not the faster one: what lies between them is slowed down on average, too.
    """
    before = _workload_s()
    started = time.process_time()
    result = measured()
    cpu_s = time.process_time() - started
    return result, Timing(cpu_s, (before + _workload_s()) / 2)


def _workload_s() -> float:
    """Return the CPU seconds of one workload in its own process, whose memory is never part of a measured peak."""
    command = [sys.executable, "-m", "tests.bench.calibration"]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=HANG_S).stdout)


def calibrated(timings: Iterable[Timing]) -> float:
    """Return the calibrated seconds of repeated measurements: the median of their ratios, times REFERENCE_S.

    Raises statistics.StatisticsError without timings.
    """
    return statistics.median(one.cpu_s / one.workload_s for one in timings) * REFERENCE_S


def main() -> None:
    """Print the CPU seconds of one workload, the mean of ROUNDS after a first one, which takes longer."""
    gc.disable()
    workload()
    started = time.process_time()
    for _ in range(ROUNDS):
        workload()
    print((time.process_time() - started) / ROUNDS)


if __name__ == "__main__":
    main()
