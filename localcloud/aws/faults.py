"""The faults of the local AWS: injected errors, denials, throttling and latency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from localcloud.aws.errors import AwsError, denied, throttled
from localcloud.aws.iam.caller import Identity
from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.common.faults import CountedFault, FaultInjector
from shared.runtime.clock import Clock


@dataclass(frozen=True)
class Attempt:
    """The parts of a request that faults match: caller, operation, parameters and (lower-case) HTTP headers."""

    identity: Identity
    service: str
    operation: str
    needs: tuple[RequiredAction, ...]
    params: dict[str, Any]
    headers: dict[str, str]
    context: dict[str, str]

    @property
    def account(self) -> str:
        return self.identity.account

    @property
    def principal(self) -> str:
        return self.identity.principal

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(need.action for need in self.needs)


@dataclass
class Fault(CountedFault):
    """An error to return instead of executing the call."""

    service: str
    operation: str
    error: AwsError
    account: str | None
    when: Callable[[Attempt], bool] | None

    def matches(self, attempt: Attempt) -> bool:
        """Return whether the fault matches a request."""
        return (
            fnmatchcase(attempt.service, self.service)
            and fnmatchcase(attempt.operation, self.operation)
            and self.account in (None, attempt.account)
            and (self.when is None or self.when(attempt))
        )


class Faults(FaultInjector[Fault]):
    """Faults in the order they were added; the first match applies.

    `service` and `operation` accept `*` wildcards. Operations are named as in boto3's API reference (`CreateExport`).
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._denials: list[tuple[str, str, str | None]] = []

    def add(
        self,
        service: str,
        operation: str,
        error_code: str,
        *,
        message: str = "injected by the local cloud",
        times: int | None = 1,
        account: str | None = None,
        when: Callable[[Attempt], bool] | None = None,
        status: int = 0,
    ) -> Fault:
        """Fail the next `times` matching calls (None: all) with `error_code`; the calls have no effect."""
        return self._put(Fault(service, operation, AwsError(error_code, message, status), account, when, left=times))

    def deny(self, action: str, *, resource: str = "*", account: str | None = None) -> None:
        """Refuse an IAM action (`s3:PutBucketPolicy`, wildcards allowed) with the service's access-denied code."""
        with self._lock:
            self._denials.append((action, resource, account))

    def allow(self, action: str) -> None:
        """Remove the denials that `deny` added for the same action."""
        with self._lock:
            self._denials = [denial for denial in self._denials if denial[0] != action]

    def throttle(self, service: str, operation: str, *, per_second: float, burst: float = 1) -> None:
        """Throttle matching calls above `per_second` (after a `burst`) with the service's throttling error."""
        self._set_limit(f"{service}.{operation}", per_second, burst)

    def latency(self, seconds: float, service: str = "*", operation: str = "*") -> None:
        """Delay the response to each matching call by `seconds` on the local clock."""
        self._set_latency(f"{service}.{operation}", seconds)

    def clear(self) -> None:
        """Remove all faults, denials, rate limits and latencies."""
        super().clear()
        with self._lock:
            self._denials.clear()

    def apply(self, attempt: Attempt) -> None:
        """Apply the faults that match a request. Raises AwsError if one of them fails it."""
        name = f"{attempt.service}.{attempt.operation}"
        self._wait(name)
        if self._over_limit(name):
            raise throttled(attempt.service)
        for need in attempt.needs:
            for resource in need.resources:
                if self.denies(need.action, resource, attempt.account):
                    raise denied(attempt.service, attempt.identity.arn, need.action, resource)
        fault = self._take(self._faults, lambda one: one.matches(attempt))
        if fault is not None:
            raise fault.error

    def denies(self, action: str, resource: str, account: str) -> bool:
        """Return whether `deny` denies an account's action on a resource."""
        return any(
            fnmatchcase(action.lower(), pattern.lower()) and fnmatchcase(resource, where) and whose in (None, account)
            for pattern, where, whose in self._denials
        )
