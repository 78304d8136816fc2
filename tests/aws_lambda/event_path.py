"""The path of events in one process and virtual time: rules, the queue's window, the real collector and function.

Every event that the local AWS sends passes the deployed rules' patterns, waits `delay` seconds for its service, and
then for the batching window; the function runs as its handler does, at least a minute apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from moto.events.models import EventPattern

from aws_lambda.collector import collect
from aws_lambda.events import own_of
from aws_lambda.handler import request_of, run_once
from aws_lambda.settings import read_settings
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_events import WINDOW_S, rules, shaping
from localcloud.aws.platform.event_buses import input_of
from shared.errors import TooSoon
from shared.hints import as_document
from shared.reconcile import RunResult
from shared.runtime.clock import VirtualClock

CONDITIONS = {"connector", "connector_events", "management", "members"}
MOST = 10_000  # messages in a batch


class EventPath:
    """Follows a local AWS's events until the runs that they start.

    `runs` has each run's beginning (of the virtual clock) and report.
    """

    def __init__(
        self,
        cloud: LocalAws,
        delay: Callable[[Mapping[str, Any]], float] = lambda _event: 0.0,
        sink: Callable[[str, str, Mapping[str, Any]], None] = lambda *_: None,
    ) -> None:
        self.cloud = cloud
        self.clock = cast(VirtualClock, cloud.clock)
        self.runs: list[tuple[float, dict[str, Any]]] = []
        self._delay, self._sink = delay, sink
        self._queue: list[tuple[float, str]] = []  # when each message is there
        self._rules = [
            (EventPattern(None, rule["pattern"]), shaping(rule))
            for rule in rules(cloud.deployment.names(), CONDITIONS).values()
        ]
        self._own = own_of(read_settings(cloud.environment()), cloud.account)
        setattr(cloud.world.buses, "route", self._take)  # noqa: B010 - in place of buses, which are not deployed

    def put(self, event: Mapping[str, Any]) -> None:
        """Put an event on the bus: a rule passes it on to the queue, or none does."""
        for pattern, target in self._rules:
            if pattern.matches_event(cast("Any", event)):
                due = self.clock.monotonic() + self._delay(event)
                self._queue.append((due, json.dumps(input_of(target, event))))

    def pending(self) -> int:
        """Return how many messages are on their way or in the queue."""
        return len(self._queue)

    def settle(self, until: float = float("inf")) -> None:
        """Let time pass until every event has had its run, or until a moment of the virtual clock."""
        while self.settle_one(until):
            pass

    def settle_one(self, until: float = float("inf")) -> bool:
        """Let time pass until the next batch has had its run; return whether there was one by `until`."""
        if self._queue:
            first = min(due for due, _ in self._queue)
            arrived = sorted(due for due, _ in self._queue)
            full = arrived[MOST - 1] if len(arrived) >= MOST else float("inf")
            fires = min(first + WINDOW_S, full)
            if fires > until:
                return False
            self.clock.wait_until(fires)
            there = [one for one in self._queue if one[0] <= self.clock.monotonic()]
            batch, rest = there[:MOST], there[MOST:]
            self._queue = rest + [one for one in self._queue if one[0] > self.clock.monotonic()]
            self._collect([body for _, body in batch])
            return True
        return False

    def _take(self, _where: Where, event: dict[str, Any], _bus: str = "default", _hops: int = 0) -> None:
        self.put(event)

    def _collect(self, bodies: list[str]) -> None:
        records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
        hints, _ = collect({"Records": records}, self._own, self._sink, self.clock)
        if hints is not None:
            self._run(json.loads(json.dumps({"hints": as_document(hints)})))

    def _run(self, event: Mapping[str, Any]) -> None:
        try:
            result = self._once(event)
        except TooSoon as early:
            self.clock.advance(early.wait_s)
            result = self._once(event)
        self.runs.append((self.clock.monotonic(), result.report))

    def _once(self, event: Mapping[str, Any]) -> RunResult:
        environment = self.cloud.environment()
        return run_once(request_of(event), environment, self._sink, self.clock, 900, account=self.cloud.account, seed=1)
