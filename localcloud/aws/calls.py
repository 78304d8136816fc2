"""The log of every call the local cloud has answered."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Call:
    """One answered request. `actions` are the IAM actions it needs, `error` the code it was refused with, if any."""

    at: datetime
    account: str
    service: str
    operation: str
    resource: str
    actions: tuple[str, ...]
    status: int
    error: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"at": self.at.isoformat(), "actions": list(self.actions)}


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

    def select(
        self, service: str | None = None, operation: str | None = None, account: str | None = None
    ) -> list[Call]:
        with self._lock:
            calls = list(self._calls)
        return [
            call
            for call in calls
            if (service is None or call.service == service)
            and (operation is None or call.operation == operation)
            and (account is None or call.account == account)
        ]

    def count(self, service: str | None = None, operation: str | None = None, account: str | None = None) -> int:
        return len(self.select(service, operation, account))

    def by_operation(self) -> dict[str, int]:
        """How often each `service:Operation` was called, failed calls included."""
        return dict(sorted(Counter(f"{call.service}:{call.operation}" for call in self.select()).items()))

    def actions(self) -> set[str]:
        """Every IAM action that the calls so far needed."""
        return {action for call in self.select() for action in call.actions}
