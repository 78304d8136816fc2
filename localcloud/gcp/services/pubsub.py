"""Pub/Sub: topics, subscriptions, and their undelivered messages.

Delivery is at least once; it is unordered, unless a subscription orders the messages of each key. The event faults set
when and how often messages arrive. Sources: "Order messages", "Overview of the
Pub/Sub service", "Lease management", "Subscription retry policy" and "Push subscriptions" (Pub/Sub).
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from localcloud.common.event_faults import EventArrivals
from localcloud.gcp.errors import GoogleError
from shared.runtime.clock import Clock

MOST = 1000  # messages per pull
_SHORTEST, _LONGEST = timedelta(seconds=10), timedelta(seconds=600)  # the retry policy's own defaults


@dataclass
class Message:
    """One message in one subscription; `due` is the next delivery time, `tries` the number of deliveries so far."""

    id: str
    data: bytes
    published: datetime
    due: datetime
    tries: int = 0
    ack_id: str = ""
    key: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the message as a ``PubsubMessage``."""
        document: dict[str, Any] = {
            "data": base64.b64encode(self.data).decode(),
            "messageId": self.id,
            "publishTime": f"{self.published:%Y-%m-%dT%H:%M:%SZ}",
        }
        if self.attributes:
            document["attributes"] = dict(self.attributes)
        return document | ({"orderingKey": self.key} if self.key else {})


@dataclass
class Subscription:
    """A subscription to a topic; with `push`, its messages are sent to that address; otherwise they are pulled.

    With `ordered`, a message waits until the earlier ones with the same key are acknowledged.
    """

    name: str
    topic: str
    push: str = ""
    identity: str = ""
    ack_deadline: timedelta = timedelta(seconds=600)
    retention: timedelta = timedelta(days=7)
    ordered: bool = False
    messages: list[Message] = field(default_factory=list)


class PubSub:
    """All topics and subscriptions. The caller holds the local cloud's lock."""

    def __init__(self, clock: Clock, arrivals: EventArrivals) -> None:
        self._clock = clock
        self._arrivals = arrivals
        self._number = itertools.count(1)
        self.topics: set[str] = set()
        self.subscriptions: dict[str, Subscription] = {}
        self.published = 0

    def publish(self, topic: str, data: bytes, key: str = "", attributes: Mapping[str, str] | None = None) -> str:
        """Put a message into every subscription of a topic; return its id. Raises GoogleError 404."""
        if topic not in self.topics:
            raise GoogleError(404, "notFound", f"Resource not found (resource={topic.rpartition('/')[2]}).")
        now, number = self._clock.now(), next(self._number)
        delays = self._arrivals.delays()
        self.published += bool(delays)
        for one in self.subscriptions.values():
            if one.topic == topic:
                due = [now + timedelta(seconds=delay) for delay in delays]
                one.messages += [
                    Message(f"{number:016d}", data, now, at, key=key, attributes=dict(attributes or {})) for at in due
                ]
        return f"{number:016d}"

    def pull(self, name: str, most: int) -> list[Message]:
        """Lease the messages that are due. Raises GoogleError 404, and 400 for a subscription that pushes."""
        found = self.find(name)
        if found.push:
            raise GoogleError(400, "failedPrecondition", "This subscription has a push endpoint.")
        due = self.due(found)[: min(most, MOST)]
        for message in due:
            message.tries += 1
            message.due = self._clock.now() + found.ack_deadline
            message.ack_id = f"{name.rpartition('/')[2]}:{message.id}:{message.tries}:{id(message)}"
        return due

    def due(self, subscription: Subscription) -> list[Message]:
        """Return the messages that may be delivered now; those that are too old are dropped."""
        now = self._clock.now()
        kept = [one for one in subscription.messages if now - one.published < subscription.retention]
        subscription.messages = kept
        if not subscription.ordered:
            return sorted((one for one in kept if one.due <= now), key=attrgetter("due"))
        found, blocked = [], set[str]()
        for one in kept:
            if one.due <= now and one.key not in blocked:
                found.append(one)
            elif one.key:
                blocked.add(one.key)
        return found

    def acknowledge(self, name: str, ack_ids: set[str]) -> None:
        """Drop acknowledged messages. An expired id is ignored, so its message is redelivered."""
        found, now = self.find(name), self._clock.now()
        found.messages = [one for one in found.messages if one.ack_id not in ack_ids or one.due <= now]

    def modify(self, name: str, ack_ids: set[str], seconds: int) -> None:
        """Set the remaining lease of messages; zero returns them for redelivery."""
        for message in self.find(name).messages:
            if message.ack_id in ack_ids:
                message.due = self._clock.now() + timedelta(seconds=seconds)

    def retry_later(self, message: Message) -> None:
        """Schedule the retry of a failed push; the delay doubles with each try."""
        message.tries += 1
        wait = min(_LONGEST, _SHORTEST * 2 ** min(message.tries - 1, 10))
        message.due = self._clock.now() + wait

    def find(self, name: str) -> Subscription:
        """Return a subscription. Raises GoogleError 404."""
        found = self.subscriptions.get(name)
        if found is None:
            raise GoogleError(404, "notFound", f"Resource not found (resource={name.rpartition('/')[2]}).")
        return found
