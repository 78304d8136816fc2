"""A local Azure Functions host: runs a v2 FunctionApp in a child process, in the platform's own worker runtime.

This module implements the host: routes, function keys, settings in triggers, and timeouts. The child process runs the
functions (see `worker_child`). Sources: "Azure Functions hosting options" and "Work with access keys in Azure
Functions" for the limits, "Azure Functions HTTP trigger" for routes and status codes.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from localcloud.azure.runtime.worker_process import Answer, WorkerProcess
from localcloud.common.foreground import uninterrupted

INIT_LIMIT_S = 60.0
HTTP_LIMIT_S = 230.0  # the load balancer's timeout, regardless of the function's own
RUNTIME = Path(sys.prefix) / "azure-runtime"  # where make venv installs the worker runtime
HOST = "https://localhost"
_CRASH_LINES = 20
_SETTING = re.compile(r"%([^%]+)%")


@dataclass(frozen=True)
class Invocation:
    """The result of one invocation.

    `error` is the error document of the worker or the host (`errorMessage`, and `stackTrace` for a function's error),
    or None. `logs` are the lines written since the previous invocation ended; `duration_s` excludes the start of the
    child; `peak_mb` is the child's peak resident memory so far in MiB, or None if it is unknown or the process ended.
    `result` is the JSON text that an orchestrator or an activity returned.
    """

    function: str
    error: Mapping[str, str] | None
    logs: tuple[str, ...]
    duration_s: float
    peak_mb: float | None
    result: str = field(default="", kw_only=True)

    @property
    def exited(self) -> bool:
        """Whether the process that ran the function ended before it did."""
        return self.error is not None and self.error.get("errorType") == "WorkerProcessExit"


@dataclass(frozen=True)
class Response(Invocation):
    """The response of an HTTP trigger; the host's own responses (401, 404, 500, 502) have an empty body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is not valid JSON."""
        return json.loads(self.body)


class AzureWorker:
    """Run a FunctionApp as Azure does, until the context ends.

    `app` is the module with the FunctionApp, imported from `task_root`. If it is ``function_app``, `task_root` is the
    folder of an unpacked package; for any other module, an app folder is created. The child starts on first use and is
    kept warm; after a crash, a failed start or a timeout, the next invocation starts a new one. Invocations can
    overlap, as in one instance of the platform.

    `durable_client` is the document that functions with a durable client get (see `durable_host`).

    `on_line` is called from another thread with each line of the functions' output as it is written. `runtime` is the
    folder of the worker runtime; if it is not installed there, the `azure-functions` library runs the functions.
    `worker` is the name of the one in use.
    """

    def __init__(
        self,
        app: str,
        env: Mapping[str, str],
        *,
        task_root: Path,
        timeout_s: float = 1800,
        init_limit_s: float = INIT_LIMIT_S,
        http_limit_s: float = HTTP_LIMIT_S,
        runtime: Path = RUNTIME,
        python: Path | str = sys.executable,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._app, self._env, self._task_root = app, dict(env), task_root.resolve()
        self._timeout_s, self._init_limit_s, self._http_limit_s = timeout_s, init_limit_s, http_limit_s
        self._command = [str(python), "-P"]
        self._runtime, self._on_line = runtime, on_line
        self._lock = threading.Lock()
        self._process: WorkerProcess | None = None
        self.function_key = secrets.token_urlsafe(24)
        self.durable_client = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._process is not None:
                self._process.close()
                self._process = None

    @property
    def worker(self) -> str:
        """The name and version of the functions host, which is started if needed; "" if it does not start."""
        return self._started().worker

    def functions(self) -> dict[str, list[dict[str, Any]]]:
        """Return the bindings of each indexed function by name; empty if indexing failed."""
        return {one["name"]: one["bindings"] for one in self._started().functions}

    def invoke_timer(self, name: str = "", past_due: bool = False) -> Invocation:
        """Trigger the named timer, or the only one. Raises ValueError unless exactly one timer matches."""
        process = self._started()
        if process.error is not None:
            return self._ended(process, name, Answer(error=process.error), time.monotonic())
        timers = [
            (one, binding)
            for one in process.functions
            for binding in one["bindings"]
            if binding["type"] == "timerTrigger" and name in ("", one["name"])
        ]
        if len(timers) != 1:
            raise ValueError(f"Expected one timer{f' named {name!r}' if name else ''}, found {len(timers)}.")
        ((function, binding),) = timers
        missing = [one for one in _SETTING.findall(binding["schedule"]) if one not in self._env]
        if missing:
            # The host does not start a listener whose schedule it cannot resolve.
            error = {"errorMessage": f"'%{missing[0]}%' does not resolve to a value."}
            return self._ended(process, function["name"], Answer(error=error), time.monotonic())
        timer = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": past_due}
        return self._invoke(process, function, binding, {"timer": timer}, self._timeout_s)

    def invoke_event(self, event: Mapping[str, Any]) -> Invocation:
        """Deliver an Event Grid event. Raises ValueError unless exactly one function has such a trigger."""
        process = self._started()
        if process.error is not None:
            return self._ended(process, "", Answer(error=process.error), time.monotonic())
        found = [
            (one, binding)
            for one in process.functions
            for binding in one["bindings"]
            if binding["type"] == "eventGridTrigger"
        ]
        if len(found) != 1:
            raise ValueError(f"Expected one function with an Event Grid trigger, found {len(found)}.")
        ((function, binding),) = found
        return self._invoke(process, function, binding, {"event": dict(event)}, self._timeout_s)

    def invoke_durable(self, name: str, given: str) -> Invocation:
        """Run an orchestrator or an activity with its input as JSON. Raises ValueError for an unknown function."""
        process = self._started()
        if process.error is not None:
            return self._ended(process, name, Answer(error=process.error), time.monotonic())
        found = [
            (one, binding)
            for one in process.functions
            for binding in one["bindings"]
            if one["name"] == name and binding["type"] in ("orchestrationTrigger", "activityTrigger")
        ]
        if len(found) != 1:
            raise ValueError(f"There is no orchestrator or activity named {name!r}.")
        ((function, binding),) = found
        return self._invoke(process, function, binding, {"durable": given}, self._timeout_s)

    def invoke_http(
        self,
        method: str,
        route: str,
        body: bytes | str | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Response:
        """Send a request to `route`, such as `/api/reconcile`; `key` is the function key (default: the valid one)."""
        given = {name.lower(): value for name, value in (headers or {}).items()}
        given.setdefault("x-functions-key", self.function_key if key is None else key)
        content = json.dumps(body).encode() if isinstance(body, Mapping) else (body or b"")
        raw = content.encode() if isinstance(content, str) else content
        process, began = self._started(), time.monotonic()
        if process.error is not None:
            return self._responded(self._ended(process, "", Answer(error=process.error), began), 500)
        path = route.partition("?")[0].strip("/").lower()
        found = next(
            (
                (one, binding)
                for one in process.functions
                for binding in one["bindings"]
                if binding["type"] == "httpTrigger"
                and path == f"api/{binding.get('route') or one['name']}".lower()
                and method.upper() in {str(each).upper() for each in binding.get("methods") or ("GET", "POST")}
            ),
            None,
        )
        if found is None:
            return self._responded(self._ended(process, "", Answer(), began), 404)
        function, binding = found
        anonymous = str(binding.get("authLevel", "FUNCTION")).upper() == "ANONYMOUS"
        if not anonymous and not secrets.compare_digest(given["x-functions-key"], self.function_key):
            return self._responded(self._ended(process, function["name"], Answer(), began), 401)
        url = f"{HOST}/{route.lstrip('/')}"
        trigger = {"method": method, "url": url, "headers": given, "body": base64.b64encode(raw).decode()}
        limit_s = min(self._timeout_s, self._http_limit_s)
        done = self._invoke(process, function, binding, trigger, limit_s)
        if done.answer is None:
            return self._responded(done, 502 if done.late else 500)
        return self._responded(
            done, int(done.answer["status"]), dict(done.answer["headers"]), base64.b64decode(done.answer["body"])
        )

    def crash(self) -> None:
        """Kill the child process, even during an invocation; the next use starts a new one. Thread-safe."""
        process = self._process
        if process is not None:
            process.kill()

    def _started(self) -> WorkerProcess:
        """Return the running child; start one if necessary."""
        with self._lock:
            if self._process is None or not self._process.usable:
                if self._process is not None:
                    self._process.close()
                with uninterrupted():
                    self._process = WorkerProcess(
                        self._command, self._app, self._environment(), self._task_root, self._runtime, self._on_line
                    )
                self._process.wait_ready(self._init_limit_s)
            return self._process

    def _invoke(
        self,
        process: WorkerProcess,
        function: Mapping[str, Any],
        binding: Mapping[str, Any],
        trigger: Mapping[str, Any],
        limit_s: float,
    ) -> _Done:
        began = time.monotonic()
        clients = [one["name"] for one in function["bindings"] if one["type"] == "durableClient"]
        inputs = dict.fromkeys(clients, self.durable_client)
        whole = {**trigger, "invocation": str(uuid.uuid4()), "inputs": inputs}
        answer = process.ask({"function": function["id"], "binding": binding["name"], "trigger": whole}, limit_s)
        if answer is None:
            late = limit_s < self._timeout_s
            what = "no response within" if late else "Timeout value exceeded by function:"
            error = {"errorMessage": f"{what} {limit_s:g} s ({function['name']})"}
            if not late:
                process.kill()  # the platform also restarts the worker when a function exceeds its timeout
            return self._ended(process, function["name"], Answer(error=error, late=late), began)
        return self._ended(process, function["name"], answer, began)

    def _ended(self, process: WorkerProcess, function: str, answer: Answer, began: float) -> _Done:
        logs = process.take_logs()
        error = answer.error
        if error is not None and error.get("errorType") == "WorkerProcessExit":
            error = {**error, "lastLogLines": "\n".join(logs[-_CRASH_LINES:])}
        return _Done(
            function=function,
            error=error,
            logs=logs,
            duration_s=time.monotonic() - began,
            peak_mb=process.peak_mb(),
            answer=answer.document if error is None and answer.document else None,
            late=answer.late,
            result=str(answer.document.get("result", "")) if answer.document else "",
        )

    @staticmethod
    def _responded(done: _Done, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        return Response(
            done.function, done.error, done.logs, done.duration_s, done.peak_mb, status, headers or {}, body
        )

    def _environment(self) -> dict[str, str]:
        """Return the functions' environment: the platform's variables and `env`, without those of this process."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONPATH": str(self._task_root),
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "FUNCTIONS_EXTENSION_VERSION": "~4",
            "WEBSITE_SITE_NAME": "tailpipe-exports",
            **self._env,
        }


@dataclass(frozen=True)
class _Done(Invocation):
    """An invocation with the child's HTTP response; `late` is true if the load balancer timed out."""

    answer: Mapping[str, Any] | None = None
    late: bool = False
