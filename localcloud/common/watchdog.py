"""End the children of a process that was killed or crashed, and so could not end them itself.

A process has one watchdog: a process that learns of each child through a pipe. When the pipe closes, its owner is gone,
and the watchdog kills the process groups of the children that are still registered.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Started with the first child; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def over(self, leader: int) -> Iterator[None]:
        """Register the process group of `leader`, its pid, while the context is open: it ends with this process."""
        self._send(f"+{leader}\n")
        try:
            yield
        finally:
            self._send(f"-{leader}\n")

    def start(self) -> None:
        """Start the watchdog now, not with the first child."""
        with self._lock:
            self._started()

    def _send(self, line: str) -> None:
        with self._lock:
            pipe = self._started().stdin
            assert pipe is not None  # noqa: S101 - it was started with one
            # Without a watchdog, which may have been killed, everything still works; only a crash leaves children.
            with contextlib.suppress(BrokenPipeError):
                pipe.write(line.encode())
                pipe.flush()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Its own session keeps it from the signals of a terminal. It needs nothing but the standard library.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            atexit.register(self.close)
        return self._process

    def close(self) -> None:
        """End the watchdog, and with it the children that are still registered."""
        with self._lock:
            if self._process is not None:
                atexit.unregister(self.close)
                with contextlib.suppress(BrokenPipeError):
                    self._process.communicate()
                self._process = None


def keep(lines: Iterable[str]) -> None:
    """Read an owner's lines to their end, then kill the groups of the children that are still registered."""
    left: set[int] = set()
    for line in lines:
        change = left.add if line.startswith("+") else left.discard
        change(int(line[1:]))
    for leader in left:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


WATCHDOG = Watchdog()

if __name__ == "__main__":
    keep(sys.stdin)
