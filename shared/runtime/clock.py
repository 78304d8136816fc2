"""Clocks and deadlines. Clocks are passed in, so that tests and simulations control the time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall time (UTC, whole seconds), a monotonic time in seconds, and waiting until a monotonic time."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    def wait_until(self, moment: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait_until(self, moment: float) -> None:
        seconds = moment - time.monotonic()
        if seconds > 0:
            time.sleep(seconds)


class VirtualClock:
    """A clock that moves only when a caller waits or advances it.

    `wait_until` takes a moment, not a duration, so that ten threads that wait for the same moment move the clock once,
    as on a real machine.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 5, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return (self._start + timedelta(seconds=self.monotonic())).replace(microsecond=0)

    def monotonic(self) -> float:
        with self._lock:
            return self._elapsed

    def wait_until(self, moment: float) -> None:
        with self._lock:
            self._elapsed = max(self._elapsed, moment)

    def advance(self, seconds: float) -> None:
        """Move the clock forward by `seconds`."""
        with self._lock:
            self._elapsed += seconds


class Deadline:
    """The time by which a run's work must end; `reserve` is the time in seconds kept for saving and reporting."""

    def __init__(self, clock: Clock, seconds: float, reserve: float = 0.0) -> None:
        self._clock = clock
        self._end = clock.monotonic() + seconds - reserve
        self._reserve = reserve
        self.closing = False  # true once work has ended and only saving and reporting remain

    def use_reserve(self) -> None:
        """Make the reserve available after the work has ended: all of it, even if a call overran the deadline."""
        self.closing = True
        self._end = max(self._end, self._clock.monotonic()) + self._reserve
        self._reserve = 0.0

    def remaining(self) -> float:
        """Return the seconds left for work; negative after the deadline."""
        return self._end - self._clock.monotonic()

    def allows(self, seconds: float) -> bool:
        """Return whether work that takes `seconds` may still begin."""
        return self.remaining() >= seconds
