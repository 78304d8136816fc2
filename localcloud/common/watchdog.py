"""Kill the children of a process that was killed or crashed and could not stop them itself.

Each process has one watchdog process and sends it the id of each child through a pipe. The pipe closes when its owner
exits, and the watchdog then kills the process groups of the children that are still registered.
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
    """Starts its process with the first child. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def over(self, leader: int) -> Iterator[None]:
        """While the context is open, kill the process group with leader pid `leader` if this process dies."""
        self._send(f"+{leader}\n")
        try:
            yield
        finally:
            self._send(f"-{leader}\n")

    def start(self) -> None:
        """Start the watchdog now instead of with the first child."""
        with self._lock:
            self._started()

    def _send(self, line: str) -> None:
        with self._lock:
            pipe = self._started().stdin
            assert pipe is not None  # noqa: S101 - it was started with stdin=PIPE
            # The watchdog may have been killed. Everything still works, but a crash would leave children behind.
            with contextlib.suppress(BrokenPipeError):
                pipe.write(line.encode())
                pipe.flush()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # Its own session shields it from terminal signals. It needs only the standard library.
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
        """Stop the watchdog, which kills the children that are still registered."""
        with self._lock:
            if self._process is not None:
                atexit.unregister(self.close)
                with contextlib.suppress(BrokenPipeError):
                    self._process.communicate()
                self._process = None


def keep(lines: Iterable[str]) -> None:
    """Read the owner's lines until end of file, then kill the process groups that are still registered."""
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
