"""What runs in the foreground: it says how to reach it, and ends when it is told to, with all that it started."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

POLL_S = 0.01  # how often a local server looks whether it is to stop; stopping takes as long


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


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put SIGINT off while it lasts, so that what is started in it is known to those who have to end it.

    Does nothing on other threads than the main one: no signal interrupts them.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = threading.Event()
    signal.signal(signal.SIGINT, lambda _number, _frame: came.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came.is_set():
            signal.raise_signal(signal.SIGINT)


def announce(environment: Mapping[str, str], out: TextIO) -> None:
    """Write the `export NAME=value` lines that a shell takes, then `ready`."""
    for name, value in environment.items():
        out.write(f"export {name}={shlex.quote(value)}\n")
    out.write("ready\n")
    out.flush()
