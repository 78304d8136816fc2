"""The Cloud Tasks queue of rounds: enqueues calls of the function, each under a name that is used once."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from gcp_function.clients import Clients
from gcp_function.refusals import ALREADY_EXISTS
from gcp_function.settings import RoundSettings
from shared.errors import Denied, NotFound, Permanent
from shared.runtime.context import RunContext

QUOTA = "cloudtasks"
REMEDY = "Apply the deployment again: it owns the queue and the function's permission to enqueue on it."
# The longest that Cloud Tasks waits for an answer of an HTTP target; Cloud Run ends the request before.
DEADLINE = "1800s"


class TaskQueue:
    """Enqueues calls of the function's own address, as the one service account that may call it for rounds."""

    def __init__(self, settings: RoundSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def add(self, name: str, payload: Mapping[str, Any], at: datetime | None = None) -> bool:
        """Enqueue a call with `payload`, not before `at`; return False if the name was used within the last day.

        Cloud Tasks refuses a task's name for up to 24 hours after its end (`CreateTaskRequest`). Raises CloudError.
        """
        task = task_of(self._settings.queue, self._settings.url, self._settings.caller, name, payload)
        if at is not None:
            task["scheduleTime"] = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        try:
            self._run.calls(QUOTA, self._clients.post, QUOTA, f"v2/{self._settings.queue}/tasks", {"task": task})
        except Permanent as error:
            if error.code == ALREADY_EXISTS:
                return False
            raise
        except (Denied, NotFound) as error:
            what = f"no task can be enqueued on {self._settings.queue}: {error.message}"
            raise type(error)(error.code, what, error.remedy or REMEDY) from error
        return True


def task_of(queue: str, url: str, caller: str, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``Task`` that calls the function at `url` with `payload`, as the service account `caller`."""
    target = {
        "url": url,
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json"},
        "body": base64.b64encode(json.dumps(payload).encode()).decode("ascii"),
        "oidcToken": {"serviceAccountEmail": caller, "audience": url},
    }
    return {"name": f"{queue}/tasks/{name}", "httpRequest": target, "dispatchDeadline": DEADLINE}


def task_name(round_id: str, what: str, number: int) -> str:
    """Return the name of a task: hashed first, since Cloud Tasks is slow with names that begin alike."""
    plain = f"{round_id}-{what}-{number}"
    return f"{sha256(plain.encode()).hexdigest()[:8]}-{plain}"
