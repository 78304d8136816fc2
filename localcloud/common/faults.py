"""The fault injector of the local clouds: errors, latency, limits, and answers that are corrupted on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from shared.runtime.clock import Clock

Change = Callable[[bytes], bytes]


@dataclass(kw_only=True)
class Order:
    """A fault of the next `left` calls (None: of all); `hits` counts the calls that met it."""

    left: int | None = 1
    hits: int = 0


O = TypeVar("O", bound=Order)  # noqa: E741 - the faults of one cloud
P = TypeVar("P", bound=Order)


@dataclass
class Corruption(Order):
    """Calls whose name matches `pattern` take effect, and are answered with a changed body."""

    pattern: str
    change: Change
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Bucket:
    """A token bucket: `rate` tokens a second, at most `burst`."""

    rate: float
    burst: float
    tokens: float
    at: float


class FaultInjector(Generic[O]):
    """The base of each cloud's faults `O`, which says what its errors are and how it names its calls.

    Patterns take `*` wildcards. Safe to use from several threads.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._faults: list[O] = []
        self._corruptions: list[Corruption] = []
        self._buckets: dict[str, _Bucket] = {}
        self._latency: dict[str, float] = {}

    def spoil(
        self,
        pattern: str,
        body: bytes | Change,
        *,
        times: int | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Corruption:
        """Answer matching calls with another body: bytes, or what a function makes of the true body.

        `status` and `headers` replace the true ones. Returns the order, which counts its hits.
        """
        change: Change = body if callable(body) else lambda _true: body
        order = Corruption(pattern, change, status, headers or {}, left=times)
        with self._lock:
            self._corruptions.append(order)
        return order

    def restore(self) -> None:
        """Remove all corruptions."""
        with self._lock:
            self._corruptions.clear()

    def spoils(self, name: str) -> Corruption | None:
        """Return the corruption that the answer to a call is subject to, counted, or None."""
        if not self._corruptions:
            return None
        return self._take(self._corruptions, lambda order: fnmatchcase(name, order.pattern))

    def throttle_all(self, per_second: float) -> None:
        """Limit each call's rate to `per_second`, with a burst of one second's worth."""
        self._set_limit("*", per_second, max(1.0, per_second))

    def latency_all(self, seconds: float) -> None:
        """Let `seconds` pass before every answer."""
        self._set_latency("*", seconds)

    def clear(self) -> None:
        """Remove all faults, corruptions, limits and latencies."""
        self.restore()
        with self._lock:
            self._faults.clear()
            self._buckets.clear()
            self._latency.clear()

    def _put(self, fault: O) -> O:
        with self._lock:
            self._faults.append(fault)
        return fault

    def _set_latency(self, pattern: str, seconds: float) -> None:
        with self._lock:
            self._latency[pattern] = seconds

    def _set_limit(self, pattern: str, per_second: float, burst: float) -> None:
        with self._lock:
            self._buckets[pattern] = _Bucket(per_second, burst, burst, self._clock.monotonic())

    def _wait(self, name: str) -> None:
        """Let the latency of a call pass on the clock; several that match add up."""
        if not self._latency:
            return
        with self._lock:
            delay = sum(seconds for pattern, seconds in self._latency.items() if fnmatchcase(name, pattern))
        if delay:
            self._clock.wait_until(self._clock.monotonic() + delay)

    def _over_limit(self, name: str) -> bool:
        """Count a call; returns whether a limit refuses it."""
        if not self._buckets:
            return False
        with self._lock:
            now = self._clock.monotonic()
            for pattern, bucket in self._buckets.items():
                if fnmatchcase(name, pattern):
                    bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.at) * bucket.rate)
                    bucket.at = now
                    if bucket.tokens < 1:
                        return True
                    bucket.tokens -= 1
        return False

    def _take(self, orders: Iterable[P], fits: Callable[[P], bool]) -> P | None:
        """Return the first order that is not used up and fits, counted."""
        with self._lock:
            for order in orders:
                if order.left != 0 and fits(order):
                    order.hits += 1
                    if order.left is not None:
                        order.left -= 1
                    return order
        return None
