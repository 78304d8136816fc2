"""A local cloud in the foreground: it says how to reach it, and ends when it is told to."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TextIO


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set while the context is open. Must be entered on the main thread."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def announce(environment: Mapping[str, str], out: TextIO) -> None:
    """Write the `export NAME=value` lines that a shell takes, then `ready`."""
    for name, value in environment.items():
        out.write(f"export {name}={shlex.quote(value)}\n")
    out.write("ready\n")
    out.flush()
