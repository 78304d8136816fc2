"""The call log of the local GCP."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from localcloud.common import call_log


@dataclass(frozen=True)
class Call:
    """One answered request: the caller, the method, and every (permission, resource) that it required.

    `method` is spelled as in Google's discovery documents (``bigquery.tables.get``); `error` is the reason of the
    error response, or None.
    """

    at: datetime
    identity: str
    method: str
    path: str
    rights: tuple[tuple[str, str], ...]
    status: int
    error: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the call as plain JSON values."""
        return asdict(self) | {"at": self.at.isoformat()}


class CallLog(call_log.CallLog[Call]):
    """Calls by method and identity."""

    def select(self, method: str | None = None, identity: str | None = None) -> list[Call]:
        """Return the calls of a method, or of all methods with that prefix if it ends in a dot."""
        return [
            call
            for call in self
            if (method is None or call.method == method or (method.endswith(".") and call.method.startswith(method)))
            and identity in (None, call.identity)
        ]

    def count(self, method: str | None = None, identity: str | None = None) -> int:
        """Return the number of calls that `select` returns."""
        return len(self.select(method, identity))

    def by_method(self) -> dict[str, int]:
        """Return how often each method was called."""
        return self._counted(lambda call: call.method)

    def permissions(self) -> set[str]:
        """Return every permission that the calls so far required."""
        return {permission for call in self for permission, _ in call.rights}
