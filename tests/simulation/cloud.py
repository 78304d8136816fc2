"""The provider port over the simulated world, for one run: pages, quotas, faults, stale and partial reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec

from shared.errors import CloudError, Denied, NotApplicable, Throttled, Transient
from shared.model import (
    WRITES,
    Absent,
    Action,
    Enumeration,
    EscalationPolicy,
    Health,
    Key,
    ManualStep,
    Observation,
    Present,
    Problem,
    Scope,
    Target,
    Verb,
)
from shared.observe import as_bulk_observation
from shared.provider import Applied, KnownStates
from shared.runtime.context import RunContext
from tests.inmemory import InMemoryCloud, Thing
from tests.simulation.profiles import ACTUAL, AGREEMENTS, FACTS
from tests.simulation.timeline import Process
from tests.simulation.world import SimulatedWorld

R = TypeVar("R")
PAGE = 3  # scopes on a page of the listing
LAG_S = 1800.0  # a stale read is so far behind
FRESH = timedelta(hours=36)
GRANT_STEP = ManualStep("the right is missing", ("Grant the role again.",), "https://console.example/grant")
PROPAGATION = EscalationPolicy(longest=timedelta(hours=1))
NOT_READY = EscalationPolicy(tries=3)
LISTED = frozenset({"member-role", "copy"})


def _refuse() -> list[Scope]:
    raise Denied("denied", "the listing is refused")


class Quotas:
    """What a cloud counts of one run's calls: a call above the documented rate, or before a pause is over, is noted."""

    def __init__(self, world: SimulatedWorld, run: RunContext) -> None:
        self._world = world
        self._run = run
        self._full_at: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    def count(self, quota: str) -> None:
        """Count a call that arrives now."""
        now, rate = self._run.clock.monotonic(), self._world.profile.rates[quota]
        full_at = max(self._full_at.get(quota, now), now)
        self._full_at[quota] = full_at + 1 / rate.per_second
        early = full_at - now - (rate.burst - 1) / rate.per_second
        if self._run.deadline.closing:
            return
        if early > 1e-6:
            self._world.violate("quota", f"a call of {quota} came {early:.3f} s before its quota allows it")
        if now < self._paused.get(quota, now) - 1e-6:
            self._world.violate("quota", f"a call of {quota} came before the pause that the cloud asked for was over")

    def pause(self, quota: str, seconds: float) -> None:
        """Note that a refusal asks for a pause."""
        self._paused[quota] = self._run.clock.monotonic() + min(seconds, 60.0)


class Caller:
    """Makes the calls of one run or of one event: time, kills and faults come with each."""

    def __init__(self, world: SimulatedWorld, process: Process, run: RunContext) -> None:
        self._world = world
        self._process = process
        self._run = run
        self._quotas = Quotas(world, run)

    def __call__(self, quota: str, operation: str, function: Callable[[], R]) -> R:
        """Make a call of an operation under its quota. Raises a ReportedError."""
        return self._run.calls(quota, self._try, quota, operation, function)

    def _try(self, quota: str, operation: str, function: Callable[[], R]) -> R:
        self._quotas.count(quota)
        number = self._process.begin_call()
        kind = self._world.fault(operation, self._process.rng) if self._world.troubles else ""
        if kind == "throttled":
            seconds = 1 + self._process.rng.randrange(90)
            self._quotas.pause(quota, seconds)
            raise Throttled("throttled", "slow down", retry_after=timedelta(seconds=seconds))
        if kind == "failing":
            raise Transient("server-error", "the service answered 503")
        if kind == "refused":
            raise Denied("denied", "the role lost its right", escalation=PROPAGATION, manual_step=GRANT_STEP)
        if kind == "hanging":
            self._process.wait_until(self._process.monotonic() + 10 + self._process.rng.randrange(30))
            raise Transient("timeout", "no answer in time")
        answer = function()
        self._process.end_call(number)
        if kind == "lost":
            raise Transient("connection", "the answer was lost")
        return answer


class SimulatedCloud(InMemoryCloud):
    """The provider port over a `SimulatedWorld`, for one run."""

    name = "memory"
    facts: Mapping[str, Any] = FACTS
    world: SimulatedWorld

    def __init__(self, world: SimulatedWorld, run: RunContext, process: Process, call: Caller) -> None:
        super().__init__(world, run)
        self.process = process
        self.call = call
        self.proven: set[Key] = set()  # what this run was told to be absent
        self._lag = 0.0
        self._missing: frozenset[Key] = frozenset()
        self.requested = False  # true where scopes were asked for by name, or everything was

    def true_time(self) -> datetime:
        return self.world.timeline.now()

    def shown(self, key: Key) -> Thing | None:
        return None if key in self._missing else self.world.as_read(key, self._lag)

    def _kind_of(self, operation: str) -> str:
        return self.world.fault(operation, self.process.rng) if self.world.troubles else ""

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        found: dict[str, Scope] = {}
        problems: tuple[Problem, ...] = ()
        try:
            for page in self._pages():
                # A page may be repeated: each scope counts once.
                found.update((one.id, one) for one in self.call("list", "enumerate", page))
        except CloudError as error:
            if not isinstance(error, Denied) and not found:
                raise
            problems = (Problem(error.code, error.message, "Grant the permission to list the scopes, or wait."),)
        return Enumeration("org-1", tuple(found.values()), not problems, problems)

    def _pages(self) -> Iterator[Callable[[], list[Scope]]]:
        everything, kind = list(self.world.scopes.values()), self._kind_of("pages")
        pages = [everything[start : start + PAGE] for start in range(0, len(everything), PAGE)]
        if kind == "short" and len(pages) > 1:
            # The listing is behind: it says that it is complete.
            self.world.listed_short_at = self.world.timeline.elapsed
            pages.pop(self.process.rng.randrange(1, len(pages)))
        if kind == "empty":
            pages.insert(self.process.rng.randrange(len(pages) + 1), [])
        if kind == "repeated":
            pages.append(pages[0])
        for number, page in enumerate(pages):
            if number and kind in ("refused", "failing"):
                yield _refuse
            else:
                yield partial(list, page)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        return self.world.profile.targets(enumeration, known)

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        observations = self._evidence(targets)
        listed = [target for target in targets if target.kind.name in LISTED]
        if not listed:
            return observations
        try:
            observations.update(self.call("list", "list", lambda: self._listed(listed)))
        except CloudError as error:
            observations.update(dict.fromkeys((one.key for one in listed), as_bulk_observation(error, GRANT_STEP)))
        return observations

    def _listed(self, targets: Sequence[Target]) -> dict[Key, Observation]:
        kind = self._kind_of("listing")
        self._lag = LAG_S if kind == "stale" else 0.0
        chance = 0.4 if kind == "partial" else 0.0
        hidden = (one.key for one in targets if chance and self.process.rng.random() < chance)
        self._missing = frozenset(hidden)
        found = {one.key: self._looked(one) for one in targets}
        self._lag, self._missing = 0.0, frozenset()
        return found

    def _evidence(self, targets: Sequence[Target]) -> dict[Key, Observation]:
        """Return what the listing of delivered files shows: nothing of an export that delivers into a table."""
        if self.world.profile.by_day:
            return {}
        try:
            self.call("storage", "deliveries", lambda: None)
        except CloudError as error:
            self.run.log("warning", "deliveries-unread", code=error.code, reason=error.message)
            return {}
        found: dict[Key, Observation] = {}
        for target in targets:
            # A listing shows what lies there, whether or not its export is still there.
            at = self.world.delivered_at.get(target.key)
            if target.kind.name == "export" and at and self.true_time() - at < FRESH and self._is_there():
                found[target.key] = Present(verified=False, delivered_at=at, periods=self.world.listed(target.key))
        return found

    def _is_there(self) -> bool:
        return self.world.profile.destination in self.world.things

    def observe(self, target: Target) -> Observation:
        def read() -> Observation:
            scope = target.key.scope
            if self.world.is_denied(scope, self.process.rng):
                raise Denied("denied", f"{scope} refuses", escalation=PROPAGATION, manual_step=GRANT_STEP)
            self._lag = LAG_S if self._kind_of("reading") == "stale" else 0.0
            found = self._looked(target)
            self._lag = 0.0
            return found

        return self.call("read", "read", read)

    def _looked(self, target: Target) -> Observation:
        key = target.key
        seen = self._look(key)
        if isinstance(seen, Absent):
            self.proven.add(key)
            return seen
        agreement = self.world.agreements[key.scope]
        if key.kind == "export" and "type" in target.desired and agreement == "none":
            return msgspec.structs.replace(seen, health=Health.INACTIVE, code="not-supported", retry_after=timedelta(7))
        thing = self.shown(key)
        if thing is not None and not self.world.is_allowed(key, thing):
            return msgspec.structs.replace(seen, health=Health.BROKEN, code="type-refused")
        if target.kind.name == "export" and self.world.profile.by_day:
            days = {day: self.world.rows[key.scope][day] for day in self.world.copied_days(key.scope)}
            return msgspec.structs.replace(seen, facts={"days": days})
        return msgspec.structs.replace(
            seen, periods=self.world.listed(key), delivered_at=self.world.delivered_at.get(key)
        )

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        for action in actions:
            self._judge(action)
        return self.call("write", "write", lambda: [self._write(action) for action in actions])

    def _judge(self, action: Action) -> None:
        """Note a write that the engine must never ask for."""
        world, key, state = self.world, action.key, action.target.state
        thing = world.things.get(key)
        if action.verb not in WRITES or not action.target.kind.writable:
            world.violate("write", f"{action.verb} of {key} is no write that a run may make")
        if action.verb is Verb.CREATE and key not in self.proven:
            world.violate("create", f"{key} was created, and no read of the run said that it was absent")
        if action.verb is not Verb.CREATE and thing is not None and key in world.foreign and not self._lag:
            at, _ = world.before.get(key, (0.0, None))
            if world.timeline.elapsed - at > LAG_S:
                world.violate("foreign", f"{action.verb} of {key}, which is the customer's")
        created = state.created_at if state else None
        pending = thing is not None and thing.visible_at is not None and thing.visible_at > self.true_time()
        if action.verb is Verb.CREATE and pending and created is not None and not world.skew:
            passed = self.run.started_at - created
            if timedelta(0) <= passed < action.target.kind.grace - timedelta(minutes=11):
                world.violate("duplicate", f"{key} was created again {passed} after its creation was accepted")
        now = max(self.run.started_at, self.run.clock.now())
        waits = state is not None and state.not_before is not None and state.not_before > now
        if waits and not self.requested and not world.clock_was_wrong(self.process.began):
            world.violate("not-before", f"{action.verb} of {key}, which has to wait until {state and state.not_before}")

    def _write(self, action: Action) -> Applied | CloudError:
        world, key = self.world, action.key
        error = self._refusal(key)
        if error is not None:
            return error
        if key in world.foreign and world.before[key][0] >= self.process.began:
            # Updates are conditional: what the customer replaced since it was read is not overwritten.
            return Transient("changed", f"{key} was changed since it was read", within_run=False)
        calm = world.is_calm(key.scope)
        before = world.changing(key)
        exists = before is not None
        world.delay = timedelta(seconds=self.process.rng.randrange(600)) if not exists else timedelta(0)
        answer = super()._write(action)
        if not isinstance(answer, Applied):
            return answer
        if calm and action.target.kind.name != "copy" and not world.standing(key.scope):
            what = f"{action.verb} of {key} ({action.reason})"
            world.violate("needless", f"{what}, although nothing has happened to it for days")
        if action.target.kind.name == "copy":
            world.lay_down_copy(key, action.target.desired["watermark"])
        if "type" in action.target.desired:
            wanted = action.target.desired["type"]
            allowed = AGREEMENTS[world.agreements[key.scope]]
            chosen = wanted if wanted in allowed else allowed[0] if wanted != ACTUAL else allowed[-1]
            world.things[key].fields["type"] = chosen
            return msgspec.structs.replace(answer, facts={"type": chosen})
        return answer

    def _refusal(self, key: Key) -> CloudError | None:
        """Return why the cloud refuses a write, None if it does not."""
        world = self.world
        if world.is_denied(key.scope, self.process.rng):
            return Denied("denied", f"{key.scope} refuses", escalation=PROPAGATION, manual_step=GRANT_STEP)
        if key.kind in ("export", "copy") and not self._is_there():
            return Transient("no-destination", "the destination does not exist", within_run=False)
        agreement = world.agreements[key.scope]
        if key.kind == "export" and world.profile.name == "azure" and not AGREEMENTS[agreement]:
            if agreement == "none":
                return NotApplicable("not-supported", "the agreement has no cost data")
            return Transient(
                "not-ready",
                "the subscription has no cost data yet",
                retry_after=timedelta(days=1),
                within_run=False,
                escalation=NOT_READY,
                manual_step=GRANT_STEP,
            )
        return None
