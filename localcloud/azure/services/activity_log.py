"""The activity log, and its copies in the Log Analytics workspaces that it is sent to.

Every create, update, delete and action through Resource Manager is logged; reads are not ("Azure Activity Log event
schema"). Entries can be queried after 3 to 20 minutes ("Log data ingestion time in Azure Monitor").
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

KEPT = 200_000  # entries; the real log has a retention of 90 days


@dataclass(frozen=True, slots=True)
class Entry:
    """A log entry: a change made `at`, which queries find from `shown_at` on. `resource` is in lowercase."""

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
    """The activity log. `workspaces` are the lowercase resource IDs of the workspaces that receive all entries.

    `delay_s` is the minimum and maximum delay until a query finds an entry, `lost` the fraction of entries that never
    arrive, and `repeats` the number of times that each is stored.
    """

    workspaces: set[str] = field(default_factory=set)
    delay_s: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    repeats: int = 1
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def add(self, now: datetime, operation: str, resource: str, caller: str, status: str = "Success") -> None:
        """Write an entry with the configured delay, loss and repetition."""
        if not self.workspaces or (self.lost and self._random.random() < self.lost):
            return
        shown = now + timedelta(seconds=self._random.uniform(*self.delay_s))
        entry = Entry(now, shown, operation, resource.lower().rstrip("/"), caller, status)
        self.entries.extend([entry] * self.repeats)

    def found(self, workspace: str, since: datetime, now: datetime) -> Iterator[Entry]:
        """Yield the entries of a workspace from `since` on that a query finds at `now`, oldest first."""
        if workspace.lower() not in self.workspaces:
            return
        for entry in self.entries:
            if entry.at >= since and entry.shown_at <= now:
                yield entry
