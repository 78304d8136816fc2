"""A cloud's clients, kept between the invocations of one process."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What holds pooled connections."""

    def close(self) -> None:
        """Close the pooled connections."""
        ...


C = TypeVar("C", bound=Closable)


class WarmClients(Generic[C]):
    """Keeps the clients that were built last, as long as settings and credentials stay the same."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, C] | None = None

    def get(self, key: Hashable, build: Callable[[], C]) -> C:
        """Return the kept clients if they were built for an equal `key`; otherwise close them and build new ones."""
        if self._kept is None or self._kept[0] != key:
            self.drop()
            self._kept = (key, build())
        return self._kept[1]

    def drop(self) -> None:
        """Close and forget the kept clients."""
        if self._kept is not None:
            self._kept[1].close()
        self._kept = None
