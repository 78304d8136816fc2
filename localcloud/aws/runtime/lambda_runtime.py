"""A local Lambda execution environment: the real runtime client in a child process, fed over loopback.

Source of the environment, the limits and the error documents: AWS Lambda Developer Guide, "Defined runtime
environment variables", "Lambda quotas" and "Understanding the Lambda execution environment lifecycle".
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from localcloud import Unavailable
from localcloud.aws.runtime.lambda_runtime_api import MAX_PAYLOAD_BYTES, Call, RuntimeApi
from localcloud.common.child_process import ChildProcess
from localcloud.common.foreground import uninterrupted

# Lambda restarts an initialization that takes over 10 s within the invocation; a busy laptop needs longer.
INIT_LIMIT_S = 60.0
FUNCTION_NAME = "tailpipe-exports"
_CRASH_LOG_LINES = 20


@dataclass(frozen=True)
class Invocation:
    """The result of one invocation.

    `payload` is the decoded JSON response, None on an error. `error` is the error document of the runtime or the
    platform (`errorType`, `errorMessage`, and `stackTrace` from the runtime). `logs` are the function's lines; the
    first invocation includes those of the initialization. `duration_s` counts from the delivery of the event.
    `log_stream` is the log stream of the execution environment. `peak_mb` (MiB) is the child's peak resident memory
    so far, None if unknown or if the child has exited.
    """

    request_id: str
    payload: object
    error: Mapping[str, object] | None
    logs: tuple[str, ...]
    duration_s: float
    log_stream: str
    peak_mb: float | None


class LambdaRuntime:
    """Runs a handler as Lambda does, until the context closes.

    The child starts with the first invocation and is kept warm. After a crash, a failed initialization or a
    timeout, the next invocation starts a new one. Invocations are serialized, as in one execution environment.

    With `runtime_path` (see `runtime_folder`), the function can import only `task_root` and the runtime client, as in
    Lambda; without it, also the packages that are installed on this machine.

    `on_line` is called on another thread with each line of the function's output as it is written.

    Raises ValueError if `env` changes a variable that Lambda reserves, as CreateFunction does.
    """

    def __init__(
        self,
        handler: str,
        env: Mapping[str, str],
        account_id: str,
        region: str,
        *,
        partition: str = "aws",
        timeout_s: float = 900,
        memory_mb: int = 512,
        task_root: Path,
        python: Path | str = sys.executable,
        function_name: str = FUNCTION_NAME,
        init_limit_s: float = INIT_LIMIT_S,
        on_line: Callable[[str], None] | None = None,
        runtime_path: Path | None = None,
    ) -> None:
        if runtime_path is None and str(python) == sys.executable and not importlib.util.find_spec("runtime_client"):
            raise Unavailable("Lambda's runtime client is not installed: its native module supports only Linux.")
        self._function_arn = f"arn:{partition}:lambda:{region}:{account_id}:function:{function_name}"
        self._timeout_s = timeout_s
        self._init_limit_s = init_limit_s
        self._task_root = task_root.resolve()
        self._on_line = on_line
        # Without `site`, Python does not import from its own environment's packages.
        isolated = ["-S"] if runtime_path is not None else []
        self._command = [str(python), *isolated, "-m", "awslambdaric", handler]
        self._path = [str(one) for one in (self._task_root, runtime_path) if one is not None]
        self._reserved = {
            "_HANDLER": handler,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_NAME": function_name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function_name}",
            "LAMBDA_TASK_ROOT": str(self._task_root),
        }
        taken = sorted(name for name, value in self._reserved.items() if env.get(name, value) != value)
        if taken:
            raise ValueError(f"Lambda reserves {', '.join(taken)}: remove them from env")
        self._env = dict(env)
        self._lock = threading.Lock()
        self._sandbox: _Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._discard()

    def invoke(self, event: object, request_id: str | None = None) -> Invocation:
        """Deliver one event and wait for its result, at most for the initialization and function timeouts.

        A retry passes the `request_id` of the first attempt; the default is a new id.
        Raises ValueError for an event that is not JSON or exceeds Lambda's limit of 6 MB.
        """
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        if len(body) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"the event has {len(body)} bytes, Lambda accepts {MAX_PAYLOAD_BYTES}")
        with self._lock:
            if self._sandbox is None or not self._sandbox.alive:
                self._discard()
                with uninterrupted():
                    self._sandbox = _Sandbox(self._command, self._environment(), self._task_root, self._on_line)
            sandbox = self._sandbox
            call = Call(body, self._function_arn, self._timeout_s, request_id or str(uuid.uuid4()))
            result = sandbox.run(call, self._init_limit_s)
            if not sandbox.alive:
                self._discard()
            return result

    def stop(self) -> None:
        """Kill the child immediately, from any thread; a running invocation fails as after a crash."""
        sandbox = self._sandbox
        if sandbox is not None:
            sandbox.kill()

    def _environment(self) -> dict[str, str]:
        stream = f"{time.strftime('%Y/%m/%d', time.gmtime())}/[$LATEST]{uuid.uuid4().hex}"
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONPATH": os.pathsep.join(self._path),
            **self._env,
            **self._reserved,
            "AWS_LAMBDA_LOG_STREAM_NAME": stream,
        }

    def _discard(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


def runtime_folder(into: Path) -> Path:
    """Link Lambda's runtime client and its imports, and nothing else, into a folder; return the folder.

    Lambda's own image also keeps the client apart from the function's code.
    """
    for name in ("awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise RuntimeError(f"Lambda's runtime client requires {name}, which is not installed")
        origin = Path(spec.origin)
        source = origin.parent if spec.submodule_search_locations else origin
        (into / source.name).symlink_to(source)
    return into


class _Sandbox:
    """One child process with its own Runtime API, log pipe and home directory."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], task_root: Path, on_line: Callable[[str], None] | None
    ) -> None:
        self._ended = threading.Event()
        self._log_stream = env["AWS_LAMBDA_LOG_STREAM_NAME"]
        with contextlib.ExitStack() as stack:
            self._api = stack.enter_context(RuntimeApi())
            self._child = ChildProcess("lambda")
            stack.callback(self._child.close)
            self._child.start(command, task_root, {**env, "AWS_LAMBDA_RUNTIME_API": self._api.address}, on_line)
            self._watcher = threading.Thread(target=self._watch, name="lambda-watcher", daemon=True)
            self._watcher.start()
            stack.callback(self._watcher.join, 10)
            stack.callback(self._child.kill)
            self._resources = stack.pop_all()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    def run(self, call: Call, init_limit_s: float) -> Invocation:
        self._api.offer(call)
        if not self.alive:
            # The child exited between two calls, before the watcher could fail this one.
            self._fail_exited()
        if not self._api.wait_delivered(call, init_limit_s):
            self._time_out(f"RequestId: {call.request_id} Error: Init timed out after {init_limit_s:.2f} seconds")
        elif call.delivered is not None:
            left_s = call.delivered + call.timeout_s - time.monotonic()
            if not self._api.wait_done(call, left_s):
                self._time_out(f"RequestId: {call.request_id} Error: Task timed out after {call.timeout_s:.2f} seconds")
        return self._result(call)

    def _time_out(self, message: str) -> None:
        # Fail the call first, so that the watcher does not report the kill as a crash.
        self._api.fail("Sandbox.Timedout", message)
        self.kill()

    def _result(self, call: Call) -> Invocation:
        peak_mb = self._child.peak_mb()
        if call.error is not None and (call.delivered is None or call.refused):
            # A failed initialization ends the environment, and so does a refused response: the
            # runtime client cannot continue after it.
            self.kill()
        logs = self._child.take_logs()
        error = call.error
        if error is not None and error.get("errorType") == "Runtime.ExitError":
            error = {**error, "lastLogLines": list(logs[-_CRASH_LOG_LINES:])}
        finished = call.finished if call.finished is not None else time.monotonic()
        return Invocation(
            request_id=call.request_id,
            payload=None if call.response is None else json.loads(call.response or b"null"),
            error=error,
            logs=logs,
            duration_s=finished - (call.delivered if call.delivered is not None else finished),
            log_stream=self._log_stream,
            peak_mb=peak_mb,
        )

    def close(self) -> None:
        self._resources.close()

    def _watch(self) -> None:
        self._child.process.wait()
        self._ended.set()
        self._fail_exited()

    def _fail_exited(self) -> None:
        status = self._child.process.returncode
        how = f"exit status {status}" if status >= 0 else f"signal: {signal.Signals(-status).name}"
        self._api.fail("Runtime.ExitError", f"Error: Runtime exited with error: {how}")

    def kill(self) -> None:
        self._child.kill()
        self._ended.wait(10)
