"""Cloud Tasks' dispatch: each due task becomes a request to its target, and the response decides about its retry.

Source: "Create HTTP target tasks", and ``HttpRequest`` in the reference of the Cloud Tasks API.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from localcloud.gcp.services.tasks import Task
from localcloud.gcp.state import World
from shared.runtime.clock import SystemClock

_POLL_S = 0.2


@dataclass(frozen=True)
class Dispatch:
    """One request of a task: its address, caller (empty without a token), audience of the token, headers and body."""

    task: str
    url: str
    identity: str
    audience: str
    headers: dict[str, str]
    body: bytes
    deadline: timedelta


@dataclass(frozen=True)
class TaskResponse:
    """A target's response; `status` is None if none came within the deadline, `retry_after` in seconds."""

    status: int | None
    retry_after: float = 0.0


# Sends a dispatch, from inside the project, and returns the response.
Send = Callable[[Dispatch], TaskResponse]


class TaskDelivery:
    """Dispatches due tasks: in threads if the clock is the machine's, otherwise whenever `deliver` is called."""

    def __init__(self, world: World, send: Send) -> None:
        self._world = world
        self.send = send
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        """Start dispatching in threads if the local cloud uses the machine's clock."""
        if isinstance(self._world.clock, SystemClock):
            self._thread = threading.Thread(target=self._poll, name="cloud-tasks", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop dispatching and wait for the requests in progress."""
        self._ended.set()
        if self._thread:
            self._thread.join()
        for one in self._workers:
            one.join()

    def deliver(self) -> list[tuple[str, int | None]]:
        """Dispatch the due tasks one after another; return their ids and the statuses of the responses."""
        done = []
        while not self._ended.is_set():
            with self._world.lock:
                task = next(self._world.tasks.take(), None)
            if task is None:
                break
            done.append((task.name.rpartition("/")[2], self._dispatch(task)))
        return done

    def run_now(self, task: Task) -> None:
        """Dispatch a task at once, beyond its queue's limits; the caller holds the lock and gets no response."""
        self._world.tasks.begin(task)
        self._in_thread(task)

    def _poll(self) -> None:
        while not self._ended.wait(_POLL_S):
            with self._world.lock:
                due = list(self._world.tasks.take())
            self._workers = [one for one in self._workers if one.is_alive()]
            for task in due:
                self._in_thread(task)

    def _in_thread(self, task: Task) -> None:
        worker = threading.Thread(target=self._dispatch, args=(task,), name="cloud-task", daemon=True)
        self._workers.append(worker)
        worker.start()

    def _dispatch(self, task: Task) -> int | None:
        began = self._world.clock.monotonic()
        response = self.send(request_of(task))
        if self._world.clock.monotonic() - began > task.deadline.total_seconds():
            response = TaskResponse(None)
        with self._world.lock:
            self._world.tasks.finish(task, response.status, response.retry_after)
        return response.status


def request_of(task: Task) -> Dispatch:
    """Return the request of a task that is dispatched now."""
    token = task.http.get("oidcToken") or {}
    url = str(task.http["url"])
    return Dispatch(
        task.name,
        url,
        str(token.get("serviceAccountEmail", "")),
        str(token.get("audience") or (url if token else "")),
        task.headers(),
        base64.b64decode(task.http.get("body", "")),
        task.deadline,
    )
