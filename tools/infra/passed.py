"""What has passed on the same files needs no second look: the slow checks are repeated only after a change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tools.infra.fault import Fault


class Passed:
    """A memory of checks that found nothing, each with a digest of the files it saw.

    The digest covers every file below `folder` and below this package, and the locked requirements: a new rule or a new
    version of a scanner asks anew.
    """

    def __init__(self, memory: Path, folder: Path, *, fresh: bool = False) -> None:
        self._memory = memory
        self._folder = folder
        self._known: dict[str, str] = {}
        if not fresh and memory.exists():
            try:
                self._known = json.loads(memory.read_text(encoding="utf-8"))
            except ValueError:
                self._known = {}

    def once(self, name: str, check: Callable[[], Iterable[Fault]]) -> list[Fault]:
        """Return the check's faults, or none at once where it has passed on the same files."""
        digest = self._digest()
        if self._known.get(name) == digest:
            return []
        faults = list(check())
        if faults:
            self._known.pop(name, None)
        else:
            self._known[name] = digest
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        self._memory.write_text(json.dumps(self._known), encoding="utf-8")
        return faults

    def _digest(self) -> str:
        digest = hashlib.sha256()
        own = Path(__file__).parent
        locked = own.parents[1] / "requirements"
        for top, files in (
            (self._folder, _files(self._folder)),
            (own, _files(own)),
            (locked, sorted(locked.glob("*.txt"))),
        ):
            for path in files:
                digest.update(f"{path.relative_to(top)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in {".terraform", "__pycache__", "node_modules"}]
        found += [Path(place) / name for name in names]
    return sorted(found)
