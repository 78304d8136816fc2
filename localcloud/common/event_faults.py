"""Faults in how a local cloud's events arrive: late, repeatedly, in another order, or never."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EventFaults:
    """How events arrive.

    Each event arrives `copies` times, each time after `delay_s` and a random part of `spread_s` (seconds on the local
    clock), so that events overtake each other if `spread_s` is not zero. `loss` is the fraction that never arrives.

    Raises ValueError for values out of range.
    """

    delay_s: float = 0
    spread_s: float = 0
    copies: int = 1
    loss: float = 0

    def __post_init__(self) -> None:
        if self.delay_s < 0 or self.spread_s < 0 or self.copies < 1 or not 0 <= self.loss <= 1:
            raise ValueError(f"Expected delay_s and spread_s >= 0, copies >= 1 and 0 <= loss <= 1; got {self}.")


class EventArrivals:
    """Decides when each event arrives; the same `seed` gives the same times. Thread-safe."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.faults = EventFaults()
        self.lost = 0

    def delays(self) -> list[float]:
        """Return the seconds after which each copy of the next event arrives; none if the event is lost."""
        how = self.faults
        with self._lock:
            if how.loss and self._random.random() < how.loss:
                self.lost += 1
                return []
            return [how.delay_s + self._random.uniform(0, how.spread_s) for _ in range(how.copies)]
