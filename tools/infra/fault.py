"""What a check finds, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Fault:
    """One thing to mend, at a line of a file."""

    path: Path
    line: int
    what: str

    def said(self, root: Path) -> str:
        """`file:line: what`, the file as seen from `root`."""
        name = self.path.relative_to(root) if self.path.is_relative_to(root) else self.path
        return f"{name}:{self.line}: {self.what}"


class NotRun(Exception):
    """A check that this machine cannot run; the message says why and what would change it."""
