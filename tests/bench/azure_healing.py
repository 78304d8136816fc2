"""How long deleted exports are missing: simulated days with an hourly schedule and random deletions.

The days run on the in-memory cloud, which implements the same port and keeps the deliveries of deleted exports, as blob
storage does. One day also runs against the local Azure, with real SDK calls over HTTP.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from azure_function.clients import COST
from azure_function.clients import RATES as AZURE_RATES
from azure_function.invocation import run_once
from localcloud.azure.cloud import LocalAzure
from shared.errors import CloudError, Permanent
from shared.model import Absent, Action, Enumeration, Key, Observation, Present, Target
from shared.provider import Applied, KnownStates
from shared.reconcile import reconcile
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from tests.inmemory import EXPORT, InMemoryCloud, InMemoryStore, World

K = TypeVar("K")

HOUR = 3600.0
FRESH = timedelta(hours=36)
RUN_SECONDS = 6900.0
RATES = dict.fromkeys(("list", "read", "write"), AZURE_RATES[COST])


class Healed(msgspec.Struct, frozen=True):
    """How long each deleted export was missing, in hours, sorted; infinite if it was not recreated.

    `until_run` ends at the start of the scheduled run that recreated the export, `until_created` at the recreation
    itself, which the quota delays.
    """

    until_run: tuple[float, ...]
    until_created: tuple[float, ...]


def quantile(latencies: Sequence[float], share: float) -> float:
    """Return the latency that the fraction `share` of all latencies does not exceed."""
    return latencies[min(len(latencies) - 1, math.ceil(share * len(latencies)) - 1)]


class Exports(InMemoryCloud):
    """A cloud with only exports and a listing of their deliveries, which also has those of deleted exports."""

    def __init__(self, world: World, run: RunContext, delivered: Mapping[Key, datetime]) -> None:
        super().__init__(world, run)
        self._delivered = delivered

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        found = super().targets(enumeration, known)
        return [msgspec.structs.replace(one, needs=()) for one in found if one.kind is EXPORT]

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        now = self.run.clock.now()
        observations: dict[Key, Observation] = {}
        for target in targets:
            at = self._delivered.get(target.key)
            entry = target.state
            if at is not None and now - at < FRESH:
                observations[target.key] = Present(verified=False, delivered_at=at)
            elif entry is None or not entry.present:
                observations[target.key] = Absent(("unseen",))
        return observations

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        answers = super().apply(actions)
        for action in actions:
            self.world.things[action.key].visible_at = self.run.clock.now()
        return answers


def simulated(scopes: int, budget: int, hours: int, each_hour: float, seed: int = 1) -> Healed:
    """Run the engine hourly over the in-memory cloud, with Cost Management's quota for reads and writes."""
    world, store, clock = World(scopes), InMemoryStore(), VirtualClock()
    delivered: dict[Key, datetime] = {}
    number = 0

    def run() -> None:
        nonlocal number
        number += 1
        one = RunContext(
            "memory", EngineSettings(call_budget=budget), _ignore, clock, RUN_SECONDS, RATES, _defect, number
        )
        report = reconcile(Exports(world, one, delivered), store, RunRequest(), one).report
        if report["status"] != "ok":
            raise RuntimeError(f"the run failed: {report['failures']}")

    def names() -> list[Key]:
        return sorted(key for key in world.things if key.kind == EXPORT.name)

    def deliver() -> None:
        delivered.update(dict.fromkeys(names(), clock.now()))

    def healed_at(key: Key) -> float | None:
        thing = world.things.get(key)
        return None if thing is None else _seconds(clock, thing.visible_at)

    return _simulate_days(
        clock, run, deliver, names, world.things.pop, healed_at, scopes // budget, hours, each_hour, seed
    )


def over_http(scopes: int, budget: int, hours: int, each_hour: float, seed: int = 1) -> Healed:
    """Run the Azure function hourly against the local Azure."""
    clock = VirtualClock()
    with LocalAzure(subscriptions=scopes, clock=clock) as azure:
        environment = {**azure.environment(), "CALL_BUDGET": str(budget)}
        made: dict[str, float] = {}

        def run() -> None:
            azure.calls.clear()
            report = run_once(RunRequest(), environment, _ignore, clock, None, seed=1).report
            if report["status"] != "ok":
                raise RuntimeError(f"the run failed: {report['failures']}")
            for call in azure.calls.select("Microsoft.CostManagement/exports/write", status=201):
                made[call.resource.split("/")[2]] = call.at

        return _simulate_days(
            clock,
            run,
            azure.deliver,
            lambda: sorted({one["id"].split("/")[2] for one in azure.exports()}),
            azure.delete_export,
            lambda subscription: made.get(subscription) if azure.exports(subscription) else None,
            scopes // budget,
            hours,
            each_hour,
            seed,
        )


def naive(scopes: int, hours: int, each_hour: float, seed: int = 1) -> tuple[float, ...]:
    """Return how long exports are missing if every run reads all of them, with the same quota and full-hour starts.

    The values are computed without the engine: a run reads export i, and recreates it if missing, as its i-th call.
    """
    rng, step = random.Random(seed), 1 / AZURE_RATES[COST].per_second
    period = math.ceil(scopes * step / HOUR) * HOUR
    latencies = []
    for hour in range(hours):
        for _ in range(_deletions(rng, each_hour)):
            at = (hour + rng.random()) * HOUR
            offset = rng.randrange(scopes) * step
            turns = math.ceil((at - offset) / period)
            latencies.append((max(0, turns) * period + offset - at) / HOUR)
    return tuple(sorted(latencies))


def _simulate_days(
    clock: VirtualClock,
    run: Callable[[], None],
    deliver: Callable[[], object],
    names: Callable[[], list[K]],
    delete: Callable[[K], object],
    healed_at: Callable[[K], float | None],
    round_of: int,
    hours: int,
    each_hour: float,
    seed: int,
) -> Healed:
    """Reach the steady state, delete random exports for some hours, and run until the last ones are recreated."""
    rng = random.Random(seed)
    begin = 0.0
    pending: dict[K, float] = {}
    healed: list[tuple[float, float]] = []
    warm = round_of + 2
    for hour in range(warm + hours + 2 * round_of + 2):
        begin = max(begin + HOUR, clock.monotonic())
        for _ in range(_deletions(rng, each_hour) if warm <= hour < warm + hours else 0):
            key = rng.choice(names())
            delete(key)
            # The deletion is in the hour before this run, so an earlier run cannot have observed it.
            pending[key] = begin - rng.random() * HOUR
        clock.wait_until(begin)
        if hour % 24 == 1:
            deliver()
        run()
        for key, since in list(pending.items()):
            at = healed_at(key)
            if at is not None:
                healed.append(((begin - since) / HOUR, (at - since) / HOUR))
                del pending[key]
    healed += [(math.inf, math.inf)] * len(pending)
    return Healed(tuple(sorted(one for one, _ in healed)), tuple(sorted(one for _, one in healed)))


def _deletions(rng: random.Random, each_hour: float) -> int:
    whole, part = divmod(each_hour, 1)
    return int(whole) + (rng.random() < part)


def _seconds(clock: VirtualClock, moment: datetime | None) -> float:
    return clock.monotonic() if moment is None else clock.monotonic() - (clock.now() - moment).total_seconds()


def _ignore(_level: str, _event: str, _fields: Mapping[str, object]) -> None:
    """Drop a log line."""


def _defect(error: Exception) -> Permanent:
    return Permanent("unexpected", f"{type(error).__name__}: {error}")
