"""The Pub/Sub topic on which deliveries are published.

A message is a CloudEvent in structured mode: its data is the event as JSON, and its attributes repeat what
subscriptions filter by. A subscription with message ordering gets the messages of one ordering key in the order in
which they were published, as long as that was in one region. Sources: "Google Cloud Pub/Sub Protocol Binding for
CloudEvents"; "Order messages", "Filter messages from a subscription", and "Resource limits" (Pub/Sub).
"""

from __future__ import annotations

import base64

import msgspec

from gcp_function.clients import Clients
from shared.errors import Denied, NotFound
from shared.notify.formats import CLOUD_EVENT
from shared.runtime.context import RunContext

QUOTA = "pubsub"
REMEDY = "Apply the deployment again: it owns the topic and the function's permission to publish on it."


class DeliveryTopic:
    """A Topic: publishes on one Pub/Sub topic, given by its full name."""

    def __init__(self, name: str, clients: Clients, run: RunContext) -> None:
        self._name = name
        self._clients = clients
        self._run = run

    def publish(self, event: bytes, event_id: str, key: str) -> None:
        """Publish a CloudEvent in JSON, with `key` as the ordering key. Raises CloudError."""
        head = msgspec.json.decode(event, type=_Head)
        attributes = {f"ce-{name}": str(value) for name, value in msgspec.structs.asdict(head).items()}
        message = {
            "data": base64.b64encode(event).decode("ascii"),
            "attributes": {**attributes, "ce-id": event_id, "content-type": CLOUD_EVENT},
            "orderingKey": key,
        }
        try:
            self._run.calls(QUOTA, self._clients.post, QUOTA, f"v1/{self._name}:publish", {"messages": [message]})
        except (Denied, NotFound) as error:
            what = f"deliveries cannot be published on {self._name}: {error.message}"
            raise type(error)(error.code, what, error.remedy or REMEDY) from error


class _Head(msgspec.Struct, frozen=True):
    """The context attributes of a CloudEvent, as text."""

    specversion: str
    type: str
    source: str
    subject: str
    time: str
