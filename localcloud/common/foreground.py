"""Run a local cloud in the foreground: print its environment variables and stop cleanly on a signal."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed
POLL_S = 0.01  # how often a local server checks whether to stop; stopping takes up to this long
WRITTEN = "# Written by a local cloud, which removes it when it ends."


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle these signals with `handler` while the context is open; main thread only."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set while the context is open; main thread only."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    # Signals that nohup ignores stay ignored. SIGINT is handled anyway: shells ignore it for every background job.
    kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    with handled([number for number in ENDING if number not in kept], end):
        yield stop


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay termination signals while the context is open, so that everything started in it is also stopped.

    Does nothing outside the main thread, because signals do not interrupt other threads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    raising = [number for number in ENDING if callable(signal.getsignal(number))]
    try:
        with handled(raising, lambda number, _frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def check_file(file: Path) -> None:
    """Check that the variables can be written to a file.

    Raises OSError if its folder is missing or not writable, ValueError if the file exists and no local cloud wrote it.
    """
    if not file.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no such folder", str(file.parent))
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file.parent))
    if file.exists() and (not file.is_file() or not _replaceable(file)):
        raise ValueError(f"{file} exists and was not written by a local cloud: remove it, or choose another file")


@contextmanager
def announced(environment: Mapping[str, str], out: TextIO, file: Path | None = None) -> Iterator[None]:
    """Write shell lines `export NAME=value`, then `ready`; a context manager.

    With `file`, the lines are written there atomically, readable only by the owner, before `ready` is written.
    The file is removed when the context closes, because its endpoint no longer exists and another program may reuse
    the port. A file that was changed in the meantime is kept. Raises OSError and ValueError as `check_file` does.
    """
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    if file is None:
        out.write(f"{lines}ready\n")
        out.flush()
        yield
        return
    check_file(file)
    text = f"{WRITTEN}\n{lines}"
    _write(file, text)
    try:
        out.write("ready\n")
        out.flush()
        yield
    finally:
        with suppress(OSError, UnicodeDecodeError):
            if file.read_text(encoding="utf-8") == text:
                file.unlink()


def _replaceable(file: Path) -> bool:
    """Return whether a file is empty or a leftover of a killed local cloud."""
    with file.open("rb") as opened:
        return opened.readline(len(WRITTEN) + 2).rstrip(b"\n") in (b"", WRITTEN.encode())


def _write(file: Path, text: str) -> None:
    """Replace a file atomically. The temporary file is created readable only by its owner."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
