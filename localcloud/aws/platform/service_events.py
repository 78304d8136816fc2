"""Events that AWS's services send: through CloudTrail or themselves, late, twice, out of order or never.

Services deliver events to EventBridge "on a best effort basis" or durably, at least once, and CloudTrail's come minutes
after the call. Source: "Event delivery level" in the EventBridge Events Reference. Here they come at once, unless
`disturb` says otherwise.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.event_buses import EventBuses
from shared.runtime.clock import Clock

CALL = "AWS API Call via CloudTrail"
OF_SERVICE = "AWS Service Event via CloudTrail"


@dataclass(frozen=True)
class Disturbance:
    """How events arrive: `delay_s` late (on the local clock), each `copies` times, newest first, or not at all.

    With `reverse`, events are kept until the next `release`.
    """

    delay_s: float = 0
    copies: int = 1
    reverse: bool = False
    lose: bool = False


class ServiceEvents:
    """Puts services' events on the buses; safe for threads."""

    def __init__(self, clock: Clock, buses: EventBuses) -> None:
        self._clock = clock
        self._buses = buses
        self._lock = threading.RLock()
        self._held: list[tuple[datetime, Where, dict[str, Any]]] = []
        self.disturbance = Disturbance()
        self.lost = 0

    # difference: AWS-2
    def send(self, where: Where, source: str, kind: str, detail: dict[str, Any]) -> None:
        """Send an event from a service in `where`."""
        how = self.disturbance
        if how.lose:
            self.lost += 1
            return
        event = self._buses.event(where, source, kind, detail)
        due = self._clock.now() + timedelta(seconds=how.delay_s)
        with self._lock:
            self._held += [(due, where, event)] * how.copies
        if not how.reverse:
            self.release()

    def release(self) -> int:
        """Deliver the events that are due, and return how many are still held."""
        now = self._clock.now()
        with self._lock:
            due = [one for one in self._held if one[0] <= now]
            self._held = [one for one in self._held if one[0] > now]
            for _, where, event in reversed(due) if self.disturbance.reverse else due:
                self._buses.route(where, event)
            return len(self._held)

    def trail(self, account: str, region: str, source: str, name: str, **fields: Any) -> dict[str, Any]:
        """Return a record of CloudTrail without who called; `source` is ``aws.NAME``."""
        return {
            "eventVersion": "1.11",
            "userIdentity": {"accountId": account},
            "eventTime": f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}",
            "eventSource": f"{source.removeprefix('aws.')}.amazonaws.com",
            "eventName": name,
            "awsRegion": region,
            "requestParameters": None,
            "responseElements": None,
            "eventID": str(uuid.uuid4()),
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            **fields,
        }

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self.disturbance), "held": len(self._held), "lost": self.lost}
