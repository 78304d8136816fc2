"""The activity log, and its copies in the Log Analytics workspaces that it is sent to.

Every create, update, delete and action through Resource Manager is logged; reads are not ("Azure Activity Log event
schema"). Entries can be queried after 3 to 20 minutes ("Log data ingestion time in Azure Monitor").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from localcloud.common.event_faults import EventArrivals

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

    `arrivals` decides when queries find each entry, and how often.
    """

    arrivals: EventArrivals
    workspaces: set[str] = field(default_factory=set)
    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, now: datetime, operation: str, resource: str, caller: str, status: str = "Success") -> None:
        """Write an entry, unless no workspace receives it."""
        if self.workspaces:
            for delay in self.arrivals.delays():
                shown = now + timedelta(seconds=delay)
                self.entries.append(Entry(now, shown, operation, resource.lower().rstrip("/"), caller, status))

    def found(self, workspace: str, since: datetime, now: datetime) -> Iterator[Entry]:
        """Yield the entries of a workspace from `since` on that a query finds at `now`, oldest first."""
        if workspace.lower() not in self.workspaces:
            return
        for entry in self.entries:
            if entry.at >= since and entry.shown_at <= now:
                yield entry
