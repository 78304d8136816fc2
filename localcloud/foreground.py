"""What runs in the foreground: it says how to reach it, and ends when it is told to, with all that it started."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal was closed
POLL_S = 0.01  # how often a local server looks whether it is to stop; stopping takes as long


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
    """Put off what an ending signal raises while it lasts: what is started in it is known to who has to end it.

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


def announce(environment: Mapping[str, str], out: TextIO) -> None:
    """Write the `export NAME=value` lines that a shell takes, then `ready`."""
    for name, value in environment.items():
        out.write(f"export {name}={shlex.quote(value)}\n")
    out.write("ready\n")
    out.flush()
