"""The port for the state blob: compare-and-swap on every cloud."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

import msgspec


class Blob(msgspec.Struct, frozen=True):
    """The state as it lies in the store.

    `version` is the store's token for compare-and-swap (None: there is no blob). `size` is the length in bytes;
    `data` is empty where that exceeds the limit given to `load`.
    """

    data: bytes = b""
    version: str | None = None
    size: int = 0


class Conflict(Exception):
    """Somebody else wrote the blob since it was loaded."""


class StateStore(Protocol):
    """Where the state blob, what was set aside, and the reports lie.

    Missing, corrupt and forbidden are three different things: a missing blob is `Blob()`, a forbidden one raises
    Denied; whether it is corrupt is not the store's to say.
    """

    def load(self, limit: int) -> Blob:
        """Read the blob, but no more than `limit` bytes. Raises Denied, Transient."""
        ...

    def save(self, data: bytes, version: str | None) -> str:
        """Write the blob if it still has `version` (None: if there is none) and return the new version.

        Raises Conflict if not, Denied, Transient.
        """
        ...

    def age(self) -> timedelta | None:
        """Return how long ago the present blob was written, by the store's own clock; None where it does not say.

        Both moments come from one answer of the store: no clock of any host that writes is part of it. Raises
        CloudError.
        """
        ...

    def set_aside(self, suffix: str) -> str:
        """Keep a copy of the present blob under another name that ends in `suffix`; return that name."""
        ...

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write a run's whole report under ``runs/`` and return where."""
        ...
