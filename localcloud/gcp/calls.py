"""The log of every call the local cloud has answered."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Call:
    """One answered request: who called which method, and every (permission, resource) that it needed.

    `method` is spelled as in Google's discovery documents (``bigquery.tables.get``); `error` is the reason of a
    refusal, or None.
    """

    at: datetime
    identity: str
    method: str
    path: str
    rights: tuple[tuple[str, str], ...]
    status: int
    error: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"at": self.at.isoformat()}


class CallLog:
    """Keeps calls in the order they were answered, for counting and for proofs of least privilege."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def select(self, method: str | None = None, identity: str | None = None) -> list[Call]:
        """Return the calls of a method (or of all that begin with it, if it ends in a dot)."""
        with self._lock:
            calls = list(self._calls)
        return [
            call
            for call in calls
            if (method is None or call.method == method or (method.endswith(".") and call.method.startswith(method)))
            and (identity is None or call.identity == identity)
        ]

    def count(self, method: str | None = None, identity: str | None = None) -> int:
        return len(self.select(method, identity))

    def by_method(self) -> dict[str, int]:
        """Return how often each method was called, failed calls included."""
        return dict(sorted(Counter(call.method for call in self.select()).items()))

    def permissions(self) -> set[str]:
        """Return every permission that the calls so far needed."""
        return {permission for call in self.select() for permission, _ in call.rights}
