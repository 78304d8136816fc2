"""Events that AWS services send, directly or through CloudTrail: they may be late, repeated, out of order or lost.

Services deliver events to EventBridge "on a best effort basis" or durably, at least once; CloudTrail events arrive
minutes after the call. Source: "Event delivery level" in the EventBridge Events Reference. Here they arrive
immediately, unless `disturbance` is set.
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

API_CALL = "AWS API Call via CloudTrail"
SERVICE_EVENT = "AWS Service Event via CloudTrail"


@dataclass(frozen=True)
class Disturbance:
    """Events arrive `delay_s` late (on the local clock) and `copies` times, or never if `lose` is set.

    With `reverse`, they are held until the next `release`, which delivers the newest first.
    """

    delay_s: float = 0
    copies: int = 1
    reverse: bool = False
    lose: bool = False


class ServiceEvents:
    """Sends the events of services to the buses. Thread-safe."""

    def __init__(self, clock: Clock, buses: EventBuses) -> None:
        self._clock = clock
        self._buses = buses
        self._lock = threading.RLock()
        self._held: list[tuple[datetime, Where, dict[str, Any]]] = []
        self.disturbance = Disturbance()
        self.lost = 0

    # difference: AWS-2
    def send(self, where: Where, source: str, kind: str, detail: dict[str, Any]) -> None:
        """Send an event of a service in an account and region."""
        disturbance = self.disturbance
        if disturbance.lose:
            self.lost += 1
            return
        event = self._buses.event(where, source, kind, detail)
        due = self._clock.now() + timedelta(seconds=disturbance.delay_s)
        with self._lock:
            self._held += [(due, where, event)] * disturbance.copies
        if not disturbance.reverse:
            self.release()

    def release(self) -> int:
        """Deliver the events that are due, and return how many are still held."""
        now = self._clock.now()
        with self._lock:
            due = [held for held in self._held if held[0] <= now]
            self._held = [held for held in self._held if held[0] > now]
            for _, where, event in reversed(due) if self.disturbance.reverse else due:
                self._buses.route(where, event)
            return len(self._held)

    def cloudtrail_record(self, account: str, region: str, source: str, name: str, **fields: Any) -> dict[str, Any]:
        """Return a CloudTrail record without the caller's identity; `source` is ``aws.NAME``."""
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
