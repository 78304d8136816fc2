"""A cloud's clients, kept between the invocations of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What holds pooled connections."""

    def close(self) -> None:
        """Close the pooled connections."""
        ...


C = TypeVar("C", bound=Closable)


class WarmClients(Generic[C]):
    """Keeps the `most` sets of clients that were used last, as long as settings and credentials stay the same.

    Safe to use from several threads: no caller ever gets clients that were built for another key.
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: dict[Hashable, C] = {}  # the one used last is the last one

    def get(self, key: Hashable, build: Callable[[], C]) -> C:
        """Return the kept clients that were built for an equal `key`, else build new ones and close the oldest."""
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                while len(self._kept) >= self._most:
                    self._kept.pop(next(iter(self._kept))).close()
                found = build()
            self._kept[key] = found
            return found

    def drop(self) -> None:
        """Close and forget all kept clients."""
        with self._lock:
            for one in self._kept.values():
                one.close()
            self._kept.clear()
