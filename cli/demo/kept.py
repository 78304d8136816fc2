"""Documents that the functions stored in the last demonstration, kept for `status`, `history` and `page`.

The files are in the operator's state folder, one folder per cloud: the state document, the reports, and a note of when
the demonstration ended. They stay readable after the local cloud has stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from cli.terminal.private_file import state_folder
from shared.errors import NotFound
from shared.runtime.clock import SystemClock
from shared.state.store import REPORTS, Blob, report_name, run_ids

STATE = "state.json"
NOTE = "demo.json"


class Note(msgspec.Struct, frozen=True):
    """When a demonstration ended: by the machine's clock, and by the local cloud's, which may be virtual."""

    played_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class Kept:
    """The stored documents of one cloud's last demonstration."""

    folder: Path
    note: Note

    def state(self) -> bytes:
        """Return the state document."""
        return (self.folder / STATE).read_bytes()

    def now(self) -> datetime:
        """Return the local cloud's time, as if its clock had kept running since the demonstration ended."""
        return SystemClock().now() + (self.note.ended_at - self.note.played_at)

    def load(self, limit: int, document: str) -> Blob:
        """Return a document that was stored beside the state, or an empty one if it was not kept."""
        try:
            data = (self.folder / document).read_bytes()
        except FileNotFoundError:
            return Blob()
        return Blob(data if len(data) <= limit else b"", "kept", len(data))

    def report(self, run_id: str) -> bytes:
        """Return a run's full report. Raises NotFound."""
        if run_id not in self.report_ids(""):
            raise NotFound("report-missing", f"the demonstration kept no report of run {run_id}")
        return (self.folder / report_name(run_id)).read_bytes()

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the runs from `since` on, oldest first."""
        return run_ids((f"{REPORTS}{path.name}" for path in (self.folder / REPORTS).glob("*")), since)


def home() -> Path:
    """Return the folder that holds the kept documents."""
    return state_folder(os.environ) / "demo"


def forget(cloud: str) -> None:
    """Remove the documents kept from an earlier demonstration of a cloud. Raises OSError."""
    if (home() / cloud).exists():
        shutil.rmtree(home() / cloud)


def keep(cloud: str, documents: Mapping[str, bytes], ended_at: datetime) -> None:
    """Keep a state document, named STATE, and reports, each under its own name. Raises OSError."""
    folder = home() / cloud
    for name, data in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    # Written last: without the note, the folder counts as empty.
    (folder / NOTE).write_bytes(msgspec.json.encode(Note(SystemClock().now(), ended_at)))


def kept(cloud: str) -> Kept | None:
    """Return the documents kept from a cloud's last demonstration, or None."""
    folder = home() / cloud
    try:
        note = msgspec.json.decode((folder / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return None
    return Kept(folder, note)
