"""Durable functions in one process and virtual time: the task hub, driven as a discrete-event simulation.

What a Functions host does at the same time is done one after the other here. Each activity begins at the time at which
the hub has it, on a clock of its own in effect, and its result arrives at the time at which it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import azure.functions as func

from localcloud.azure.runtime.durable_task import TaskHub, Work
from shared.runtime.clock import VirtualClock


class LaneClock(VirtualClock):
    """A virtual clock that a simulation sets to the time of what it does next."""

    def set_to(self, moment: float) -> None:
        """Show this number of seconds since the start, which may be earlier than now."""
        with self._lock:
            self._elapsed = moment

    def exact(self) -> datetime:
        """Return the time with its fraction of a second, which timers need."""
        return self._start + timedelta(seconds=self.monotonic())


class DurableLoop:
    """The durable functions of an app. An activity takes the time by which it moves the clock.

    `copies` returns how often an activity runs: 2 for twice, 0 for never; `delay_s` returns how much later the result
    of some work arrives.
    """

    def __init__(
        self,
        app: func.FunctionApp,
        clock: LaneClock,
        copies: Callable[[Work], int] = lambda _: 1,
        delay_s: Callable[[Work], float] = lambda _: 0.0,
    ) -> None:
        self.clock, self._copies, self._delay_s = clock, copies, delay_s
        self.hub = TaskHub(clock.exact)
        self._functions = {one.get_function_name(): one.get_user_function() for one in app.get_functions()}
        self._results: list[tuple[float, Work, str | None, str]] = []
        self.most_running = 0

    def run(self, orchestration: str, instance: str) -> Mapping[str, Any]:
        """Start an orchestration, go on until nothing is left to do, and return the instance."""
        self.hub.start(orchestration, instance, "null")
        while self.step():
            pass
        return self.hub.status(instance) or {}

    def step(self) -> bool:
        """Do one thing; return whether there was anything to do."""
        work = self.hub.take()
        if work is None:
            return self._advance()
        if work.task is None:
            self._episode(work)
        else:
            self._activity(work)
            self.most_running = max(self.most_running, len(self._results))
        return True

    def _episode(self, work: Work) -> None:
        try:
            state = self._functions[work.function](context=SimpleNamespace(body=work.input))
        except Exception as error:  # noqa: BLE001 - as the host gets it from the worker
            self.hub.episode_failed(work, str(error))
        else:
            self.hub.episode_done(work, json.loads(state))

    def _activity(self, work: Work) -> None:
        began = self.clock.monotonic()
        for _ in range(self._copies(work)):
            try:
                result, error = json.dumps(self._functions[work.function](given=json.loads(work.input))), ""
            except Exception as failure:  # noqa: BLE001 - as the host gets it from the worker
                result, error = None, str(failure)
            self._results.append((self.clock.monotonic() + self._delay_s(work), work, result, error))
            self.clock.set_to(began)

    def _advance(self) -> bool:
        """Go to when the next activity ends or a timer fires."""
        now = self.clock.monotonic()
        moments = [ends for ends, *_ in self._results]
        if (timer := self.hub.next_timer()) is not None:
            moments.append(now + (timer - self.clock.exact()).total_seconds())
        if not moments:
            return False
        now = max(now, min(moments))
        self.clock.set_to(now)
        ended = [one for one in self._results if one[0] <= now]
        self._results = [one for one in self._results if one[0] > now]
        for _, work, result, error in ended:
            self.hub.activity_done(work, result, error)
        return True
