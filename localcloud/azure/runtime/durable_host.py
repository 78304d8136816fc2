"""The Durable Task extension of the local Functions host: it drives a task hub with a worker, and serves its client.

The client of the Python SDK calls the extension over HTTP on loopback. Functions run at least once: work whose process
ended is given back, and an orchestrator's episode is repeated from its history.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from localcloud.azure.runtime.durable_task import RUNNING, InstanceRunning, TaskHub, Work
from localcloud.azure.runtime.worker import AzureWorker, Invocation
from localcloud.common.http_server import LoopbackServer, Request, Response

ACTIVITIES = 8  # at once, as host.json says
POLL_S = 0.05
AGAIN_S = 0.2  # until work of an ended process is visible again; Azure Storage takes five minutes


class DurableHost:
    """Runs the durable functions of one worker until it is closed.

    `on_done` gets each invocation. `copies` returns how often an activity is delivered: 2 for twice, 0 for never.
    """

    def __init__(
        self,
        worker: AzureWorker,
        hub: TaskHub,
        on_done: Callable[[Invocation], None] = lambda _: None,
        activities: int = ACTIVITIES,
        copies: Callable[[Work], int] = lambda _: 1,
    ) -> None:
        self._worker, self._hub, self._on_done, self._copies = worker, hub, on_done, copies
        self._free = activities
        self._changed = threading.Condition()
        self._closed = False
        self._pool = ThreadPoolExecutor(activities + 2, "durable")
        self._server = LoopbackServer(self._answer)
        self._pump = threading.Thread(target=self._run, name="durable-host", daemon=True)

    @classmethod
    def attach(
        cls, worker: AzureWorker, hub: TaskHub, on_done: Callable[[Invocation], None] = lambda _: None
    ) -> DurableHost | None:
        """Return the started host of a worker; None if it has no durable functions."""
        bindings = [binding for each in worker.functions().values() for binding in each]
        if not any(binding["type"] == "orchestrationTrigger" for binding in bindings):
            return None
        return cls(worker, hub, on_done).__enter__()

    def __enter__(self) -> Self:
        self._server.start()
        base = f"{self._server.endpoint}/durabletask/"
        self._worker.durable_client = json.dumps(
            {"taskHubName": "local", "creationUrls": {}, "managementUrls": {}, "rpcBaseUrl": base}
        )
        self._pump.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop taking work; functions in progress are killed with their process, and their work is given back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pump.join()
        self._worker.crash()
        self._pool.shutdown()
        self._server.stop()

    def start(self, orchestration: str, instance: str) -> None:
        """Start an orchestration. Raises InstanceRunning."""
        with self._changed:
            self._hub.start(orchestration, instance, "null")
            self._changed.notify_all()

    def status(self, instance: str) -> dict[str, Any] | None:
        """Return an instance as the extension describes it."""
        with self._changed:
            return self._hub.status(instance)

    def wait(self, instance: str, seconds: float) -> dict[str, Any]:
        """Return an instance once it has ended. Raises TimeoutError."""
        with self._changed:
            ended = self._changed.wait_for(
                lambda: (self._hub.status(instance) or {}).get("runtimeStatus") not in (*RUNNING, None), seconds
            )
            found = self._hub.status(instance)
        if not ended or found is None:
            raise TimeoutError(f"{instance} has not ended within {seconds:g} s: {found}")
        return found

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                work = self._hub.take(activities=self._free > 0)
                if work is None:
                    self._changed.wait(POLL_S)
                    continue
                if work.task is not None:
                    self._free -= 1
            self._pool.submit(self._episode if work.task is None else self._activity, work)

    def _episode(self, work: Work) -> None:
        done = self._invoked(work)
        with self._changed:
            if done is None:
                self._hub.give_back(work)
            elif done.error is None:
                self._hub.episode_done(work, json.loads(done.result))
            else:
                self._hub.episode_failed(work, done.error["errorMessage"])
            self._changed.notify_all()

    def _activity(self, work: Work) -> None:
        for _ in range(self._copies(work)):
            done = self._invoked(work)
            with self._changed:
                if done is None:
                    self._hub.give_back(work)
                elif done.error is None:
                    self._hub.activity_done(work, done.result)
                else:
                    self._hub.activity_done(work, None, done.error["errorMessage"])
                self._changed.notify_all()
        with self._changed:
            self._free += 1

    def _invoked(self, work: Work) -> Invocation | None:
        """Return what became of a function; None if its process ended first, so that it has to run again."""
        done = self._worker.invoke_durable(work.function, work.input)
        self._on_done(done)
        if done.exited:
            threading.Event().wait(AGAIN_S)
            return None
        return done

    def _answer(self, request: Request) -> Response:
        """Answer the SDK's client: start an orchestration, read an instance, purge histories."""
        parts = request.path.strip("/").split("/")[1:]
        with self._changed:
            try:
                if request.method == "POST" and parts[0] == "orchestrators" and len(parts) == 3:
                    self._hub.start(parts[1], parts[2], request.body.decode() or "null")
                    self._changed.notify_all()
                    return _json(202, {"id": parts[2]})
                if parts[0] == "instances" and len(parts) == 2 and request.method == "GET":
                    found = self._hub.status(parts[1])
                    if found is None:
                        return _json(404, "")
                    return _json(202 if found["runtimeStatus"] in RUNNING else 200, found)
                if parts == ["instances"] and request.method == "DELETE":
                    statuses = frozenset(request.one("runtimeStatus").split(","))
                    number = self._hub.purge(
                        _time(request, "createdTimeFrom"), _time(request, "createdTimeTo"), statuses
                    )
                    return _json(200 if number else 404, {"instancesDeleted": number})
            except InstanceRunning as running:
                return _json(500, {"Message": f"An Orchestration instance with the id {running} already exists."})
            except ValueError as error:
                return _json(400, {"ExceptionMessage": str(error)})
        return _json(404, "")


def _time(request: Request, name: str) -> datetime:
    return datetime.fromisoformat(request.one(name)).astimezone(UTC)


def _json(status: int, document: Any) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(document).encode())
