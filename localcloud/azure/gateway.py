"""Everything the local Azure's one port answers: Resource Manager, Graph, the identity's tokens, and the story."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import msgspec

from localcloud.azure.control_api import Story
from localcloud.azure.iam.identity import PATH, Identity
from localcloud.azure.resource_manager import Arm
from localcloud.azure.services.graph import PREFIX, Graph
from localcloud.azure.wire import Answer, Request

_LOCAL = "/_local/"


class Front:
    """Called by the server's threads."""

    def __init__(self, arm: Arm, graph: Graph, identity: Identity, story: Story, sync: Callable[[], None]) -> None:
        self._arm, self._graph, self._identity, self._story, self._sync = arm, graph, identity, story, sync

    def __call__(self, request: Request) -> Answer:
        try:
            self._sync()
            if request.path.startswith(_LOCAL):
                return self._act(request, request.path[len(_LOCAL) :])
            if request.path == PATH:
                return self._identity.answer(request)
            if request.path.startswith(f"{PREFIX}/"):
                return self._graph.answer(request)
            return self._arm.answer(request)
        except Exception:  # noqa: BLE001 - a fault of the local cloud must be seen by whoever called it
            message = f"The local Azure failed: {traceback.format_exc(limit=-3)}"
            return Answer({"error": {"code": "InternalServerError", "message": message}}, 500)

    def _act(self, request: Request, action: str) -> Answer:
        if request.method != "POST" or action not in Story.ACTIONS:
            return Answer(
                {"error": f"there is no action {action!r}; POST one of {', '.join(sorted(Story.ACTIONS))}"}, 404
            )
        try:
            arguments = msgspec.json.decode(request.body) if request.body.strip() else {}
            return Answer({"result": getattr(self._story, action)(**arguments)})
        except (msgspec.DecodeError, TypeError, ValueError, RuntimeError) as error:
            return Answer({"error": str(error)}, 400)
