"""The call log of the local clouds: every answered request, for counts and for least-privilege checks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

C = TypeVar("C")


class CallLog(Generic[C]):
    """Calls in the order in which they were answered. Thread-safe."""

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
        """Return the number of calls per name, sorted by name, including refused calls."""
        return dict(sorted(Counter(map(name, self)).items()))
