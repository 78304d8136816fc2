"""Rate limits: token buckets on the local clock that respond 429 with Azure's own headers.

Cost Management allows about 200 calls per minute per tenant and app, and 30 per minute per scope and app. Resource
Manager allows 250 reads (refilled at 25/s) and 200 writes or deletes (refilled at 10/s) per subscription and principal,
and 15 times as many per subscription
(https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from localcloud.azure.errors import ArmError

_PREFIX = "x-ms-ratelimit-microsoft.costmanagement-"
_MESSAGE = "Too many requests. Please retry."


class Bucket:
    """A token bucket of `capacity` tokens, refilled at `per_second`."""

    __slots__ = ("at", "capacity", "per_second", "tokens")

    def __init__(self, capacity: float, per_second: float, now: float) -> None:
        self.capacity, self.per_second = capacity, per_second
        self.tokens, self.at = capacity, now

    def wait(self, now: float) -> float:
        """Return the seconds until a token is available, or 0 if one is available now."""
        self.tokens = min(self.capacity, self.tokens + max(0.0, now - self.at) * self.per_second)
        self.at = max(self.at, now)
        # Allow for floating-point error, so that a client that calls exactly at the rate is not throttled.
        return 0.0 if self.tokens >= 1 - 1e-6 else (1 - self.tokens) / self.per_second

    def take(self) -> None:
        self.tokens -= 1


@dataclass
class Limits:
    """The quota limits. With a `burst` of 0, all calls of a minute can be made in one burst, as documented."""

    app_per_minute: float = 200
    scope_per_minute: float = 30
    default_per_minute: float = 2000
    burst: float = 0
    arm_reads: tuple[float, float] = (250, 25)
    arm_writes: tuple[float, float] = (200, 10)
    arm_factor: float = 15


# For a local cloud on the machine's clock that is not about quotas: a fast machine would meet them, a slow one not.
UNLIMITED = Limits(1e9, 1e9, 1e9, arm_reads=(1e9, 1e9), arm_writes=(1e9, 1e9))


@dataclass
class Quotas:
    """All token buckets. `check` takes a token from every applicable bucket, or from none."""

    limits: Limits = field(default_factory=Limits)
    _buckets: dict[tuple[str, ...], Bucket] = field(default_factory=dict)
    _burst_until: float = -math.inf
    _default_until: float = -math.inf
    _refused: int = 0

    def burst(self, until: float) -> None:
        """Reject all Cost Management calls until `until` (clock seconds), as if others used up the tenant's quota."""
        self._burst_until = until

    def exhaust_default(self, until: float) -> None:
        """Reject callers without a ClientType header until `until` (clock seconds): `DefaultQuota` is used up."""
        self._default_until = until

    def check(
        self, token: str, client_type: str, subscription: str, scope: str, cost: bool, read: bool, now: float
    ) -> None:
        """Take the tokens for one call. Raises ArmError 429."""
        limits = self.limits
        capacity, rate = limits.arm_reads if read else limits.arm_writes
        kind = "reads" if read else "writes"
        factor = limits.arm_factor
        buckets = [
            self._bucket(("arm", subscription, token, kind), capacity, rate, now),
            self._bucket(("arm", subscription, kind), capacity * factor, rate * factor, now),
        ]
        waits = [bucket.wait(now) for bucket in buckets]
        if max(waits):
            raise _arm_refusal(max(waits), kind)
        if cost:
            if self._burst_until > now:
                raise self._refusal("tenant", self._burst_until - now)
            if not client_type:
                if self._default_until > now:
                    raise self._refusal("client", self._default_until - now, "DefaultQuota:0")
                buckets.append(self._minute(("default",), limits.default_per_minute, now))
            app = self._minute(("app", token), limits.app_per_minute, now)
            entity = self._minute(("scope", token, scope), limits.scope_per_minute, now)
            for name, bucket in (("entity", entity), ("tenant", app), *(("client", b) for b in buckets[2:])):
                wait = bucket.wait(now)
                if wait:
                    raise self._refusal(name, wait)
            buckets += [app, entity]
        for bucket in buckets:
            bucket.take()

    def _minute(self, key: tuple[str, ...], per_minute: float, now: float) -> Bucket:
        return self._bucket(key, self.limits.burst or per_minute, per_minute / 60, now)

    def _bucket(self, key: tuple[str, ...], capacity: float, per_second: float, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(capacity, per_second, now)
        return bucket

    def _refusal(self, name: str, wait: float, remaining: str = "") -> ArmError:
        """Return a 429 error; its headers rotate through the four combinations that Cost Management uses."""
        seconds = max(1, math.ceil(wait))
        short = str(max(1, seconds // 4))
        full = {f"{_PREFIX}{name}-retry-after": str(seconds)}
        forms: tuple[dict[str, str], ...] = (
            full,
            full | {"Retry-After": short},
            full | {f"{_PREFIX}qpu-retry-after": short},
            {"Retry-After": str(seconds), f"{_PREFIX}{name}-retry-after": short},
        )
        headers = dict(forms[self._refused % len(forms)])
        self._refused += 1
        if remaining:
            headers["x-ms-ratelimit-remaining-microsoft.costmanagement-clienttype-requests"] = remaining
        return ArmError(429, "429", _MESSAGE, headers)


def _arm_refusal(wait: float, kind: str) -> ArmError:
    seconds = str(max(1, math.ceil(wait)))
    return ArmError(
        429,
        "SubscriptionRequestsThrottled",
        f"Number of '{kind}' requests for this subscription and principal exceeded. Please try again after "
        f"'{seconds}' seconds.",
        {"Retry-After": seconds, f"x-ms-ratelimit-remaining-subscription-{kind}": "0"},
    )
