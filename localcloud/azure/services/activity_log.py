"""The activity log, and its copy in the Log Analytics workspaces that it is sent to.

Every create, update, delete and action through Resource Manager has an entry, reads have none ("Azure Activity Log
event schema"). Entries can be queried 3 to 20 minutes later ("Log data ingestion time in Azure Monitor").
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

KEPT = 200_000  # entries; the real log keeps those of 90 days


@dataclass(frozen=True, slots=True)
class Entry:
    """`at` is when the change was made, `shown_at` from when a query finds it. `resource` is in lower case."""

    at: datetime
    shown_at: datetime
    operation: str
    resource: str
    caller: str
    status: str = "Success"

    @property
    def subscription(self) -> str:
        parts = self.resource.split("/", 3)
        return parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else ""


@dataclass
class ActivityLog:
    """`workspaces` are the resource ids, in lower case, of the workspaces that all entries are sent to.

    `delay_s` is the least and the longest time until a query finds an entry, `lost` the share of entries that never
    arrive, `repeats` how often each is stored.
    """

    workspaces: set[str] = field(default_factory=set)
    delay_s: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    repeats: int = 1
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def add(self, now: datetime, operation: str, resource: str, caller: str, status: str = "Success") -> None:
        """Write an entry, as late and as often as the flags say."""
        if not self.workspaces or (self.lost and self._random.random() < self.lost):
            return
        shown = now + timedelta(seconds=self._random.uniform(*self.delay_s))
        entry = Entry(now, shown, operation, resource.lower().rstrip("/"), caller, status)
        self.entries.extend([entry] * self.repeats)

    def found(self, workspace: str, since: datetime, now: datetime) -> Iterator[Entry]:
        """Yield the entries of a workspace from `since` on that a query finds now, in the order they were made."""
        if workspace.lower() not in self.workspaces:
            return
        for entry in self.entries:
            if entry.at >= since and entry.shown_at <= now:
                yield entry
