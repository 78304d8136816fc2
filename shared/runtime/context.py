"""What one run carries: its id, its clock and deadline, its calls and its log."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime

from shared.errors import ReportedError
from shared.runtime.calls import Calls
from shared.runtime.clock import Clock, Deadline
from shared.runtime.log import Log, Sink
from shared.runtime.rate_limit import Rate
from shared.settings import EngineSettings

SAVE_RESERVE_S = 10.0  # seconds kept free at the end for saving and reporting


class RunContext:
    """One run.

    `seconds` is what the invocation has left; the deadline keeps SAVE_RESERVE_S of it (at most a fifth) for saving.
    Long work calls `heartbeat` now and then: it saves the state and renews the lock when that is due.
    """

    def __init__(
        self,
        cloud: str,
        settings: EngineSettings,
        sink: Sink,
        clock: Clock,
        seconds: float,
        rates: Mapping[str, Rate],
        translate: Callable[[Exception], ReportedError],
        seed: int | None = None,
    ) -> None:
        self.rng = random.Random(seed)  # for jitter and ids: nothing that must be unguessable
        self.clock = clock
        self.started_at: datetime = clock.now()
        self.run_id = f"{self.started_at:%Y%m%dT%H%M%SZ}-{self.rng.getrandbits(32):08x}"
        self.cloud = cloud
        self.settings = settings
        self.deadline = Deadline(clock, seconds, min(SAVE_RESERVE_S, seconds / 5))
        self.log = Log(sink, self.run_id, cloud)
        self.calls = Calls(rates, translate, clock, self.deadline, self.log, self.rng)
        self.heartbeat: Callable[[], None] = lambda: None
        self.cut_short = False  # true once a read was left out because time was up
        self._began = clock.monotonic()

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self.clock.monotonic() - self._began
