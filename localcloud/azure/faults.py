"""Fault injection for the local Azure: errors and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from localcloud.azure.errors import ArmError
from localcloud.common.faults import CountedFault, FaultInjector


class Attempt(NamedTuple):
    """A request that faults are matched against; `resource` is the path without query, header names are lowercase."""

    app: str
    method: str
    action: str
    resource: str
    headers: Mapping[str, str]
    at: float


@dataclass
class Fault(CountedFault):
    """An error response to inject. With `after`, the call takes effect and only its response is lost."""

    action: str
    resource: str
    error: ArmError
    when: Callable[[Attempt], bool] | None
    after: bool

    def matches(self, attempt: Attempt) -> bool:
        """Return whether the fault matches a request."""
        return (
            fnmatchcase(attempt.action.lower(), self.action.lower())
            and fnmatchcase(attempt.resource.lower(), self.resource.lower())
            and (self.when is None or self.when(attempt))
        )


class Faults(FaultInjector[Fault]):
    """The injected faults in the order they were added; the first match applies. Patterns are case-insensitive."""

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
        """Respond to the next `times` matching calls (None: all) with the error.

        The calls take effect only with `after`.
        """
        return self._put(Fault(action, resource, ArmError(status, code, message, headers), when, after, left=times))

    def latency(self, seconds: float, action: str = "*") -> None:
        """Delay the response to each matching call by `seconds` on the local clock."""
        self._set_latency(action.lower(), seconds)

    def delay(self, action: str) -> None:
        """Wait for the latency of an action."""
        self._wait(action.lower())

    def apply(self, attempt: Attempt, after: bool = False) -> None:
        """Raise the ArmError that is injected for this request, if any."""
        fault = self._take(self._faults, lambda one: one.after == after and one.matches(attempt))
        if fault is not None:
            raise fault.error
