"""Fault injection of the local GCP: errors, throttling, latency, hanging calls and lost responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from localcloud.common.event_faults import EventArrivals
from localcloud.common.faults import CountedFault, FaultInjector
from localcloud.gcp.errors import STATUS_OF_REASON, GoogleError
from shared.runtime.clock import Clock


@dataclass
class _Fault(CountedFault):
    """An error, a `hook` that runs before the call, or else a hang. `after`: the call takes effect first."""

    method: str
    resource: str
    error: GoogleError | None
    after: bool = False
    hook: Callable[[], None] | None = None


@dataclass
class _JobFault(CountedFault):
    kind: str
    reason: str
    message: str


class Faults(FaultInjector[_Fault]):
    """Faults in the order they were added; the first match applies.

    Methods are spelled as in the discovery documents (``storage.objects.insert``) and accept `*` wildcards, as does the
    path to which a fault can be limited. `times=None` means all further calls.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._jobs: list[_JobFault] = []
        self.tasks = EventArrivals(seed=2)

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
        """Fail the next matching calls with an error; they have no effect."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._put(_Fault(method, path, GoogleError(status, reason, message, headers=headers), left=times))

    def lose_answer(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Execute the next matching calls, then return 503, as if the response had been lost."""
        self._put(_Fault(method, path, GoogleError(503, "backendError", "Backend Error"), after=True, left=times))

    def hang(self, method: str, *, times: int | None = 1, path: str = "*") -> None:
        """Hang the next matching calls until the client gives up; they have no effect."""
        self._put(_Fault(method, path, None, left=times))

    def before(self, method: str, hook: Callable[[], None], *, times: int | None = 1, path: str = "*") -> None:
        """Run `hook`, for example a concurrent write, before each of the next matching calls."""
        self._put(_Fault(method, path, None, hook=hook, left=times))

    def fail_jobs(self, kind: str, reason: str, message: str = "", *, times: int | None = 1) -> None:
        """Fail the next accepted jobs of a kind (``query``, ``extract``) with a reason from `STATUS_OF_REASON`."""
        if reason not in STATUS_OF_REASON:
            raise ValueError(f"{reason} is not one of {', '.join(sorted(STATUS_OF_REASON))}")
        with self._lock:
            self._jobs.append(_JobFault(kind, reason, message or f"{reason}, injected by the local cloud", left=times))

    def throttle(self, method: str, *, per_second: float, burst: float = 1) -> None:
        """Throttle matching calls above `per_second` (after a `burst`) as the service does."""
        self._set_limit(method, per_second, burst)

    def latency(self, seconds: float, method: str = "*") -> None:
        """Advance the clock by `seconds` before each matching call is answered."""
        self._set_latency(method, seconds)

    def clear(self) -> None:
        """Remove all faults, limits and latencies."""
        super().clear()
        with self._lock:
            self._jobs.clear()

    def apply(self, method: str, path: str) -> bool:
        """Apply the first fault that matches a call and return whether it hangs. Raises the injected GoogleError."""
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
        """Return the injected error that replaces the response of an executed call, or None."""
        fault = self._next(method, path, after=True)
        return fault.error if fault else None

    def job(self, kind: str) -> tuple[str, str] | None:
        """Return the injected (reason, message) for a job that begins now, or None."""
        fault = self._take(self._jobs, lambda one: one.kind == kind)
        return (fault.reason, fault.message) if fault else None

    def _next(self, method: str, path: str, *, after: bool) -> _Fault | None:
        return self._take(
            self._faults,
            lambda one: one.after == after and fnmatchcase(method, one.method) and fnmatchcase(path, one.resource),
        )


def throttled(method: str) -> GoogleError:
    """Return the service's own error for too many calls."""
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
