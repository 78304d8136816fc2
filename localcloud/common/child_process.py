"""The child processes in which functions run: their start and end, their output, and their memory."""

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
    """Collects a child's output, so that it never blocks on a full pipe, and hands it out by invocation."""

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

        What a child wrote before it answered is in the pipe by then, so draining here loses nothing.
        """
        with self._lock:
            self._drain()
            text = bytes(self._buffer).decode("utf-8", "replace")
            self._buffer.clear()
            self._passed = 0
        return tuple(line for line in text.split("\n") if line)

    def wait_end(self, limit_s: float) -> None:
        """Wait until no process can write any more, for at most `limit_s`; the reader itself does not wait."""
        if self._thread is not threading.current_thread():
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
            self._pass_on()

    def _pass_on(self) -> None:
        """Give complete lines to `on_line`."""
        end = self._buffer.rfind(b"\n") + 1
        if self._on_line is not None and end > self._passed:
            for line in self._buffer[self._passed : end].decode("utf-8", "replace").splitlines():
                self._on_line(line)
            self._passed = end


class ChildProcess:
    """A child in a session of its own, with an empty home directory, whose output is collected.

    The empty home keeps the operator's own cloud configuration out of the function's sight. The child ends, with
    everything that it started, when it is closed, and when this process is killed.
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
        """Start the command; `env` is its whole environment, but for the home directory."""
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
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for above
        self._stack.callback(process.stdout.close)
        self._logs = LogPipe(process.stdout.fileno(), on_line, f"{self._name}-logs")
        self._stack.callback(self._logs.close)
        self._stack.callback(self.kill)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def take_logs(self) -> tuple[str, ...]:
        """Return the complete lines written since the last call."""
        return self._logs.take()

    def peak_mb(self) -> float | None:
        """Return the most that one of its processes held in MiB; None where it is unknown or the process is gone.

        A server may fork, and the fork shares its memory.
        """
        if not self.alive:
            return None
        return max(
            (found for pid in family_of(self.process.pid) if (found := peak_mb_of(pid)) is not None), default=None
        )

    def kill(self) -> None:
        """End the child and whatever it started, from any thread; one that has ended is left alone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        # The output ends when the last process that could write to it is gone.
        self._logs.wait_end(10)

    def close(self) -> None:
        """Kill the child and remove its home."""
        self._stack.close()


def peak_mb_of(pid: int) -> float | None:
    """Return the peak resident memory of a running process in MiB, None where /proc is missing."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def family_of(pid: int) -> Iterator[int]:
    """Yield a process and its running descendants; only itself where /proc is missing."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            yield from family_of(int(child))
