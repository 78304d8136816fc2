"""A measurement and its output format."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.bench.calibration import REFERENCE_S, Timing, calibrated
from tests.limits import HANG_S

ROOT = Path(__file__).resolve().parents[2]


class Measure(msgspec.Struct, frozen=True):
    """A value with its unit, its upper limit (None: no target), and the method of measurement.

    `raw` is what the value was calculated from, where it is not what was measured.
    """

    measure: str
    value: float
    unit: str
    at_most: float | None
    method: str
    raw: Mapping[str, float] = {}

    @property
    def met(self) -> bool:
        """Whether the target is met; true without a target."""
        return self.at_most is None or self.value <= self.at_most

    def line(self) -> str:
        """Return the measurement as one line of JSON."""
        target = None if self.at_most is None else f"<= {self.at_most:g}"
        document = {
            "measure": self.measure,
            "value": round(self.value, 4),
            "unit": self.unit,
            "target": target,
            "ok": self.met,
            "method": self.method,
            **{name: round(value, 4) for name, value in self.raw.items()},
        }
        return json.dumps(document)


def cpu_measure(name: str, timings: Sequence[Timing], at_most: float | None, method: str) -> Measure:
    """Return the calibrated CPU seconds of repeated measurements."""
    medians = (statistics.median(values) for values in zip(*timings, strict=True))
    method += f"; median of {len(timings)}, each divided by the CPU of a fixed workload beside it, × {REFERENCE_S:g} s"
    return Measure(name, calibrated(timings), "s", at_most, method, dict(zip(Timing._fields, medians, strict=True)))


def fresh_process(module: str, *arguments: str, limit_s: float = HANG_S) -> dict[str, float]:
    """Run a module of this package in its own process, and return the values that it prints as a JSON object.

    Raises subprocess.CalledProcessError if it fails; its standard error is printed.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
