"""What is common to the child processes in which functions run: their output, and their memory."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


class LogPipe:
    """Collects a child's output, so that it never blocks on a full pipe, and hands it out by invocation."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None] | None = None, name: str = "logs") -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._on_line = on_line
        self._told = 0
        self._open = True
        self._thread = threading.Thread(target=self._collect, name=name, daemon=True)
        self._thread.start()

    def take(self) -> tuple[str, ...]:
        """Return the complete lines written since the last call.

        What a child wrote before it answered is in the pipe by then, so draining here loses nothing.
        """
        with self._lock:
            self._drain()
            text = bytes(self._buffer).decode("utf-8", "replace")
            self._buffer.clear()
            self._told = 0
        return tuple(line for line in text.split("\n") if line)

    def wait_end(self, limit_s: float) -> None:
        """Wait until nobody can write any more, at most so long."""
        self._thread.join(limit_s)

    def close(self) -> None:
        """Stop reading; the pipe itself is the caller's."""
        with self._lock:
            self._open = False
        self._thread.join(10)

    def _collect(self) -> None:
        while True:
            readable, _, _ = select.select([self._descriptor], [], [], 0.1)
            with self._lock:
                if not self._open:
                    return
                if readable and not self._drain():
                    return

    def _drain(self) -> bool:
        """Read what is there; False at the end of the output."""
        while True:
            try:
                chunk = os.read(self._descriptor, 65_536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._buffer += chunk
            self._tell()

    def _tell(self) -> None:
        """Pass on the lines that are complete by now."""
        end = self._buffer.rfind(b"\n") + 1
        if self._on_line is not None and end > self._told:
            for line in self._buffer[self._told : end].decode("utf-8", "replace").splitlines():
                self._on_line(line)
            self._told = end


def peak_mb_of(pid: int) -> float | None:
    """Return the peak resident memory of a running process in MiB, None where /proc does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def family_of(pid: int) -> Iterator[int]:
    """Yield a process and its running descendants; only itself where /proc does not tell."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            yield from family_of(int(child))
