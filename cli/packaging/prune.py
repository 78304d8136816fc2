"""Select the files of installed distributions that are shipped.

Every module of a distribution is shipped, imported or not: which modules a library imports at run time changes with
its releases. Left out is what no function imports or reads at run time: type stubs, sources of native modules, files
for browsers, launchers, tests, bytecode, and the installer's records. Metadata, entry points and licenses are shipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

SUFFIXES = frozenset({".pyi", ".typed", ".pyx", ".pxd", ".c", ".h", ".pyc", ".css", ".html", ".js", ".png"})
FOLDERS = frozenset({"tests", "__pycache__"})
# At the top level: launchers, and the installer's lock file.
INSTALLERS = frozenset({"bin", ".lock"})
# Read by importlib.metadata, or required by the licenses of the distributions.
METADATA = frozenset({"METADATA", "entry_points.txt"})
LICENSE = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)")


def shipped(folder: Path, unused: Callable[[PurePosixPath], bool]) -> dict[str, bytes]:
    """Return the shipped files of the distributions installed in `folder`: names with slashes → contents.

    `unused` returns whether a file is data that the function does not read.
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
