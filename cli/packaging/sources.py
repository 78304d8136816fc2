"""Find our own modules that a function imports."""

from __future__ import annotations

from collections.abc import Iterable
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

from cli.packaging.errors import PackagingError
from tailpipe_exports import PACKAGES

ENGINE = "shared"
OWN = frozenset({*PACKAGES, "tests", "tools"})


def modules(root: Path, folder: str, entries: Iterable[str] = ("handler",)) -> dict[str, bytes]:
    """Return the modules that `folder`'s `entries` import, at once or later, as archive names with their contents.

    Imports are followed through our own packages and their sub-packages only. A module that nothing imports is left
    out. Raises PackagingError if an entry is missing, cannot be parsed, or imports a module that is never shipped.
    """
    finder = _Finder(path=[str(root)])
    entry = ""
    try:
        for entry in entries:
            finder.import_hook(f"{folder}.{entry}")
    except ImportError as error:
        raise PackagingError([f"{root} holds no {folder}/{entry}.py: reinstall tailpipe-exports"]) from error
    except SyntaxError as error:
        raise PackagingError([f"{error.filename}:{error.lineno}: {error.msg}"]) from error
    found: dict[str, bytes] = {}
    problems: list[str] = []
    for name, module in sorted(finder.modules.items()):
        location = getattr(module, "__file__", None)
        if location is None:  # built into the interpreter
            continue
        path = Path(location)
        if name.partition(".")[0] not in (folder, ENGINE):
            problems.append(f"{folder} imports {name}, which is not shipped: a function has only {folder} and {ENGINE}")
        found[path.relative_to(root).as_posix()] = path.read_bytes()
    if problems:
        raise PackagingError(problems)
    return found


class _Finder(ModuleFinder):
    """Finds only our own packages; every other package comes from the requirements.

    If tailpipe-exports is installed, its packages are beside all others, so names decide, not folders.
    """

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        if path is None and name not in OWN:
            raise ImportError(name)
        return super().find_module(name, path, parent)
