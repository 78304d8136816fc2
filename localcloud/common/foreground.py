"""Run in the foreground: announce the variables of a local cloud, and end cleanly on a signal."""

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

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal was closed
POLL_S = 0.01  # how often a local server looks whether it is to stop; stopping takes as long
WRITTEN = "# Written by a local cloud, which removes it when it ends."


@contextmanager
def handled(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Let `handler` take these signals while the context is open; only for the main thread."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Yield an event that SIGINT, SIGTERM and SIGHUP set while the context is open; only for the main thread."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    # What nohup has set to be ignored stays so; a shell ignores SIGINT for each of its background jobs, asked or not.
    kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    with handled([number for number in ENDING if number not in kept], end):
        yield stop


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay ending signals while the context is open, so that what is started in it is always ended.

    Does nothing on other threads than the main one: no signal interrupts them.
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
    """Refuse a file that the variables cannot or must not be written to.

    Raises OSError where its folder is missing or closed, ValueError where the file is not ours to replace and remove.
    """
    if not file.parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no such folder", str(file.parent))
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file.parent))
    if file.exists() and (not file.is_file() or not _replaceable(file)):
        raise ValueError(f"{file} exists and was not written by a local cloud: remove it, or name another file")


@contextmanager
def announced(environment: Mapping[str, str], out: TextIO, file: Path | None = None) -> Iterator[None]:
    """Write the `export NAME=value` lines that a shell reads, then `ready`; for the time that the context is open.

    With `file` the lines go there, whole or not at all and readable by their owner alone, before `ready` is written.
    The file is removed at the end, unless something else was written to it meanwhile: what it names is gone by then,
    and another program may get the port. Raises OSError and ValueError as `check_file` does.
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
    """Return whether a file is empty, or was left behind by a local cloud that was killed."""
    with file.open("rb") as opened:
        return opened.readline(len(WRITTEN) + 2).rstrip(b"\n") in (b"", WRITTEN.encode())


def _write(file: Path, text: str) -> None:
    """Replace a file in one step; a temporary file is readable by its owner alone from the beginning."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
