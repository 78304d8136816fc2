"""The fault injector of the local clouds: errors, latency, limits, corrupted responses, faults of events and calls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from localcloud.common.event_faults import EventArrivals, EventFaults
from localcloud.common.wire_faults import WireFaults
from shared.runtime.clock import Clock

Change = Callable[[bytes], bytes]


@dataclass(kw_only=True)
class CountedFault:
    """A fault for the next `left` calls (None: all calls); `hits` counts the affected calls."""

    left: int | None = 1
    hits: int = 0


O = TypeVar("O", bound=CountedFault)  # noqa: E741 - the faults of one cloud
P = TypeVar("P", bound=CountedFault)


@dataclass
class Corruption(CountedFault):
    """Replaces the response body of calls whose name matches `pattern`; the calls still take effect."""

    pattern: str
    change: Change
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Bucket:
    """A token bucket that refills at `rate` tokens per second and holds at most `burst`."""

    rate: float
    burst: float
    tokens: float
    at: float


class FaultInjector(Generic[O]):
    """The base class for a cloud's faults `O`; subclasses define the errors and how calls are named.

    Patterns accept `*` wildcards. Thread-safe.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._faults: list[O] = []
        self._corruptions: list[Corruption] = []
        self._buckets: dict[str, _Bucket] = {}
        self._latency: dict[str, float] = {}
        self.events = EventArrivals()
        self.wire = WireFaults()

    def corrupt(
        self,
        pattern: str,
        body: bytes | Change,
        *,
        times: int | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Corruption:
        """Replace the response body of matching calls with bytes, or with the result of a function of the body.

        `status` and `headers` replace the original ones. Returns the corruption, which counts its hits.
        """
        change: Change = body if callable(body) else lambda _true: body
        corruption = Corruption(pattern, change, status, headers or {}, left=times)
        with self._lock:
            self._corruptions.append(corruption)
        return corruption

    def restore(self) -> None:
        """Remove all corruptions."""
        with self._lock:
            self._corruptions.clear()

    def corruption_of(self, name: str) -> Corruption | None:
        """Return the corruption to apply to the response of a call and count it, or return None."""
        if not self._corruptions:
            return None
        return self._take(self._corruptions, lambda corruption: fnmatchcase(name, corruption.pattern))

    def throttle_all(self, per_second: float) -> None:
        """Limit each operation to `per_second` calls per second, with a burst of one second's worth."""
        self._set_limit("*", per_second, max(1.0, per_second))

    def latency_all(self, seconds: float) -> None:
        """Delay every response by `seconds`."""
        self._set_latency("*", seconds)

    def clear(self) -> None:
        """Remove all faults, corruptions, rate limits and latencies."""
        self.restore()
        self.wire.end()
        self.events.faults = EventFaults()
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
        """Wait on the clock for the latency of a call; multiple matching latencies add up."""
        if not self._latency:
            return
        with self._lock:
            delay = sum(seconds for pattern, seconds in self._latency.items() if fnmatchcase(name, pattern))
        if delay:
            self._clock.wait_until(self._clock.monotonic() + delay)

    def _over_limit(self, name: str) -> bool:
        """Count a call and return whether a rate limit refuses it."""
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

    def _take(self, faults: Iterable[P], matches: Callable[[P], bool]) -> P | None:
        """Return and count the first matching fault that is not used up, or None."""
        with self._lock:
            for fault in faults:
                if fault.left != 0 and matches(fault):
                    fault.hits += 1
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None
