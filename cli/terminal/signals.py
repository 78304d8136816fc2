"""How a command ends when it is told to: by leaving what it has opened."""

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
    """Let SIGTERM and SIGHUP leave every open context, as Ctrl-C does, and end the process with 128 + their number.

    A signal that is ignored, or that somebody else handles, stays so; on other threads than the main one all do.
    """

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    here = threading.current_thread() is threading.main_thread()
    ours = [one for one in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(one) is signal.SIG_DFL]
    with handled(ours, leave):
        yield
