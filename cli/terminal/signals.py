"""Ends a command on a signal, leaving every open context."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from localcloud.common.foreground import handled


@contextmanager
def unwinding() -> Iterator[None]:
    """Make SIGTERM and SIGHUP leave every open context, as Ctrl-C does, and end the process with 128 + their number.

    Signals that are ignored or handled elsewhere keep their handlers; outside the main thread, all do.
    """

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    here = threading.current_thread() is threading.main_thread()
    ours = [one for one in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(one) is signal.SIG_DFL]
    with handled(ours, leave):
        yield
