"""Which files of installed distributions are shipped.

The line is drawn at distributions and folders of data. A module of a distribution that is needed stays, imported or
not: which modules a library imports at run time is its own affair and changes with its releases. What goes is what no
function can import or read at run time: type stubs, sources of native modules, what a browser would be sent, launchers,
suites of tests, bytecode, and the installer's notes. Metadata, entry points and licenses stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

SUFFIXES = frozenset({".pyi", ".typed", ".pyx", ".pxd", ".c", ".h", ".pyc", ".css", ".html", ".js", ".png"})
FOLDERS = frozenset({"tests", "__pycache__"})
# At the top: launchers, and the lock that the installer holds while it works.
INSTALLERS = frozenset({"bin", ".lock"})
# What importlib.metadata reads, and what the licenses of the distributions ask for.
METADATA = frozenset({"METADATA", "entry_points.txt"})
LICENSE = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)")


def shipped(folder: Path, unused: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """Return what is shipped of the distributions installed in `folder`: names with slashes → contents.

    `unused` tells which data of them the function does not read.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_file() and _is_needed(name) and not unused(name):
            found[str(name)] = path.read_bytes()
    return found


def _is_needed(name: PurePosixPath) -> bool:
    top = name.parts[0]
    if top.endswith(".dist-info"):
        return name.parts[1] in METADATA or any(LICENSE.match(part) for part in name.parts[1:])
    return top not in INSTALLERS and name.suffix not in SUFFIXES and not FOLDERS.intersection(name.parts[:-1])
