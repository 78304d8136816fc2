"""The Pub/Sub methods that the function uses to pull events from its subscription."""

from __future__ import annotations

import base64

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.services.pubsub import MOST

CONSUME = "pubsub.subscriptions.consume"
_LONGEST_LEASE = 600


class PubSubApi:
    """Pull, acknowledge and modifyAckDeadline."""

    def __init__(self) -> None:
        prefix = "pubsub.projects.subscriptions"
        self.handlers: dict[str, Handler] = {
            f"{prefix}.pull": self._pull,
            f"{prefix}.acknowledge": self._acknowledge,
            f"{prefix}.modifyAckDeadline": self._modify,
        }

    def _pull(self, context: Context) -> Answer:
        name = _consumable(context)
        most = int(context.body.get("maxMessages") or 0)
        if not 0 < most <= MOST:
            raise GoogleError(400, "invalidArgument", f"Invalid value {most} for max_messages: 1 to {MOST}.")
        received = [
            {
                "ackId": one.ack_id,
                "message": {
                    "data": base64.b64encode(one.data).decode(),
                    "messageId": one.id,
                    "publishTime": f"{one.published:%Y-%m-%dT%H:%M:%SZ}",
                },
            }
            for one in context.world.pubsub.pull(name, most)
        ]
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


def _consumable(context: Context) -> str:
    """Return the subscription's name. Raises GoogleError 403 unless the caller may consume it."""
    project, name = context.ids
    full = f"projects/{project}/subscriptions/{name}"
    context.need(CONSUME, full, "User not authorized to perform this action.")
    return full


def _ids(context: Context) -> set[str]:
    ids = {str(one) for one in context.body.get("ackIds") or ()}
    if not ids:
        raise GoogleError(400, "invalidArgument", "No ack ids specified.")
    return ids
