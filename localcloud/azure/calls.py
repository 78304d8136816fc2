"""The call log of the local Azure."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import NamedTuple

from localcloud.common import call_log


class Call(NamedTuple):
    """One logged call.

    `at` is in seconds on the local clock. `app` is the object ID of a known caller, otherwise `app-` and a digest of
    its token.
    """

    at: float
    app: str
    method: str
    action: str
    resource: str
    status: int


class CallLog(call_log.CallLog[Call]):
    """The logged calls; `action` is written as in a role definition and can contain `*` wildcards."""

    def __init__(self) -> None:
        super().__init__()
        self._linked: set[tuple[str, str]] = set()

    def link(self, app: str, action: str) -> None:
        """Record that a call also required `action` on another resource that it referenced."""
        with self._lock:
            self._linked.add((app, action))

    def select(self, action: str = "*", app: str | None = None, status: int | None = None) -> list[Call]:
        """Return the matching calls; `action` can contain wildcards and is case-insensitive."""
        pattern = action.lower()
        return [
            call
            for call in self
            if fnmatchcase(call.action.lower(), pattern) and app in (None, call.app) and status in (None, call.status)
        ]

    def count(self, action: str = "*", app: str | None = None, status: int | None = None) -> int:
        return len(self.select(action, app, status))

    def actions(self, app: str | None = None) -> set[str]:
        """Return the required actions as named in role definitions, including those on linked resources."""
        with self._lock:
            linked = {action for caller, action in self._linked if app in (None, caller)}
        return linked | {call.action for call in self if app in (None, call.app)}

    def by_action(self) -> dict[str, int]:
        """Return the number of calls per action."""
        return self._counted(lambda call: call.action)

    def peak(
        self, action: str = "*", window_s: float = 60.0, app: str | None = None, resource: str | None = None
    ) -> int:
        """Return the maximum number of matching calls in any `window_s` seconds; `resource` is a prefix."""
        window: deque[float] = deque()
        peak = 0
        for at in sorted(c.at for c in self.select(action, app) if not resource or c.resource.startswith(resource)):
            window.append(at)
            # Allow for floating-point error in times that are exactly one window apart.
            while at - window[0] >= window_s - 1e-6:
                window.popleft()
            peak = max(peak, len(window))
        return peak

    def clear(self) -> None:
        """Remove all calls and links."""
        super().clear()
        with self._lock:
            self._linked.clear()
