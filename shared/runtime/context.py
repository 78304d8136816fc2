"""The context of one run: id, clock and deadline, calls and log."""

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
    """The context of one run.

    `seconds` is the invocation's remaining time; SAVE_RESERVE_S of it (at most a fifth) is kept for saving. Long work
    calls `heartbeat` regularly: it saves the state and renews the lock when that is due.
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
        self.rng = random.Random(seed)  # for jitter and ids; not for secrets
        self.clock = clock
        self.started_at: datetime = clock.now()
        self.run_id = f"{self.started_at:%Y%m%dT%H%M%SZ}-{self.rng.getrandbits(32):08x}"
        self.cloud = cloud
        self.settings = settings
        self.deadline = Deadline(clock, seconds, min(SAVE_RESERVE_S, seconds / 5))
        self.log = Log(sink, self.run_id, cloud)
        self.calls = Calls(rates, translate, clock, self.deadline, self.log, self.rng)
        self.on_heartbeat: Callable[[], None] = lambda: None
        self.cut_short = False  # true once a read was skipped because time was up
        self._began = clock.monotonic()

    def heartbeat(self) -> None:
        """Save the state and renew the lock if that is due; nothing before the run has taken the lock."""
        self.on_heartbeat()

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return self.clock.monotonic() - self._began
