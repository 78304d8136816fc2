"""The Pub/Sub methods with which the function pulls and publishes, readers subscribe, and a deployment finds both."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.services.pubsub import MOST, Subscription

CONSUME = "pubsub.subscriptions.consume"
PUBLISH = "pubsub.topics.publish"
_DENIED = "User not authorized to perform this action."
_LONGEST_LEASE = 600
_LARGEST_MESSAGE, _MOST_ATTRIBUTES, _LONGEST_NAME, _LONGEST_VALUE = 10 * 1024 * 1024, 100, 256, 1024


class PubSubApi:
    """Get and publish of topics, and get, create, pull, acknowledge and modifyAckDeadline of subscriptions."""

    def __init__(self) -> None:
        prefix = "pubsub.projects.subscriptions"
        self.handlers: dict[str, Handler] = {
            "pubsub.projects.topics.get": self._topic,
            "pubsub.projects.topics.publish": self._publish,
            f"{prefix}.get": self._subscription,
            f"{prefix}.create": self._create,
            f"{prefix}.pull": self._pull,
            f"{prefix}.acknowledge": self._acknowledge,
            f"{prefix}.modifyAckDeadline": self._modify,
        }

    def _topic(self, context: Context) -> Answer:
        project, name = context.ids
        topic = f"projects/{project}/topics/{name}"
        context.need("pubsub.topics.get", topic, _DENIED)
        if topic not in context.world.pubsub.topics:
            raise GoogleError(404, "notFound", f"Resource not found (resource={name}).")
        return {"name": topic, "state": "ACTIVE"}

    def _subscription(self, context: Context) -> Answer:
        project, name = context.ids
        full = f"projects/{project}/subscriptions/{name}"
        context.need("pubsub.subscriptions.get", full, _DENIED)
        return _described(context.world.pubsub.find(full))

    def _publish(self, context: Context) -> Answer:
        project, name = context.ids
        topic = f"projects/{project}/topics/{name}"
        context.need(PUBLISH, topic, _DENIED)
        messages = [_parsed(one) for one in context.body.get("messages") or ()]
        if not messages:
            raise _invalid("The request must contain at least one message.")
        pubsub = context.world.pubsub
        return {"messageIds": [pubsub.publish(topic, *message) for message in messages]}

    def _create(self, context: Context) -> Answer:
        project, name = context.ids
        full, topic = f"projects/{project}/subscriptions/{name}", str(context.body.get("topic", ""))
        context.need("pubsub.subscriptions.create", f"projects/{project}", _DENIED)
        context.need("pubsub.topics.attachSubscription", topic, _DENIED)
        pubsub = context.world.pubsub
        if topic not in pubsub.topics:
            raise GoogleError(404, "notFound", f"Resource not found (resource={topic.rpartition('/')[2]}).")
        if full in pubsub.subscriptions:
            raise GoogleError(409, "alreadyExists", f"Resource already exists in the project (resource={name}).")
        ordered = bool(context.body.get("enableMessageOrdering"))
        pubsub.subscriptions[full] = Subscription(full, topic, ordered=ordered)
        return _described(pubsub.subscriptions[full])

    def _pull(self, context: Context) -> Answer:
        name = _consumable(context)
        most = int(context.body.get("maxMessages") or 0)
        if not 0 < most <= MOST:
            raise GoogleError(400, "invalidArgument", f"Invalid value {most} for max_messages: 1 to {MOST}.")
        received = [{"ackId": one.ack_id, "message": one.as_json()} for one in context.world.pubsub.pull(name, most)]
        return {"receivedMessages": received} if received else {}

    def _acknowledge(self, context: Context) -> Answer:
        name = _consumable(context)
        context.world.pubsub.acknowledge(name, _ids(context))
        return {}

    def _modify(self, context: Context) -> Answer:
        name = _consumable(context)
        seconds = int(context.body.get("ackDeadlineSeconds") or 0)
        if not 0 <= seconds <= _LONGEST_LEASE:
            raise GoogleError(400, "invalidArgument", f"Invalid ack deadline {seconds}: 0 to {_LONGEST_LEASE} seconds.")
        context.world.pubsub.modify(name, _ids(context), seconds)
        return {}


def _described(found: Subscription) -> Answer:
    """Return a subscription as ``Subscription`` of the REST reference."""
    identity = {"oidcToken": {"serviceAccountEmail": found.identity}} if found.identity else {}
    return {
        "name": found.name,
        "topic": found.topic,
        "pushConfig": {"pushEndpoint": found.push, **identity} if found.push else {},
        "ackDeadlineSeconds": int(found.ack_deadline.total_seconds()),
        "messageRetentionDuration": f"{int(found.retention.total_seconds())}s",
        "enableMessageOrdering": found.ordered,
        "state": "ACTIVE",
    }


def _parsed(document: Mapping[str, Any]) -> tuple[bytes, str, dict[str, str]]:
    """Return data, ordering key and attributes of a published message. Raises GoogleError 400.

    The limits are those of "Pub/Sub quotas and limits", Resource limits.
    """
    try:
        data = base64.b64decode(str(document.get("data", "")), validate=True)
    except ValueError as error:
        raise _invalid("Invalid value at 'messages[0].data' (TYPE_BYTES)") from error
    key, attributes = str(document.get("orderingKey", "")), dict(document.get("attributes") or {})
    if not data and not attributes:
        raise _invalid("A message must have data or at least one attribute.")
    if len(data) > _LARGEST_MESSAGE or len(key.encode()) > _LONGEST_VALUE or len(attributes) > _MOST_ATTRIBUTES:
        raise _invalid("The message, its ordering key or its number of attributes exceeds the limit.")
    if any(
        len(name.encode()) > _LONGEST_NAME or len(value.encode()) > _LONGEST_VALUE for name, value in attributes.items()
    ):
        raise _invalid("An attribute exceeds the limit.")
    return data, key, attributes


def _invalid(message: str) -> GoogleError:
    return GoogleError(400, "invalidArgument", message)


def _consumable(context: Context) -> str:
    """Return the subscription's name. Raises GoogleError 403 unless the caller may consume it."""
    project, name = context.ids
    full = f"projects/{project}/subscriptions/{name}"
    context.need(CONSUME, full, _DENIED)
    return full


def _ids(context: Context) -> set[str]:
    ids = {str(one) for one in context.body.get("ackIds") or ()}
    if not ids:
        raise GoogleError(400, "invalidArgument", "No ack ids specified.")
    return ids
