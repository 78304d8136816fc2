"""Ends the function's process with SIGKILL before or after the answer of a call, whichever call it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from localcloud.common.http_server import Request, Response
from localcloud.common.watchdog import WATCHDOG
from localcloud.common.wire_faults import WireFault
from tests.crash.entries import Payload
from tests.limits import HANG_S

ROOT = Path(__file__).resolve().parents[2]
WAYS = ("killed before", "killed after")


class Victim:
    """Runs a function in a process of its own for each call; a context manager.

    All of them are forks of one process that has imported the function. Raises RuntimeError if that process ends.
    """

    def __init__(self, cloud: str, environment: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", "tests.crash.entries", cloud]
        self._environment = dict(environment)
        self._pid = 0
        self._known = threading.Event()

    def __enter__(self) -> Self:
        reading, writing = os.pipe()
        self._control = os.fdopen(reading, encoding="ascii")
        self._output = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [*self._command, str(writing)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **self._environment},
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        self._watched = WATCHDOG.over(self._process.pid)
        self._watched.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(HANG_S)
        self._watched.__exit__(None, None, None)
        self._control.close()
        self._output.close()

    def call(self, payload: Payload, clock: str) -> tuple[bool, str]:
        """Call the function and wait for its process; return whether it was killed, and its output."""
        assert self._process.stdin is not None
        self._output.truncate(0)
        self._known.clear()
        self._process.stdin.write(json.dumps({"payload": payload, "clock": clock}).encode() + b"\n")
        self._process.stdin.flush()
        self._pid = int(self._line())
        self._known.set()
        status = int(self._line())
        self._output.seek(0)
        return os.WIFSIGNALED(status), self._output.read().decode("utf-8", "replace").replace("\0", "")

    def _line(self) -> str:
        line = self._control.readline()
        if not line:
            self._output.seek(0)
            raise RuntimeError(f"the process of the function ended: {self._output.read().decode()[-2000:]}")
        return line

    def kill(self) -> None:
        """Kill the process of the running call; called by the cloud that received a call of it."""
        self._known.wait(HANG_S)
        os.kill(self._pid, signal.SIGKILL)

    def fault(self, way: str, call: int) -> WireFault:
        """Return the fault that kills the process before the cloud handles a call, or before it answers it."""
        if way == "killed before":
            return WireFault(range(call, call + 1), before=self._instead)
        return WireFault(range(call, call + 1), after=self._afterwards)

    def _instead(self, _request: Request) -> Response:
        self.kill()
        return Response(lost=True)

    def _afterwards(self, _request: Request, _response: Response) -> Response:
        self.kill()
        return Response(lost=True)


Call = Callable[[Payload, str], tuple[bool, str]]
__all__ = ["WAYS", "Any", "Victim"]
