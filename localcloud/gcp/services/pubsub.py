"""Pub/Sub: topics, subscriptions, and their undelivered messages.

Delivery is at least once and unordered, as Google documents; the event faults set both. Sources: "Overview of the
Pub/Sub service", "Lease management", "Subscription retry policy" and "Push subscriptions" (Pub/Sub).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter

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


@dataclass
class Subscription:
    """A subscription to a topic; with `push`, its messages are sent to that address; otherwise they are pulled."""

    name: str
    topic: str
    push: str = ""
    identity: str = ""
    ack_deadline: timedelta = timedelta(seconds=600)
    retention: timedelta = timedelta(days=7)
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

    def publish(self, topic: str, data: bytes) -> None:
        """Put a message into every subscription of a topic. Raises GoogleError 404."""
        if topic not in self.topics:
            raise GoogleError(404, "notFound", f"Resource not found (resource={topic.rpartition('/')[2]}).")
        now, number = self._clock.now(), next(self._number)
        delays = self._arrivals.delays()
        self.published += bool(delays)
        for one in self.subscriptions.values():
            if one.topic == topic:
                due = [now + timedelta(seconds=delay) for delay in delays]
                one.messages += [Message(f"{number:016d}", data, now, at) for at in due]

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
        return sorted((one for one in kept if one.due <= now), key=attrgetter("due"))

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
