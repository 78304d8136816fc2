"""The one way to call a cloud: waits for the quota, counts the call, translates its error and retries within two
budgets.

The SDKs' own retries are off, so that only one layer retries a call.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import ParamSpec, TypeVar

from shared.errors import OutOfTime, ReportedError, Throttled, Transient
from shared.runtime.clock import Clock, Deadline
from shared.runtime.log import Log
from shared.runtime.rate_limit import Limiter, Rate

P = ParamSpec("P")
R = TypeVar("R")

TRIES = 5
BUDGET_S = 60.0  # seconds of waiting between the attempts of one call
FIRST_WAIT_S = 1.0


class Calls:
    """The calls of one run.

    `rates` names every quota with its documented rate; `translate` turns an SDK's exception into a ReportedError.
    `counts` maps each quota to the number of calls, including retries.
    """

    def __init__(
        self,
        rates: Mapping[str, Rate],
        translate: Callable[[Exception], ReportedError],
        clock: Clock,
        deadline: Deadline,
        log: Log,
        rng: random.Random,
    ) -> None:
        self._limiters = {quota: Limiter(rate, clock) for quota, rate in rates.items()}
        self._translate = translate
        self._clock = clock
        self._deadline = deadline
        self._log = log
        self._rng = rng
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    def __call__(self, quota: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` when `quota` allows it and return its result.

        Raises the translated ReportedError: a Transient one only after its attempts or seconds are used up, OutOfTime
        if the run's deadline comes first. Raises KeyError for a quota without a rate.
        """
        limiter = self._limiters[quota]
        waited = 0.0
        for attempt in range(1, TRIES + 1):
            limiter.acquire(self._deadline)
            with self._lock:
                self.counts[quota] += 1
            try:
                return function(*args, **kwargs)
            except Exception as cause:
                error = cause if isinstance(cause, ReportedError) else self._translate(cause)
                wait = self._wait_before_next(error, attempt)
                if isinstance(error, Throttled):
                    asked = error.retry_after if error.within_run else None
                    limiter.throttled(wait if wait is not None else asked.total_seconds() if asked else 0.0)
                    self._log("warning", "throttled", code=error.code, reason=quota, attempt=attempt)
                if wait is None or waited + wait > BUDGET_S:
                    raise error from cause
                if not self._deadline.allows(wait):
                    raise OutOfTime(f"{error.code} asks to wait {wait:.0f} s, past the deadline") from cause
                self._log("info", "call-retried", code=error.code, reason=quota, attempt=attempt)
            waited += wait
            self._clock.wait_until(self._clock.monotonic() + wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _wait_before_next(self, error: ReportedError, attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up."""
        if not isinstance(error, Transient) or not error.within_run or attempt == TRIES:
            return None
        backoff: float = FIRST_WAIT_S * 2 ** (attempt - 1) * self._rng.uniform(0.5, 1.5)
        if error.retry_after is None or self._deadline.closing:
            return backoff  # no time for the wait that the cloud requested: the lock has to be released
        return max(backoff, error.retry_after.total_seconds())


def jittered(base: timedelta, attempts: int, longest: timedelta, rng: random.Random) -> timedelta:
    """Return an exponential back-off: `base`, doubled for each attempt after the first, at most `longest`, ±20 %."""
    doubled = min(base * 2 ** min(max(0, attempts - 1), 20), longest)
    return timedelta(seconds=round(doubled.total_seconds() * rng.uniform(0.8, 1.2)))
