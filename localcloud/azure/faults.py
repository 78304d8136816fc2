"""The faults of the local Azure: errors on demand, and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from localcloud.azure.errors import ArmError
from localcloud.common.faults import FaultInjector, Order


class Attempt(NamedTuple):
    """A request as a fault sees it; `resource` is the path without query, header names are lower-case."""

    app: str
    method: str
    action: str
    resource: str
    headers: Mapping[str, str]
    at: float


@dataclass
class Fault(Order):
    """An error to respond with. With `after`, the call takes effect and its response is lost."""

    action: str
    resource: str
    error: ArmError
    when: Callable[[Attempt], bool] | None
    after: bool

    def fits(self, attempt: Attempt) -> bool:
        """Return whether the fault matches a request."""
        return (
            fnmatchcase(attempt.action.lower(), self.action.lower())
            and fnmatchcase(attempt.resource.lower(), self.resource.lower())
            and (self.when is None or self.when(attempt))
        )


class Faults(FaultInjector[Fault]):
    """Faults in the order they were added; the first that fits answers. Patterns ignore case."""

    def add(
        self,
        action: str,
        code: str,
        message: str = "injected by the local cloud",
        *,
        status: int = 500,
        times: int | None = 1,
        resource: str = "*",
        headers: Mapping[str, str] | None = None,
        when: Callable[[Attempt], bool] | None = None,
        after: bool = False,
    ) -> Fault:
        """Answer the next `times` matching calls (None: all) with the error; they have no effect, unless `after`."""
        return self._put(Fault(action, resource, ArmError(status, code, message, headers), when, after, left=times))

    def latency(self, seconds: float, action: str = "*") -> None:
        """Let `seconds` pass on the local clock before each matching call is answered."""
        self._set_latency(action.lower(), seconds)

    def delay(self, action: str) -> None:
        """Let the latency of an action pass."""
        self._wait(action.lower())

    def meet(self, attempt: Attempt, after: bool = False) -> None:
        """Raise the ArmError that was ordered for this request, if any."""
        fault = self._take(self._faults, lambda one: one.after == after and one.fits(attempt))
        if fault is not None:
            raise fault.error
