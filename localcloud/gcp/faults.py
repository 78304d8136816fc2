"""The faults of the local GCP: errors on demand, throttling, latency, and answers that never come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from localcloud.common.faults import FaultInjector, Order
from localcloud.gcp.errors import STATUS_OF_REASON, GoogleError
from shared.runtime.clock import Clock


@dataclass
class _Fault(Order):
    """An error; without one the call hangs, or `hook` runs before it. `after`: the call takes effect first."""

    method: str
    resource: str
    error: GoogleError | None
    after: bool = False
    hook: Callable[[], None] | None = None


@dataclass
class _JobFault(Order):
    kind: str
    reason: str
    message: str


class Faults(FaultInjector[_Fault]):
    """Faults in the order they were added; the first that fits happens.

    Methods are spelled as in the discovery documents (``storage.objects.insert``) and take `*` wildcards, as does the
    path to which a fault may be limited. `times=None` means all further calls.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._jobs: list[_JobFault] = []

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
        self._put(_Fault(method, path, GoogleError(status, reason, message, headers=headers), left=times))

    def lose_answer(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Carry the next matching calls out, then answer 503, as when an answer is lost on its way."""
        self._put(_Fault(method, path, GoogleError(503, "backendError", "Backend Error"), after=True, left=times))

    def hang(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Leave the next matching calls without any answer until the client gives up; they have no effect."""
        self._put(_Fault(method, path, None, left=times))

    def before(self, method: str, hook: Callable[[], None], *, times: int | None = 1, path: str = "*") -> None:
        """Run `hook` before the next matching calls, such as a concurrent write."""
        self._put(_Fault(method, path, None, hook=hook, left=times))

    def fail_jobs(self, kind: str, reason: str, message: str = "", *, times: int | None = 1) -> None:
        """Let the next accepted jobs of a kind (``query``, ``extract``) fail with a reason of BigQuery's table."""
        if reason not in STATUS_OF_REASON:
            raise ValueError(f"{reason} is not one of {', '.join(sorted(STATUS_OF_REASON))}")
        with self._lock:
            self._jobs.append(_JobFault(kind, reason, message or f"{reason}, injected by the local cloud", left=times))

    def throttle(self, method: str, *, per_second: float, burst: float = 1) -> None:
        """Refuse more than `per_second` matching calls (after a `burst`) as the service does."""
        self._set_limit(method, per_second, burst)

    def latency(self, seconds: float, method: str = "*") -> None:
        """Let `seconds` pass on the clock before each matching call is answered."""
        self._set_latency(method, seconds)

    def clear(self) -> None:
        """Remove all faults, limits and latencies."""
        super().clear()
        with self._lock:
            self._jobs.clear()

    def meet(self, method: str, path: str) -> bool:
        """Apply the faults that match a call; returns whether it hangs. Raises GoogleError where it fails."""
        self._wait(method)
        if self._over_limit(method):
            raise throttled(method)
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
        fault = self._next(method, path, after=True)
        return fault.error if fault else None

    def job(self, kind: str) -> tuple[str, str] | None:
        """Return (reason, message) with which a job that begins now is to fail, or None."""
        fault = self._take(self._jobs, lambda one: one.kind == kind)
        return (fault.reason, fault.message) if fault else None

    def _next(self, method: str, path: str, *, after: bool) -> _Fault | None:
        return self._take(
            self._faults,
            lambda one: one.after == after and fnmatchcase(method, one.method) and fnmatchcase(path, one.resource),
        )


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
