"""A local Cloud Run function: the real functions-framework in a child process, called over loopback HTTP.

Sources: Cloud Run's "Container runtime contract" (environment, trace headers, the ten seconds between SIGTERM and
SIGKILL), "Request timeout" (504), and the functions-framework's own README (its command line and variables).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from localcloud.common.child_process import ChildProcess
from localcloud.common.foreground import uninterrupted

# Cloud Run gives a container four minutes to listen; even a loaded laptop needs only seconds.
START_LIMIT_S = 60.0
# Between SIGTERM and SIGKILL.
GRACE_S = 10.0
SERVICE = "tailpipe-exports"
LOOPBACK = "127.0.0.1"
_POLL_S = 0.02
_LINES_OF_A_CRASH = 20
_TRACE = "x-cloud-trace-context"


@dataclass(frozen=True)
class Response:
    """The outcome of one call.

    `status` and `headers` (lowercase names) are those of the function's HTTP response, `body` its bytes and `payload`
    its decoded JSON, or None if it is not JSON. If the function did not respond, `error` gives the reason, and `status`
    is Cloud Run's own: 504 after the timeout, 503 for an instance that did not start or died. `trace` is the call's
    trace id. `logs` are the lines written since the previous call; those of the startup belong to the first call.
    `duration_s` is the time from request to response. `peak_mb` (MiB) is the peak resident memory so far of the
    serving process, or None if it is unknown or the process has ended.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    payload: object
    error: str | None
    trace: str
    logs: tuple[str, ...]
    duration_s: float
    peak_mb: float | None


@dataclass(frozen=True)
class _Raw:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None


class FunctionsFramework:
    """Serves one HTTP function as Cloud Run does, while the context is open.

    `function` is ``module:name``. As in the deployed archive, a ``main.py`` at the root imports it from its package;
    `source` is the folder that holds the packages. The module ``main`` stands for an unpacked archive: the ``main.py``
    in `source` is served. The instance starts with the first call and is kept warm; after a crash or a failed start,
    the next call gets a new one. Calls are served one at a time, as with the deployed concurrency of one. After a
    timeout the instance continues its work, as on Cloud Run.

    `on_line` receives each line of the function's output as it is written, on another thread.

    Raises ValueError for an `env` that overrides a reserved variable of Cloud Run, and for a malformed `function`.
    """

    def __init__(
        self,
        function: str,
        env: Mapping[str, str],
        *,
        source: Path,
        timeout_s: float = 300,
        service: str = SERVICE,
        python: Path | str = sys.executable,
        start_limit_s: float = START_LIMIT_S,
        grace_s: float = GRACE_S,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        module, _, self._target = function.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), self._target)):
            raise ValueError(f"{function!r} is not module:name")
        shim = f"from {module} import {self._target}\n\n__all__ = [{self._target!r}]\n"
        self._shim = None if module == "main" else shim
        self._source = source.resolve()
        self._timeout_s = timeout_s
        self._start_limit_s = start_limit_s
        self._grace_s = grace_s
        self._python = str(python)
        self._on_line = on_line
        self._reserved = {
            "FUNCTION_TARGET": self._target,
            "FUNCTION_SIGNATURE_TYPE": "http",
            "K_SERVICE": service,
            "K_CONFIGURATION": service,
            "K_REVISION": f"{service}-00001-loc",
            "CLOUD_RUN_TIMEOUT_SECONDS": str(max(1, round(timeout_s))),
        }
        taken = sorted(name for name, value in self._reserved.items() if env.get(name, value) != value)
        taken += sorted({"PORT", "FUNCTION_SOURCE"} & env.keys())
        if taken:
            raise ValueError(f"Cloud Run reserves {', '.join(taken)}: leave them out of env")
        self._env = dict(env)
        self._lock = threading.Lock()
        self._instance: _Instance | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._discard()

    def invoke(
        self, body: object = None, headers: Mapping[str, str] | None = None, *, method: str = "POST", path: str = "/"
    ) -> Response:
        """Call the function and wait for its response, at most for the start limit plus the timeout.

        `body`: bytes are sent unchanged, anything else as JSON, and None as an empty body. Like Cloud Run, this adds a
        trace header unless one is set. Raises ValueError for a body that JSON cannot represent.
        """
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        data = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            data = json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
            sent.setdefault("content-type", "application/json")
        sent.setdefault(_TRACE, f"{secrets.token_hex(16)}/{secrets.randbits(62) + 1};o=1")
        with self._lock:
            if self._instance is None or not self._instance.alive:
                self._discard()
                with uninterrupted():
                    self._instance = _Instance(
                        self._command, self._environment(), self._shim, self._source, self._on_line
                    )
            instance = self._instance
            refused = instance.wait_ready(self._start_limit_s)
            began = time.monotonic()
            raw = refused or instance.call(method, path, data, sent, self._timeout_s)
            duration_s = time.monotonic() - began
            memory_mb = instance.child.peak_mb()
            logs = instance.child.take_logs()
            if refused or not instance.alive:
                self._discard()
        if raw.status == 503 and raw.error and logs:
            raw = _Raw(503, error="\n".join((raw.error, *logs[-_LINES_OF_A_CRASH:])))
        return Response(
            status=raw.status,
            headers=raw.headers,
            body=raw.body,
            payload=_decoded(raw.body),
            error=raw.error,
            trace=sent[_TRACE].partition("/")[0],
            logs=logs,
            duration_s=duration_s,
            peak_mb=memory_mb,
        )

    def kill(self) -> None:
        """End the instance at once, in the middle of a call, as Cloud Run does where it is out of memory."""
        if self._instance is not None:
            self._instance.child.kill()

    def _command(self, main: Path, port: int) -> list[str]:
        framework = [self._python, "-m", "functions_framework", "--target", self._target, "--source", str(main)]
        return [*framework, "--host", LOOPBACK, "--port", str(port)]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONUNBUFFERED": "TRUE",  # as Google's buildpack for Python sets it
            "PYTHONPATH": str(self._source),
            **self._env,
            **self._reserved,
        }

    def _discard(self) -> None:
        if self._instance is not None:
            self._instance.close(self._grace_s)
            self._instance = None


class _Instance:
    """One child process with its port, its output, and its own home and source directories."""

    def __init__(
        self,
        command: Callable[[Path, int], list[str]],
        env: Mapping[str, str],
        shim: str | None,
        source: Path,
        on_line: Callable[[str], None] | None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            child = self.child = ChildProcess("function")
            stack.callback(child.close)
            main = source / "main.py"
            if shim is not None:
                main = child.home / "source" / "main.py"
                main.parent.mkdir()
                main.write_text(shim, encoding="utf-8")
            self._port = stack.enter_context(_reserved_port())
            child.start(command(main, self._port), main.parent, {**env, "PORT": str(self._port)}, on_line)
            stack.callback(child.kill)
            self._resources = stack.pop_all()
        self._ready = False

    @property
    def alive(self) -> bool:
        return self.child.alive

    def wait_ready(self, limit_s: float) -> _Raw | None:
        """Wait until the instance listens; return the error response if it does not do so in time."""
        until = time.monotonic() + limit_s
        while not self._ready:
            if not self.alive:
                return _Raw(503, error=f"the instance did not start: {self._how()}")
            if time.monotonic() > until:
                self.child.kill()
                return _Raw(503, error=f"the instance did not listen within {limit_s:g} s")
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self._port), timeout=1).close()
                self._ready = True
                return None
            time.sleep(_POLL_S)
        return None

    def call(self, method: str, path: str, data: bytes, headers: Mapping[str, str], timeout_s: float) -> _Raw:
        began = time.monotonic()
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=timeout_s)
        try:
            connection.request(method, path, data, {**headers, "connection": "close"})
            answer = connection.getresponse()
            # The timeout applies to the whole response, not to each read.
            if connection.sock is not None:
                connection.sock.settimeout(max(0.01, began + timeout_s - time.monotonic()))
            found = {name.lower(): value for name, value in answer.getheaders()}
            return _Raw(answer.status, found, answer.read())
        except TimeoutError:
            return _Raw(504, error=f"no answer within {timeout_s:g} s")
        except (OSError, http.client.HTTPException) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.process.wait(0.1)
            how = "" if self.alive else f"; {self._how()}"
            return _Raw(503, error=f"the instance did not send a complete response: {type(error).__name__}{how}")
        finally:
            connection.close()

    def close(self, grace_s: float) -> None:
        """Stop the instance as Cloud Run does: SIGTERM, then SIGKILL after the grace period."""
        if self.alive:
            self.child.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.process.wait(grace_s)
        self._resources.close()

    def _how(self) -> str:
        status = self.child.process.wait()
        return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """Yield a free port that no other process gets before the child does.

    On Linux, a socket that is bound but not listening blocks the port for all processes except those that, like the
    child's server, set SO_REUSEADDR. Other systems reject that second bind, so the port is released immediately.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, 0))
        port = int(holder.getsockname()[1])
        if not sys.platform.startswith("linux"):
            holder.close()
        yield port


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None
