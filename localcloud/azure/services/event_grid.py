"""The Event Grid custom topic that deliveries are published to.

Sources (Microsoft Learn): "CloudEvents v1.0 schema with Azure Event Grid" and "Azure Event Grid quotas and limits": an
event has at most 1 MB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError
from localcloud.azure.faults import Attempt
from localcloud.azure.iam.caller import EVENT_GRID, MANAGEMENT, identify
from localcloud.azure.services.manifest_events import Published
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request, corrupted

PREFIX = "/eventgrid"
PATH = f"{PREFIX}/api/events"
ACTION = "Microsoft.EventGrid/events/send/action"
LARGEST = 1024 * 1024  # bytes of an event
CONTENT_TYPE = "application/cloudevents+json"
_REQUIRED = ("id", "source", "type", "specversion")


class Topic:
    """The custom topic's data plane: the caller needs the data action at the topic."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        app = ""
        try:
            header = request.headers.get("authorization", "")
            static = header.removeprefix("Bearer ") in self._world.static_tokens
            app = identify(header, self._world.tenant, (*EVENT_GRID, *MANAGEMENT) if static else EVENT_GRID).principal
            with self._world.lock:
                now = self._world.clock.monotonic()
                self._world.faults.apply(Attempt(app, request.method, ACTION, self._world.topic, request.headers, now))
                answer = self._publish(request, app)
        except ArmError as error:
            answer = Answer(error.document(), error.status, dict(error.headers))
        self._world.calls.add(
            Call(self._world.clock.monotonic(), app, request.method, ACTION, request.path, answer.status)
        )
        return corrupted(answer, self._world.faults.corruption_of(f"{request.method} {request.path}"))

    def _publish(self, request: Request, app: str) -> Answer:
        world = self._world
        if request.method != "POST" or request.path != PATH or not world.topic:
            raise ArmError(404, "NotFound", "The topic does not exist.")
        if not world.rights.allows(app, ACTION, world.topic, data=True):
            raise ArmError(
                403, "Forbidden", f"The principal is not authorized to perform action {ACTION} on {world.topic}."
            )
        if len(request.body) > LARGEST:
            raise ArmError(413, "RequestEntityTooLarge", f"The event is larger than {LARGEST} bytes.")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != CONTENT_TYPE:
            raise ArmError(415, "UnsupportedMediaType", f"The content type {kind} is not supported.")
        event = _event(request.body)
        world.published.append(Published(world.clock.now(), event))
        return Answer(status=200)


def _event(body: bytes) -> Mapping[str, Any]:
    """Return a CloudEvent. Raises ArmError 400 if it is not valid."""
    try:
        event = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ArmError(400, "BadRequest", f"The event is not valid JSON: {error}") from error
    missing = [one for one in _REQUIRED if not isinstance(event.get(one), str) or not event[one]]
    odd = [one for one in event if not re.fullmatch(r"[a-z0-9]{1,20}", one)]
    if missing or odd or event["specversion"] != "1.0":
        raise ArmError(400, "BadRequest", f"The event is not a CloudEvent: {', '.join([*missing, *odd])}")
    return event
