"""The port for the stored documents: compare-and-swap on every cloud."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """A stored document.

    `version` is the store's token for compare-and-swap (None: the blob does not exist). `size` is the length in bytes;
    `data` is empty where that exceeds the limit given to `load`.
    """

    data: bytes = b""
    version: str | None = None
    size: int = 0


class Conflict(Exception):
    """The blob was written by another process since it was loaded."""


REPORTS = "runs/"
STATE = ""  # the state document, whose name depends on the cloud; other documents have their given names
HTML, JSON, BINARY = "text/html; charset=utf-8", "application/json", "application/octet-stream"  # content types


def report_name(run_id: str) -> str:
    """Return the name under which the report of a run is stored."""
    return f"{REPORTS}{run_id}.json"


def run_ids(names: Iterable[str], since: str) -> list[str]:
    """Return the ids of the runs whose reports have these names, from `since` on, oldest first."""
    found = (name.removeprefix(REPORTS).removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(run_id for run_id in found if run_id >= since and "/" not in run_id)


def aside_name(document: str, damaged: Blob) -> str:
    """Return the name under which a damaged document is kept: however many runs find it, it has one copy.

    The name holds a digest of the content, or of the version where the content was too large to be read.
    """
    digest = hashlib.sha256(damaged.data or (damaged.version or "").encode()).hexdigest()[:16]
    stem, dot, ending = document.rpartition(".")
    return f"{stem}.corrupt-{digest}{dot}{ending}"


class StateStore(Protocol):
    """Stores the state document and the documents beside it, where the connector has no access.

    `document` is STATE or the name of another document, without a path. Missing, corrupt and forbidden documents are
    distinguished: a missing one is `Blob()`, a forbidden one raises Denied; the store does not check for corruption.
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
        """Return how long ago the state was written, by the store's own clock; None if it does not say.

        Both times come from one response of the store: no clock of a writing host is involved. Raises
        CloudError.
        """
        ...

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        """Keep what `load` returned of a document under its `aside_name`, which is returned. Raises CloudError.

        Another run may have rebuilt the document since, so what was read is written. Only a document that is empty or
        exceeds the limit is copied as it is now.
        """
        ...

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document beside the state, replacing any existing one, and return its location. Raises CloudError."""
        ...

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write a run's whole report under ``runs/`` and return its location."""
        ...

    def report(self, run_id: str) -> bytes:
        """Return a run's whole report. Raises NotFound if it is not stored, Denied, Transient."""
        ...

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports of the run `since` and later ones, oldest first.

        A run's id begins with its time (``20260105T000000Z``), so that a prefix of an id is a valid bound too. Returns
        none if the store does not exist. Raises Denied, Transient.
        """
        ...
