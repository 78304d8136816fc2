"""Every request that was answered: for counting, and for proving which rights a program uses."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple


class Call(NamedTuple):
    """`at`: seconds on the local clock. `app`: object id of a known caller, else `app-` and a digest of its token."""

    at: float
    app: str
    method: str
    action: str
    resource: str
    status: int


class CallLog:
    """Calls in the order of their answers; `action` is spelled as in a role definition and takes `*` wildcards."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._linked: set[tuple[str, str]] = set()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def link(self, app: str, action: str) -> None:
        """Note that a call needed a further action, on another resource that it names."""
        with self._lock:
            self._linked.add((app, action))

    def __len__(self) -> int:
        with self._lock:
            return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        with self._lock:
            return iter(list(self._calls))

    def select(self, action: str = "*", app: str | None = None, status: int | None = None) -> list[Call]:
        """The calls that match; wildcards and no regard to case in `action`."""
        pattern = action.lower()
        return [
            call
            for call in self
            if fnmatchcase(call.action.lower(), pattern) and app in (None, call.app) and status in (None, call.status)
        ]

    def count(self, action: str = "*", app: str | None = None, status: int | None = None) -> int:
        return len(self.select(action, app, status))

    def actions(self, app: str | None = None) -> set[str]:
        """The actions that were asked for, as a role definition would name them; those on linked resources too."""
        with self._lock:
            linked = {action for whose, action in self._linked if app in (None, whose)}
        return linked | {call.action for call in self if app in (None, call.app)}

    def by_action(self) -> dict[str, int]:
        return dict(sorted(Counter(call.action for call in self).items()))

    def peak(
        self, action: str = "*", window_s: float = 60.0, app: str | None = None, resource: str | None = None
    ) -> int:
        """The most matching calls in any span of `window_s` seconds; `resource` is compared as a prefix."""
        inside: deque[float] = deque()
        most = 0
        for at in sorted(c.at for c in self.select(action, app) if not resource or c.resource.startswith(resource)):
            inside.append(at)
            # Moments that are a window apart may differ from it by the last bits of a float.
            while at - inside[0] >= window_s - 1e-6:
                inside.popleft()
            most = max(most, len(inside))
        return most

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()
            self._linked.clear()
