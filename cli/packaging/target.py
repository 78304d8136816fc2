"""The Python version and platform on which an archive runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A CPython `python` ("3.13") on a `platform`, as uv names them; an empty platform is this machine."""

    python: str
    platform: str = ""

    @classmethod
    def linux(cls, python: str, machine: str, glibc: int) -> Target:
        """Return CPython `python` on a Linux `machine` ("x86_64", "aarch64") with glibc 2.`glibc`."""
        return cls(python, f"{machine}-manylinux_2_{glibc}")

    @classmethod
    def host(cls) -> Target:
        """Return this interpreter on this machine."""
        return cls(f"{sys.version_info.major}.{sys.version_info.minor}")

    @property
    def options(self) -> tuple[str, ...]:
        """The options with which uv installs for this target."""
        if not self.platform:
            return ("--python", sys.executable)
        return ("--python", sys.executable, "--python-version", self.python, "--python-platform", self.platform)

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platform or 'this machine'}"
