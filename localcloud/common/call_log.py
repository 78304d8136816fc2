"""The call log of the local clouds: every answered request, for counting and for proofs of least privilege."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class CallLog(Generic[C]):
    """Calls in the order of their answers. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[C] = []

    def add(self, call: C) -> None:
        """Append a call."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Remove all calls."""
        with self._lock:
            self._calls.clear()

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[C]:
        with self._lock:
            return iter(list(self._calls))

    def _counted(self, name: Callable[[C], str]) -> dict[str, int]:
        """Return how often each name was called, sorted by name; refused calls count too."""
        return dict(sorted(Counter(map(name, self)).items()))
