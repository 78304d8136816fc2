"""A local Azure Functions host: a v2 FunctionApp in a child process, in the platform's own worker runtime.

The host's part is here: routes, function keys, settings in the triggers, time limits. The child runs the functions, see
`azure_worker_child`. Source of the limits: "Azure Functions hosting options" and "Work with access keys in Azure
Functions"; of routes and status codes: "Azure Functions HTTP trigger".
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
HTTP_LIMIT_S = 230.0  # the load balancer's, whatever the function's own limit is
RUNTIME = Path(sys.prefix) / "azure-runtime"  # where make venv puts the worker runtime
HOST = "https://localhost"
_CRASH_LINES = 20
_SETTING = re.compile(r"%([^%]+)%")


@dataclass(frozen=True)
class Invocation:
    """What came of one invocation.

    `error` is the worker's or the host's document (`errorMessage`, for a function's also `stackTrace`), else None.
    `logs` are the lines written since the invocation before ended; `duration_s` leaves the start of the child out;
    `peak_mb` (MiB) is the child's peak resident memory so far, None where it is unknown or the process is gone.
    """

    function: str
    error: Mapping[str, str] | None
    logs: tuple[str, ...]
    duration_s: float
    peak_mb: float | None


@dataclass(frozen=True)
class Response(Invocation):
    """An HTTP trigger's answer; the host's own ones (401, 404, 500, 502) have an empty body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as JSON. Raises ValueError if it is not valid JSON."""
        return json.loads(self.body)


class AzureWorker:
    """Runs a FunctionApp as Azure does, until the context ends.

    `app` is the module that holds it, found from `task_root`. The module ``function_app`` is an unpacked package's own:
    `task_root` is then the app's folder; for any other one a folder is made. The child starts with the first use and is
    kept warm; after a crash, a failed start or a timeout the next invocation gets a new one. Invocations may overlap,
    as they do in one instance of the platform.

    `on_line` gets each line of the functions' output as it is written, from another thread. `runtime` is the folder of
    the worker runtime; without the packages there the `azure-functions` library runs them. `worker` says which.
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
        """Return name and version of the functions host, and start it if needed; "" if it does not start."""
        return self._started().worker

    def functions(self) -> dict[str, list[dict[str, Any]]]:
        """Return the indexed functions' names with their bindings; empty if the indexing failed."""
        return {one["name"]: one["bindings"] for one in self._started().functions}

    def invoke_timer(self, name: str = "", past_due: bool = False) -> Invocation:
        """Trigger a timer: the named one, or the only one. Raises ValueError if there is none."""
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
            raise ValueError(f"{len(timers)} timers are called {name!r}" if name else f"there are {len(timers)} timers")
        ((function, binding),) = timers
        missing = [one for one in _SETTING.findall(binding["schedule"]) if one not in self._env]
        if missing:
            # The host refuses to start a listener whose schedule it cannot resolve.
            error = {"errorMessage": f"'%{missing[0]}%' does not resolve to a value."}
            return self._ended(process, function["name"], Answer(error=error), time.monotonic())
        timer = {"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": past_due}
        return self._invoke(process, function, binding, {"timer": timer}, self._timeout_s)

    def invoke_http(
        self,
        method: str,
        route: str,
        body: bytes | str | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Response:
        """Send a request to `/api/reconcile` or wherever; `key` is the function key (default: the right one)."""
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
        """Kill the instance, even during an invocation; the next use starts a new one. Thread-safe."""
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
        whole = {**trigger, "invocation": str(uuid.uuid4())}
        answer = process.ask({"function": function["id"], "binding": binding["name"], "trigger": whole}, limit_s)
        if answer is None:
            late = limit_s < self._timeout_s
            what = "no answer within" if late else "Timeout value exceeded by function:"
            error = {"errorMessage": f"{what} {limit_s:g} s ({function['name']})"}
            if not late:
                process.kill()  # the platform too restarts the worker of a function that is over its time
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
        )

    @staticmethod
    def _responded(done: _Done, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        return Response(
            done.function, done.error, done.logs, done.duration_s, done.peak_mb, status, headers or {}, body
        )

    def _environment(self) -> dict[str, str]:
        """Return what the functions see: the platform's variables and the given ones, none of this process."""
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
    """An invocation with the HTTP answer in the child's form; `late` where the load balancer gave up on it."""

    answer: Mapping[str, Any] | None = None
    late: bool = False
