"""Pub/Sub's push: each message of a push subscription becomes a request to the function's address.

Source: "Push subscriptions", "Authentication for push subscriptions" and "Subscription retry policy" (Pub/Sub).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from localcloud.gcp.services.pubsub import Message, Subscription
from localcloud.gcp.state import World
from shared.runtime.clock import SystemClock

_ACKNOWLEDGING = frozenset({102, 200, 201, 202, 204})
_POLL_S = 1.0

# Called with a request body and the sender's identity; returns the response status.
Push = Callable[[bytes, str], int]


class EventDelivery:
    """Pushes due messages: in a thread if the clock is the machine's, otherwise whenever `deliver` is called."""

    def __init__(self, world: World, push: Push) -> None:
        self._world = world
        self._push = push
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start pushing in a thread if the local cloud uses the machine's clock."""
        if isinstance(self._world.clock, SystemClock):
            self._thread = threading.Thread(target=self._poll, name="pubsub-push", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop pushing and wait for the request in progress."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def deliver(self) -> list[int]:
        """Push every due message once and return the statuses of the function's responses."""
        with self._world.lock:
            due = [
                (one, message)
                for one in self._world.pubsub.subscriptions.values()
                if one.push
                for message in self._world.pubsub.due(one)
            ]
        return [self._send(subscription, message) for subscription, message in due if not self._ended.is_set()]

    def _poll(self) -> None:
        while not self._ended.wait(_POLL_S):
            self.deliver()

    # difference: GCP-22
    def _send(self, subscription: Subscription, message: Message) -> int:
        document = {"message": message.as_json(), "subscription": subscription.name}
        status = self._push(json.dumps(document).encode(), subscription.identity)
        with self._world.lock:
            if status in _ACKNOWLEDGING:
                subscription.messages = [one for one in subscription.messages if one is not message]
            else:
                self._world.pubsub.retry_later(message)
        return status
