"""One child process of `AzureWorker`, and the exchange of JSON lines with it."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcloud.common.child_process import ChildProcess

CHILD = Path(__file__).with_name("worker_child.py")


@dataclass(frozen=True)
class Answer:
    """The child's response: `document` is a function's HTTP response ({} for a timer), or `error` is set."""

    document: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    late: bool = False


class _Pending:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer = Answer()


class WorkerProcess:
    """The child with its socket, log pipe, home directory and, unless the app has one, a `function_app.py`.

    After `wait_ready`, `worker` is the name of the functions host, `functions` are the indexed functions, and `error`
    is set if indexing failed.
    """

    def __init__(
        self,
        command: list[str],
        app: str,
        env: Mapping[str, str],
        task_root: Path,
        runtime: Path,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self.worker = ""
        self.functions: list[dict[str, Any]] = []
        self.error: Mapping[str, str] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._numbers = itertools.count(1)
        self._first = _Pending()
        self._pending: dict[int, _Pending] = {0: self._first}
        with contextlib.ExitStack() as stack:
            self._child = ChildProcess("functions")
            stack.callback(self._child.close)
            folder = task_root
            if app != "function_app":
                folder = self._child.home / "wwwroot"
                folder.mkdir()
                shim = f"from {app} import app\n\n__all__ = ['app']\n"
                (folder / "function_app.py").write_text(shim, encoding="utf-8")
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            self._socket, self._lines = ours, ours.makefile("rb")
            stack.callback(self._lines.close)
            with theirs:
                arguments = [*command, str(CHILD), str(theirs.fileno()), str(folder), str(runtime)]
                self._child.start(arguments, task_root, env, on_line, [theirs.fileno()])
            self._reader = threading.Thread(target=self._read, name="functions-answers", daemon=True)
            self._reader.start()
            stack.callback(self._reader.join, 10)
            stack.callback(self.kill)
            self._resources = stack.pop_all()

    @property
    def usable(self) -> bool:
        """Whether the child is running and its functions were indexed."""
        return not self._ended.is_set() and self.error is None

    def wait_ready(self, limit_s: float) -> None:
        """Wait until the functions are indexed; set `error` on failure or timeout."""
        if not self._first.done.wait(limit_s):
            self.error = {"errorMessage": f"the worker was not ready within {limit_s:g} s"}
            self.kill()
        elif self._first.answer.error is not None:
            self.error = self._first.answer.error

    def ask(self, request: Mapping[str, Any], limit_s: float) -> Answer | None:
        """Send one invocation and return its response, or None if it takes longer than `limit_s`."""
        pending = _Pending()
        with self._lock:
            number = next(self._numbers)
            self._pending[number] = pending
        try:
            self._socket.sendall(json.dumps({**request, "n": number}).encode() + b"\n")
        except OSError:
            self._fail_all()
        return pending.answer if pending.done.wait(limit_s) else None

    def take_logs(self) -> tuple[str, ...]:
        """Return the complete lines written since the last call."""
        return self._child.take_logs()

    def peak_mb(self) -> float | None:
        """Return the peak resident memory in MiB, or None if it is unknown."""
        return self._child.peak_mb()

    def kill(self) -> None:
        """Kill the child and all processes in its session."""
        self._child.kill()
        self._ended.set()

    def close(self) -> None:
        """Kill the child and release its resources."""
        self._resources.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._lines:
                document = json.loads(line)
                if document["n"] == 0:
                    self.worker, self.functions = document["worker"], document.get("functions", [])
                self._settle(document["n"], Answer(document.get("answer"), document.get("error")))
        self._child.process.wait()
        self._ended.set()
        self._fail_all()

    def _settle(self, number: int, answer: Answer) -> None:
        with self._lock:
            pending = self._pending.pop(number, None)
        if pending is not None:
            pending.answer = answer
            pending.done.set()

    def _fail_all(self) -> None:
        status = self._child.process.poll()
        reason = "closed its connection" if status is None else f"exited with code {status}"
        error = {"errorType": "WorkerProcessExit", "errorMessage": f"the worker process {reason}"}
        for number in list(self._pending):
            self._settle(number, Answer(error=error))
