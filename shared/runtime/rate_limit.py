"""One token bucket per quota, shared by all threads and adjusted by the cloud's throttling responses.

Callers do not poll: each reserves the bucket's next free moment and waits for it. A throttling response halves the rate
and pauses the bucket; the rate recovers linearly to the documented one.
"""

from __future__ import annotations

import threading

import msgspec

from shared.errors import OutOfTime
from shared.runtime.clock import Clock, Deadline

RECOVERY_S = 120.0  # seconds to recover from zero to the documented rate
FLOOR = 0.05  # the lowest share of the documented rate
LONGEST_PAUSE_S = 60.0  # quotas are per minute; a longer wait concerns one target and does not stop the others
SAME_BURST_S = 1.0  # throttling responses this close together count once: their calls were in flight together


class Rate(msgspec.Struct, frozen=True):
    """A documented quota: `per_second` calls, of which `burst` may be made at once."""

    per_second: float
    burst: int = 1


class Limiter:
    """The token bucket of one quota."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._due = clock.monotonic()  # when the bucket would be full again, less the burst
        self._paused_until = self._due
        self._throttled_at = float("-inf")
        self._slowed_to = 1.0

    def share(self) -> float:
        """Return the fraction of the documented rate (0–1) that applies now."""
        with self._lock:
            return self._share(self._clock.monotonic())

    def acquire(self, deadline: Deadline) -> None:
        """Wait for this caller's turn. Raises OutOfTime, without using the turn, if it is after the deadline.

        Once work has ended, no caller is refused: the few calls that save the state and release the lock are made at
        once if their turn would come too late, since a leftover lock stops the next runs.
        """
        with self._lock:
            now = self._clock.monotonic()
            share = self._share(now)
            step = 1.0 / (self._rate.per_second * share)
            burst = (self._rate.burst - 1) * step if share == 1.0 else 0.0
            due = max(self._due, now, self._paused_until)
            moment = max(now, self._paused_until, due - burst)
            if not deadline.allows(moment - now):
                if deadline.closing:
                    return
                raise OutOfTime(f"the next call is allowed in {moment - now:.0f} s, after this run's deadline")
            self._due = due + step
        self._clock.wait_until(moment)

    def throttled(self, pause: float) -> None:
        """Slow down after a throttling response that requested a pause of `pause` seconds.

        The quota waits at most LONGEST_PAUSE_S, so that a request to wait a day for one scope does not stop the others.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now - self._throttled_at >= SAME_BURST_S:
                self._slowed_to = max(FLOOR, self._share(now) / 2)
                self._throttled_at = now
            self._paused_until = max(self._paused_until, now + min(pause, LONGEST_PAUSE_S))

    def _share(self, now: float) -> float:
        recovering = max(0.0, now - max(self._throttled_at, self._paused_until))
        return min(1.0, self._slowed_to + recovering / RECOVERY_S)
