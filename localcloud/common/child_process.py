"""Child processes that run functions: start, stop, collect output, and measure memory."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from localcloud.common.watchdog import WATCHDOG


class LogPipe:
    """Collects a child's output so that the child never blocks on a full pipe."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None] | None = None, name: str = "logs") -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._on_line = on_line
        self._passed = 0
        self._open = True
        self._thread = threading.Thread(target=self._collect, name=name, daemon=True)
        self._thread.start()

    def take(self) -> tuple[str, ...]:
        """Return the complete lines written since the last call.

        Everything a child wrote before it answered is already in the pipe, so draining it here loses nothing.
        """
        with self._lock:
            self._drain()
            text = bytes(self._buffer).decode("utf-8", "replace")
            self._buffer.clear()
            self._passed = 0
        return tuple(line for line in text.split("\n") if line)

    def wait_end(self, limit_s: float) -> None:
        """Wait at most `limit_s` seconds until no process can write; returns immediately on the reader thread."""
        if self._thread is not threading.current_thread():
            self._thread.join(limit_s)

    def close(self) -> None:
        """Stop reading. The caller closes the pipe."""
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
        """Read all available output; returns False at end of file."""
        while True:
            try:
                chunk = os.read(self._descriptor, 65_536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._buffer += chunk
            self._pass_on()

    def _pass_on(self) -> None:
        """Pass complete lines to `on_line`."""
        end = self._buffer.rfind(b"\n") + 1
        if self._on_line is not None and end > self._passed:
            for line in self._buffer[self._passed : end].decode("utf-8", "replace").splitlines():
                self._on_line(line)
            self._passed = end


class ChildProcess:
    """A child process in its own session, with an empty home directory and its output collected.

    The empty home directory hides the operator's cloud configuration from the function. The child and all of its
    descendants are killed when it is closed, or when this process is killed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._stack = contextlib.ExitStack()
        home = tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        self.home = Path(self._stack.enter_context(home))

    def start(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """Start the command with only `env`, HOME and TMPDIR as its environment."""
        process = self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={"HOME": str(self.home), "TMPDIR": str(self.home), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._stack.enter_context(WATCHDOG.over(process.pid))
        assert process.stdout is not None  # noqa: S101 - PIPE was requested above
        self._stack.callback(process.stdout.close)
        self._logs = LogPipe(process.stdout.fileno(), on_line, f"{self._name}-logs")
        self._stack.callback(self._logs.close)
        self._stack.callback(self.kill)

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.process.poll() is None

    def take_logs(self) -> tuple[str, ...]:
        """Return the complete lines written since the last call."""
        return self._logs.take()

    def peak_mb(self) -> float | None:
        """Return the peak memory of its largest process in MiB; None if unknown or if the child has exited.

        Processes are not added up: a server may fork, and a fork shares its parent's memory.
        """
        if not self.alive:
            return None
        return max(
            (peak for pid in process_tree(self.process.pid) if (peak := peak_mb_of(pid)) is not None), default=None
        )

    def kill(self) -> None:
        """Kill the child and its descendants, from any thread; does nothing if it has already exited."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        # The output ends when the last process that can write to it exits.
        self._logs.wait_end(10)

    def close(self) -> None:
        """Kill the child and remove its home directory."""
        self._stack.close()


def peak_mb_of(pid: int) -> float | None:
    """Return the peak resident memory of a running process in MiB, None without /proc."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def process_tree(pid: int) -> Iterator[int]:
    """Yield a process id and those of its running descendants; only `pid` itself without /proc."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            yield from process_tree(int(child))
