"""Everything that can be made to go wrong: errors on demand, refusals, throttling and latency."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from localcloud.aws.errors import AwsError, denied, throttled
from localcloud.aws.iam.caller import Identity
from localcloud.aws.iam.required_actions import Need
from localcloud.common.corrupted_answers import SpoiledAnswers
from shared.runtime.clock import Clock

FOREVER = None


@dataclass(frozen=True)
class Attempt:
    """A request as a fault sees it: who calls what, with which parameters and (lower-case) HTTP headers."""

    identity: Identity
    service: str
    operation: str
    needs: tuple[Need, ...]
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
class Fault:
    """An error to answer with; `left` counts down, None is for ever."""

    service: str
    operation: str
    error: AwsError
    left: int | None
    account: str | None
    when: Callable[[Attempt], bool] | None

    def hits(self, attempt: Attempt) -> bool:
        return (
            self.left != 0
            and fnmatchcase(attempt.service, self.service)
            and fnmatchcase(attempt.operation, self.operation)
            and self.account in (None, attempt.account)
            and (self.when is None or self.when(attempt))
        )


@dataclass
class _Bucket:
    rate: float
    burst: float
    tokens: float
    at: float


class Faults(SpoiledAnswers):
    """Faults in the order they were added; the first that hits answers.

    `service` and `operation` take `*` wildcards. Operations are spelled as in boto3's API reference (`CreateExport`).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._denials: list[tuple[str, str, str | None]] = []
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._latency: dict[tuple[str, str], float] = {}

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
        """Answer the next `times` matching calls (None: for ever) with `error_code`; the call has no effect."""
        fault = Fault(service, operation, AwsError(error_code, message, status), times, account, when)
        with self._lock:
            self._faults.append(fault)
        return fault

    def deny(self, action: str, *, resource: str = "*", account: str | None = None) -> None:
        """Refuse an IAM action (`s3:PutBucketPolicy`, wildcards allowed) with the service's access-denied code."""
        with self._lock:
            self._denials.append((action, resource, account))

    def allow(self, action: str) -> None:
        """Take back what `deny` refused under the same name."""
        with self._lock:
            self._denials = [denial for denial in self._denials if denial[0] != action]

    def throttle(self, service: str, operation: str, *, per_second: float, burst: float = 1) -> None:
        """Answer more than `per_second` matching calls (after a `burst`) with the service's throttling code."""
        with self._lock:
            now = self._clock.monotonic()
            self._buckets[(service, operation)] = _Bucket(per_second, burst, burst, now)

    def latency(self, seconds: float, service: str = "*", operation: str = "*") -> None:
        """Let `seconds` pass on the local clock before each matching call is answered."""
        with self._lock:
            self._latency[(service, operation)] = seconds

    def clear(self) -> None:
        self.restore()
        with self._lock:
            self._faults.clear()
            self._denials.clear()
            self._buckets.clear()
            self._latency.clear()

    def meet(self, attempt: Attempt) -> None:
        """Let what was ordered happen to a request. Raises AwsError when it is to fail."""
        self._clock.wait_until(self._clock.monotonic() + self._delay(attempt))
        with self._lock:
            for (service, operation), bucket in self._buckets.items():
                if fnmatchcase(attempt.service, service) and fnmatchcase(attempt.operation, operation):
                    self._take(bucket, attempt.service)
            for need in attempt.needs:
                self._refuse(attempt, need)
            for fault in self._faults:
                if fault.hits(attempt):
                    if fault.left is not None:
                        fault.left -= 1
                    raise fault.error

    def denies(self, action: str, resource: str, account: str) -> bool:
        """Whether an action of an account on a resource was denied."""
        return any(
            fnmatchcase(action.lower(), pattern.lower()) and fnmatchcase(resource, where) and whose in (None, account)
            for pattern, where, whose in self._denials
        )

    def _refuse(self, attempt: Attempt, need: Need) -> None:
        hit = next((one for one in need.resources if self.denies(need.action, one, attempt.account)), None)
        if hit is not None:
            raise denied(attempt.service, attempt.identity.arn, need.action, hit)

    def _delay(self, attempt: Attempt) -> float:
        with self._lock:
            return sum(
                seconds
                for (service, operation), seconds in self._latency.items()
                if fnmatchcase(attempt.service, service) and fnmatchcase(attempt.operation, operation)
            )

    def _take(self, bucket: _Bucket, service: str) -> None:
        now = self._clock.monotonic()
        bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.at) * bucket.rate)
        bucket.at = now
        if bucket.tokens < 1:
            raise throttled(service)
        bucket.tokens -= 1
