"""Everything that can be made to go wrong: errors on demand, throttling, latency, and answers that never come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from localcloud.common.corrupted_answers import SpoiledAnswers
from localcloud.gcp.errors import STATUS_OF_REASON, GoogleError
from shared.runtime.clock import Clock


@dataclass
class _Fault:
    method: str
    resource: str
    error: GoogleError | None
    left: int | None
    after: bool
    hook: Callable[[], None] | None = None


@dataclass
class _JobFault:
    kind: str
    reason: str
    message: str
    left: int | None


@dataclass
class _Bucket:
    rate: float
    burst: float
    tokens: float
    at: float


class Faults(SpoiledAnswers):
    """Faults in the order they were added; the first that fits happens.

    Methods are spelled as in the discovery documents (``storage.objects.insert``) and take `*` wildcards, as does the
    path to which a fault may be limited. `times=None` is for ever.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__()
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self._jobs: list[_JobFault] = []
        self._buckets: dict[str, _Bucket] = {}
        self._latency: dict[str, float] = {}

    def add(
        self,
        method: str,
        status: int,
        reason: str,
        message: str = "injected by the local cloud",
        *,
        times: int | None = 1,
        path: str = "*",
        retry_after: int | None = None,
    ) -> None:
        """Answer the next matching calls with an error; they have no effect."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        error = GoogleError(status, reason, message, headers=headers)
        self._put(_Fault(method, path, error, times, after=False))

    def lose_answer(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Carry the next matching calls out, then answer 503, as when an answer is lost on its way."""
        self._put(_Fault(method, path, GoogleError(503, "backendError", "Backend Error"), times, after=True))

    def hang(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Leave the next matching calls without any answer until the client gives up; they have no effect."""
        self._put(_Fault(method, path, None, times, after=False))

    def before(self, method: str, hook: Callable[[], None], *, times: int | None = 1, path: str = "*") -> None:
        """Run `hook` before the next matching calls: what somebody else does at the worst moment."""
        self._put(_Fault(method, path, None, times, after=False, hook=hook))

    def fail_jobs(self, kind: str, reason: str, message: str = "", *, times: int | None = 1) -> None:
        """Let the next accepted jobs of a kind (``query``, ``extract``) fail with a reason of BigQuery's table."""
        if reason not in STATUS_OF_REASON:
            raise ValueError(f"{reason} is none of {', '.join(sorted(STATUS_OF_REASON))}")
        with self._lock:
            self._jobs.append(_JobFault(kind, reason, message or f"{reason}, injected by the local cloud", times))

    def throttle(self, method: str, *, per_second: float, burst: float = 1) -> None:
        """Refuse more than `per_second` matching calls (after a `burst`) as the service does."""
        with self._lock:
            self._buckets[method] = _Bucket(per_second, burst, burst, self._clock.monotonic())

    def latency(self, seconds: float, method: str = "*") -> None:
        """Let `seconds` pass on the clock before each matching call is answered."""
        with self._lock:
            self._latency[method] = seconds

    def clear(self) -> None:
        self.restore()
        with self._lock:
            self._faults.clear()
            self._jobs.clear()
            self._buckets.clear()
            self._latency.clear()

    def meet(self, method: str, path: str) -> bool:
        """Let happen what was ordered; returns whether to hang. Raises GoogleError when the call is to fail."""
        with self._lock:
            delay = sum(seconds for pattern, seconds in self._latency.items() if fnmatchcase(method, pattern))
        if delay:
            self._clock.wait_until(self._clock.monotonic() + delay)
        with self._lock:
            for pattern, bucket in self._buckets.items():
                if fnmatchcase(method, pattern):
                    self._take(bucket, method)
            fault = self._next(method, path, after=False)
        if fault is None:
            return False
        if fault.hook:
            fault.hook()
            return False
        if fault.error:
            raise fault.error
        return True

    def lost(self, method: str, path: str) -> GoogleError | None:
        """Return the error that replaces the answer of a call which was carried out, if one was ordered."""
        with self._lock:
            fault = self._next(method, path, after=True)
        return fault.error if fault else None

    def job(self, kind: str) -> tuple[str, str] | None:
        """Return (reason, message) with which a job that begins now is to fail, or None."""
        with self._lock:
            for fault in self._jobs:
                if fault.kind == kind and fault.left != 0:
                    if fault.left is not None:
                        fault.left -= 1
                    return fault.reason, fault.message
        return None

    def _put(self, fault: _Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def _next(self, method: str, path: str, *, after: bool) -> _Fault | None:
        for fault in self._faults:
            fits = fnmatchcase(method, fault.method) and fnmatchcase(path, fault.resource)
            if fits and fault.after == after and fault.left != 0:
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def _take(self, bucket: _Bucket, method: str) -> None:
        now = self._clock.monotonic()
        bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.at) * bucket.rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise throttled(method)
        bucket.tokens -= 1


def throttled(method: str) -> GoogleError:
    """Return each service's own word for too many calls."""
    if method.startswith("bigquery."):
        return GoogleError(
            403,
            "rateLimitExceeded",
            "Exceeded rate limits: too many api requests per user per method for this user_method. For more "
            "information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
        )
    if method.startswith("storage."):
        return GoogleError(429, "rateLimitExceeded", "The rate of requests exceeds what this bucket can serve now.")
    return GoogleError(429, "rateLimitExceeded", f"Quota exceeded for quota metric 'Requests' of {method}.")
