"""The port for the stored documents: compare-and-swap on every cloud."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """A document as it lies in the store.

    `version` is the store's token for compare-and-swap (None: there is no blob). `size` is the length in bytes;
    `data` is empty where that exceeds the limit given to `load`.
    """

    data: bytes = b""
    version: str | None = None
    size: int = 0


class Conflict(Exception):
    """Somebody else wrote the blob since it was loaded."""


REPORTS = "runs/"
STATE = ""  # the state document, whose name differs from cloud to cloud; every other document has the name it is given
HTML, JSON, BINARY = "text/html; charset=utf-8", "application/json", "application/octet-stream"  # types of content


def report_name(run_id: str) -> str:
    """Return the name under which the report of a run is stored."""
    return f"{REPORTS}{run_id}.json"


def run_ids(names: Iterable[str], since: str) -> list[str]:
    """Return the ids of the runs whose reports have these names, from `since` on, oldest first."""
    found = (name.removeprefix(REPORTS).removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(run_id for run_id in found if run_id >= since and "/" not in run_id)


def aside_name(document: str, suffix: str) -> str:
    """Return the name under which a copy of a document is set aside."""
    stem, dot, ending = document.rpartition(".")
    return f"{stem}.corrupt-{suffix}{dot}{ending}"


class StateStore(Protocol):
    """Where the state document and what lies beside it are stored, out of the connector's reach.

    `document` is STATE or the name of another document, without a path. Missing, corrupt and forbidden are three
    different things: a missing document is `Blob()`, a forbidden one raises Denied; whether it is corrupt is not the
    store's to say.
    """

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Read a document, but no more than `limit` bytes. Raises Denied, Transient."""
        ...

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        """Write a document if it still has `version` (None: if it does not exist) and return the new version.

        Raises Conflict if not, Denied, Transient.
        """
        ...

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by the store's own clock; None where it does not say.

        Both moments come from one answer of the store: no clock of any host that writes is part of it. Raises
        CloudError.
        """
        ...

    def set_aside(self, suffix: str, document: str = STATE) -> str:
        """Keep a copy of a document under another name that holds `suffix`; return that name."""
        ...

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document beside the state, whatever lies there, and return where. Raises CloudError."""
        ...

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write a run's whole report under ``runs/`` and return where."""
        ...

    def report(self, run_id: str) -> bytes:
        """Return a run's whole report. Raises NotFound where it is not stored, Denied, Transient."""
        ...

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports of the run `since` and later ones, oldest first.

        A run's id begins with its time (``20260105T000000Z``), so that the beginning of one is a bound too. Without a
        store there are none. Raises Denied, Transient.
        """
        ...
