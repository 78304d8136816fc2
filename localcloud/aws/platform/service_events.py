"""Events that AWS services send, directly or through CloudTrail: they may be late, repeated, out of order or lost.

Services deliver events to EventBridge "on a best effort basis" or durably, at least once; CloudTrail events arrive
minutes after the call. Source: "Event delivery level" in the EventBridge Events Reference. Here they arrive
immediately, unless the event faults say otherwise.
"""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from localcloud.aws.arns import Where
from localcloud.aws.platform.event_buses import EventBuses
from localcloud.common.event_faults import EventArrivals
from shared.runtime.clock import Clock

API_CALL = "AWS API Call via CloudTrail"
SERVICE_EVENT = "AWS Service Event via CloudTrail"


class ServiceEvents:
    """Sends the events of services to the buses. Thread-safe."""

    def __init__(self, clock: Clock, buses: EventBuses, arrivals: EventArrivals) -> None:
        self._clock = clock
        self._buses = buses
        self._arrivals = arrivals
        self._lock = threading.RLock()
        self._held: list[tuple[datetime, Where, dict[str, Any]]] = []

    # difference: AWS-2
    def send(self, where: Where, source: str, kind: str, detail: dict[str, Any]) -> None:
        """Send an event of a service in an account and region."""
        event, now = self._buses.event(where, source, kind, detail), self._clock.now()
        with self._lock:
            self._held += [(now + timedelta(seconds=delay), where, event) for delay in self._arrivals.delays()]
        self.release()

    def release(self) -> int:
        """Deliver the events that are due, and return their number."""
        now = self._clock.now()
        with self._lock:
            due = sorted((held for held in self._held if held[0] <= now), key=itemgetter(0))
            self._held = [held for held in self._held if held[0] > now]
            for _, where, event in due:
                self._buses.route(where, event)
            return len(due)

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
