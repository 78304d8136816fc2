"""The story's actions over HTTP, for other processes: `POST /_local/<action>` with a JSON object of arguments."""

from __future__ import annotations

import inspect
import json
from contextlib import nullcontext
from typing import Any

from localcloud.aws.control_api import Story
from localcloud.aws.errors import AwsError


class Control:
    """Answers `/_local/…`.

    The body is a JSON object whose keys are the action's parameters (see `Story`); the answer is
    `{"result": …}`, or `{"error": …}` with status 400 for wrong arguments and 404 for an unknown action.
    """

    def __init__(self, story: Story) -> None:
        self._story = story

    def answer(self, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = environ["PATH_INFO"].removeprefix("/_local/").strip("/")
        if environ["REQUEST_METHOD"] != "POST":
            return _json(405, {"error": "actions are posted"})
        if environ.get("HTTP_ORIGIN") or environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin"):
            return _json(403, {"error": "browsers are not answered"})
        action = getattr(self._story, name, None) if name in Story.ACTIONS else None
        if action is None:
            return _json(404, {"error": f"no action {name!r}", "actions": sorted(Story.ACTIONS)})
        try:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            arguments = json.loads(environ["wsgi.input"].read(length) or b"{}")
            inspect.signature(action).bind(**dict(arguments))
            with nullcontext() if name in Story.WAITING else self._story.world.lock:
                result = action(**arguments)
        except (AwsError, KeyError, TypeError, ValueError, RuntimeError, TimeoutError) as error:
            return _json(400, {"error": f"{type(error).__name__}: {error}"})
        return _json(200, {"result": result})


def _json(status: int, document: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document, default=str).encode()
