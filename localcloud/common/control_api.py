"""The control API of a local cloud: `POST /_local/<action>` runs one of its control actions."""

from __future__ import annotations

import inspect
import json
from typing import Any, ClassVar, Protocol

from localcloud.common.http_server import Request, Response

PREFIX = "/_local/"


class Actions(Protocol):
    """The actions of a cloud: methods with JSON arguments and results, named in `ACTIONS`."""

    ACTIONS: ClassVar[frozenset[str]]


class ControlApi:
    """Answers requests below `/_local/`.

    The body is a JSON object whose keys are the action's parameters; the answer is `{"result": …}`, or
    `{"error": …}` with status 400 for wrong arguments and 404 for an unknown action. Requests from browsers are
    refused, since any page could post them. `refusals` are the exceptions of the cloud that count as 400.
    """

    def __init__(self, actions: Actions, refusals: tuple[type[Exception], ...]) -> None:
        self._actions = actions
        self._refusals: tuple[type[Exception], ...] = (
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            TimeoutError,
            *refusals,
        )

    def answer(self, request: Request) -> Response:
        """Run the action that the path names."""
        name = request.path.removeprefix(PREFIX).strip("/")
        names = self._actions.ACTIONS
        if request.verb != "POST":
            return _json(405, {"error": "actions are posted"})
        site = request.headers.get("sec-fetch-site", "none")
        if request.headers.get("origin") or site not in ("none", "same-origin"):
            return _json(403, {"error": "browsers are not answered"})
        action = getattr(self._actions, name, None) if name in names else None
        if action is None:
            return _json(404, {"error": f"no action {name!r}", "actions": sorted(names)})
        try:
            arguments = json.loads(request.body or b"{}")
            inspect.signature(action).bind(**dict(arguments))
            result = action(**arguments)
        except self._refusals as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})
        return _json(200, {"result": result})


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(document, default=str).encode())
