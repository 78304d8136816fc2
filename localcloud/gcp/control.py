"""The story's actions over HTTP, for other processes: `POST /_local/<action>` with a JSON object of arguments."""

from __future__ import annotations

import inspect
import json
from typing import Any

from localcloud.gcp.errors import GoogleError
from localcloud.gcp.http import Request, Response
from localcloud.gcp.story import Story


class Control:
    """Answers `/_local/…`.

    The body is a JSON object whose keys are the action's parameters (see `Story`); the answer is
    `{"result": …}`, or `{"error": …}` with status 400 for wrong arguments and 404 for an unknown action.
    """

    def __init__(self, story: Story) -> None:
        self._story = story

    def answer(self, request: Request) -> Response:
        name = request.path.removeprefix("/_local/").strip("/")
        if request.verb != "POST":
            return _json(405, {"error": "actions are posted"})
        if request.headers.get("origin") or request.headers.get("sec-fetch-site", "none") not in (
            "none",
            "same-origin",
        ):
            return _json(403, {"error": "browsers are not answered"})
        action = getattr(self._story, name, None) if name in Story.ACTIONS else None
        if action is None:
            return _json(404, {"error": f"no action {name!r}", "actions": sorted(Story.ACTIONS)})
        try:
            arguments = json.loads(request.body or b"{}")
            inspect.signature(action).bind(**dict(arguments))
            result = action(**arguments)
        except (GoogleError, KeyError, TypeError, ValueError, RuntimeError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})
        return _json(200, {"result": result})


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(document, default=str).encode())
