"""The call log of the local Azure."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import NamedTuple

from localcloud.common import call_log


class Call(NamedTuple):
    """`at`: seconds on the local clock. `app`: object id of a known caller, else `app-` and a digest of its token."""

    at: float
    app: str
    method: str
    action: str
    resource: str
    status: int


class CallLog(call_log.CallLog[Call]):
    """Calls by action; `action` is spelled as in a role definition and takes `*` wildcards."""

    def __init__(self) -> None:
        super().__init__()
        self._linked: set[tuple[str, str]] = set()

    def link(self, app: str, action: str) -> None:
        """Note that a call needed a further action, on another resource that it names."""
        with self._lock:
            self._linked.add((app, action))

    def select(self, action: str = "*", app: str | None = None, status: int | None = None) -> list[Call]:
        """Return the calls that match; wildcards and no regard to case in `action`."""
        pattern = action.lower()
        return [
            call
            for call in self
            if fnmatchcase(call.action.lower(), pattern) and app in (None, call.app) and status in (None, call.status)
        ]

    def count(self, action: str = "*", app: str | None = None, status: int | None = None) -> int:
        return len(self.select(action, app, status))

    def actions(self, app: str | None = None) -> set[str]:
        """Return the actions that were required, named as in role definitions, with those on linked resources."""
        with self._lock:
            linked = {action for whose, action in self._linked if app in (None, whose)}
        return linked | {call.action for call in self if app in (None, call.app)}

    def by_action(self) -> dict[str, int]:
        """Return how often each action was called."""
        return self._counted(lambda call: call.action)

    def peak(
        self, action: str = "*", window_s: float = 60.0, app: str | None = None, resource: str | None = None
    ) -> int:
        """Return the most matching calls in any span of `window_s` seconds; `resource` is compared as a prefix."""
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
        """Remove all calls and links."""
        super().clear()
        with self._lock:
            self._linked.clear()
