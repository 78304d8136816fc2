"""The CPU time of a function's imports, relative to that of the packages that it needs."""

from __future__ import annotations

import statistics
import subprocess
import sys

from tests.bench.measure import ROOT, Measure
from tests.limits import HANG_S

PROCESSES = 11
TIMED = "import time; started = time.process_time(); {code}; print(time.process_time() - started)"


def import_ratio(cloud: str, function: str, packages: str, most: float = 1.2) -> Measure:
    """Return the ratio of importing `function` to running `packages` (imports and the first client).

    Each is the median of 11 fresh processes, alternating so that changes in machine load affect both equally, after one
    process each that fills the file cache.
    """
    times: dict[str, list[float]] = {function: [], packages: []}
    for turn in range(PROCESSES + 1):
        for code, taken in times.items():
            command = [sys.executable, "-c", TIMED.format(code=code)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=HANG_S)
            if turn:
                taken.append(float(done.stdout))
    own, floor = (statistics.median(taken) for taken in times.values())
    method = (
        f"median of the CPU of {PROCESSES} processes each, alternating: `{function}` {own:.3f} s over `{packages}` "
        f"{floor:.3f} s"
    )
    return Measure(f"{cloud}.import_ratio", own / floor, "ratio", most, method)
