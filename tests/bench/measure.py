"""One measure, and how it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.limits import HANG_S

ROOT = Path(__file__).resolve().parents[2]


class Measure(msgspec.Struct, frozen=True):
    """A figure with its unit, the most it may be (None: no target), and how it was taken."""

    measure: str
    value: float
    unit: str
    at_most: float | None
    method: str

    @property
    def met(self) -> bool:
        """Whether the target is met; a measure without one always is."""
        return self.at_most is None or self.value <= self.at_most

    def line(self) -> str:
        """Return the measure as one line of JSON."""
        target = None if self.at_most is None else f"<= {self.at_most:g}"
        document = {
            "measure": self.measure,
            "value": round(self.value, 4),
            "unit": self.unit,
            "target": target,
            "ok": self.met,
            "method": self.method,
        }
        return json.dumps(document)


def fresh_process(module: str, *arguments: str, limit_s: float = HANG_S) -> dict[str, float]:
    """Run a module of this package in a process of its own and return the figures it prints as one JSON object.

    Raises subprocess.CalledProcessError with what it wrote to standard error.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
