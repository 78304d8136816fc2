"""Where an archive is to run: a Python version, and the platforms whose wheels work there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags, platform_tags

# The older names of three manylinux platforms. Source: PEP 600, "Legacy manylinux tags".
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# The first glibc that wheels exist for: the legacy tags older than manylinux2014 are for Intel's machines only.
OLDEST = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True)
class Target:
    """CPython `python` ("3.13") with a standard library for `platforms`, wheel tags with the best one first.

    `markers` are the values that a requirement's environment markers have there.
    """

    python: str
    platforms: tuple[str, ...]
    markers: Mapping[str, str]

    @classmethod
    def linux(cls, python: str, machine: str, glibc: int) -> Target:
        """Return CPython `python` on a Linux `machine` ("x86_64", "aarch64") with glibc 2.`glibc`."""
        platforms: list[str] = []
        for minor in range(glibc, OLDEST[machine] - 1, -1):
            platforms.append(f"manylinux_2_{minor}_{machine}")
            if minor in LEGACY:
                platforms.append(f"{LEGACY[minor]}_{machine}")
        markers = {
            "implementation_name": "cpython",
            # The platform chooses the patch release and changes it without a word.
            "implementation_version": f"{python}.0",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "os_name": "posix",
            "platform_machine": machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "sys_platform": "linux",
        }
        return cls(python, tuple(platforms), markers)

    @classmethod
    def host(cls) -> Target:
        """Return this interpreter on this machine."""
        markers = {name: str(value) for name, value in default_environment().items()}
        return cls(f"{sys.version_info.major}.{sys.version_info.minor}", tuple(platform_tags()), markers)

    @property
    def abi(self) -> str:
        """The tag of CPython's binary interface: "cp313"."""
        return f"cp{self.python.replace('.', '')}"

    @cached_property
    def tags(self) -> frozenset[Tag]:
        """Every wheel tag that can be installed there."""
        major, minor = self.python.split(".")
        version = (int(major), int(minor))
        return frozenset(
            (
                *cpython_tags(version, [self.abi], self.platforms),
                *compatible_tags(version, self.abi, self.platforms),
            )
        )

    def __str__(self) -> str:
        return f"Python {self.python} on {self.platforms[0]}"
