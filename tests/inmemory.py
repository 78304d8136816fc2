"""A cloud and a state store in memory, for simulations, property tests and the contract suites.

Both keep the contracts of the ports: bulk listings and single reads are calls on quotas, an accepted write may become
visible later, listings may fail, and a create never overwrites.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.errors import CloudError, Denied, NotFound, Permanent, ReportedError, Transient
from shared.model import (
    Absent,
    Action,
    Enumeration,
    Health,
    Key,
    Kind,
    ManualStep,
    Observation,
    Ownership,
    Present,
    Problem,
    Result,
    Scope,
    ScopeState,
    Stage,
    Target,
    Unknown,
    Verb,
)
from shared.periods import Period, month_of
from shared.provider import Applied, KnownStates
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.rate_limit import Rate
from shared.state.store import STATE, Blob, Conflict, aside_name, report_name, run_ids

OWNER_SCOPE = "owner"
DESTINATION = Kind("destination", Stage.DESTINATION)
SWITCH = Kind("switch", Stage.DESTINATION, writable=False)
EXPORT = Kind("export", Stage.EXPORT)
ROLE = Kind("role", Stage.DERIVED, grace=timedelta(hours=1), batch_size=100)

RATES = {"list": Rate(50, 50), "read": Rate(100, 100), "write": Rate(50, 50)}


class Thing(msgspec.Struct):
    """An existing resource.

    `delivered_at`: its last delivery; `visible_at`: when listings start to show it; `periods`: the delivered periods.
    """

    fields: dict[str, Any]
    health: Health = Health.HEALTHY
    ownership: Ownership = Ownership.OURS
    delivered_at: datetime | None = None
    visible_at: datetime | None = None
    periods: Mapping[str, Period] = {}


class World:
    """The state of the cloud, which a test may change at any time.

    `faults` maps (operation, scope) or (operation, "*") to the error to raise; operations are ``enumerate``,
    ``list``, ``read`` and ``write``. `calls` counts (operation, kind). `delay` is how long new targets whose kind has a
    grace stay invisible.
    """

    def __init__(self, scopes: int = 0, owner: str = "org-1") -> None:
        self.owner = owner
        self.scopes: dict[str, Scope] = {OWNER_SCOPE: Scope(OWNER_SCOPE, "the owner's scope")}
        self.things: dict[Key, Thing] = {Key(OWNER_SCOPE, "switch", "sharing"): Thing({"on": True})}
        self.faults: dict[tuple[str, str], ReportedError] = {}
        self.problems: tuple[Problem, ...] = ()
        self.delay = timedelta(0)
        self.evidence = False
        self.calls: Counter[tuple[str, str]] = Counter()
        self.written: list[tuple[Verb, Key]] = []
        self.lock = threading.Lock()
        for number in range(scopes):
            self.join(f"s{number:05d}")

    def join(self, scope: str) -> None:
        """Add an active scope."""
        self.scopes[scope] = Scope(scope, f"scope {scope}")

    def suspend(self, scope: str) -> None:
        """Make a scope inactive; it stays in the listing."""
        self.scopes[scope] = msgspec.structs.replace(self.scopes[scope], state=ScopeState.INACTIVE, reason="SUSPENDED")

    def remove(self, scope: str) -> None:
        """Remove a scope from the listing."""
        del self.scopes[scope]

    def deliver(self, now: datetime) -> None:
        """Deliver data from every healthy export."""
        for key, thing in self.things.items():
            if key.kind == EXPORT.name and thing.health is Health.HEALTHY:
                thing.delivered_at = now
                known = thing.periods.get(month_of(now), Period(0, 0, now))
                more = Period((known.files or 0) + 1, (known.bytes or 0) + 1000, known.first, now)
                thing.periods = {**thing.periods, month_of(now): more}

    def trip(self, operation: str, scope: str = "*") -> None:
        """Raise the fault that is set for this operation, if any."""
        fault = self.faults.get((operation, scope)) or self.faults.get((operation, "*"))
        if fault:
            raise fault


DESIRED: Mapping[str, Mapping[str, Any]] = {
    DESTINATION.name: {"private": True},
    SWITCH.name: {"on": True},
    EXPORT.name: {"format": "csv", "destination": "data"},
    ROLE.name: {"trusts": "reader"},
}
SWITCH_STEP = ManualStep("sharing is switched off", ("Switch it on again.",), "https://console.example/sharing")


class InMemoryCloud:
    """The provider port over a `World`, for one run."""

    name = "memory"
    facts: Mapping[str, Any] = {}

    def __init__(self, world: World, run: RunContext) -> None:
        self.world = world
        self.run = run

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        def listing() -> tuple[Scope, ...]:
            self.world.trip("enumerate")
            return tuple(self.world.scopes.values())

        try:
            found = self.run.calls("list", listing)
        except Denied as error:
            problem = Problem(error.code, error.message, "Grant the permission to list the scopes.")
            return Enumeration(self.world.owner, (), complete=False, problems=(problem,))
        return Enumeration(self.world.owner, found, not self.world.problems, self.world.problems)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        destination = Key(OWNER_SCOPE, DESTINATION.name, "data")
        switch = Key(OWNER_SCOPE, SWITCH.name, "sharing")
        targets = [
            Target(destination, DESTINATION, DESIRED[DESTINATION.name]),
            Target(switch, SWITCH, DESIRED[SWITCH.name], manual_step=SWITCH_STEP),
        ]
        for scope in enumeration.scopes:
            if scope.id != OWNER_SCOPE:
                export, role = Key(scope.id, EXPORT.name, "daily"), Key(scope.id, ROLE.name, "reader")
                targets.append(
                    Target(export, EXPORT, DESIRED[EXPORT.name], needs=(destination,), rhythm=timedelta(hours=48))
                )
                targets.append(Target(role, ROLE, DESIRED[ROLE.name], needs=(switch,)))
        return targets

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        roles = [target.key for target in targets if target.kind is ROLE]
        exports = [target.key for target in targets if target.kind is EXPORT] if self.world.evidence else []
        observations: dict[Key, Observation] = {}
        try:
            self.run.calls("list", lambda: self._count_and_trip("list", "*", ROLE.name))
            observations.update({key: self._look(key) for key in roles})
        except Denied as error:
            observations.update({key: Unknown(error.code, error.message) for key in roles})
        for key in exports:
            thing = self.world.things.get(key)
            if thing and thing.delivered_at and self.run.clock.now() - thing.delivered_at < timedelta(hours=36):
                observations[key] = Present(verified=False, delivered_at=thing.delivered_at, periods=thing.periods)
        return observations

    def observe(self, target: Target) -> Observation:
        self.run.calls("read", lambda: self._count_and_trip("read", target.key.scope, target.kind.name))
        return self._look(target.key)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        kind = actions[0].target.kind.name
        self.run.calls("write", lambda: self._count_and_trip("write", "*", kind))
        return [self._write(action) for action in actions]

    def _count_and_trip(self, operation: str, scope: str, kind: str) -> None:
        with self.world.lock:
            self.world.calls[operation, kind] += 1
        self.world.trip(operation, scope)

    def true_time(self) -> datetime:
        """Return the cloud's own time."""
        return self.run.clock.now()

    def shown(self, key: Key) -> Thing | None:
        """Return a resource as reads show it."""
        return self.world.things.get(key)

    def _look(self, key: Key) -> Observation:
        thing = self.shown(key)
        if thing is None or (thing.visible_at and thing.visible_at > self.true_time()):
            return Absent()
        return Present(
            dict(thing.fields),
            thing.health,
            thing.ownership,
            code=thing.health.value if thing.health is not Health.HEALTHY else "",
            manual_step=SWITCH_STEP if thing.health in (Health.MANUAL, Health.WAITING) else None,
            delivered_at=thing.delivered_at,
            periods=thing.periods,
        )

    def _write(self, action: Action) -> Applied | CloudError:
        key, now = action.key, self.true_time()
        try:
            self.world.trip("write", key.scope)
        except CloudError as error:
            return error
        with self.world.lock:
            exists = self.world.things.get(key)
            if action.verb is Verb.CREATE and exists and exists.ownership is Ownership.FOREIGN:
                return Permanent("foreign", f"{key} exists and belongs to another owner")
            self.world.written.append((action.verb, key))
            late = action.verb is Verb.CREATE and bool(self.world.delay and action.target.kind.grace)
            self.world.things[key] = Thing(
                {**(exists.fields if exists else {}), **action.target.desired},
                delivered_at=exists.delivered_at if exists else None,
                periods=exists.periods if exists else {},
                visible_at=now + self.world.delay if late else None,
            )
        return Applied(Result.PENDING if late else Result.DONE)


class InMemoryStore:
    """The state-store port in a dictionary; `faults` are raised by the operation of that name.

    With a `clock`, the store reports the age of the state, as real stores do. `lost_answers` is the number of saves
    that succeed without a response. `documents` has all documents by name.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.documents: dict[str, bytes] = {}
        self.aside: dict[str, bytes] = {}
        self.reports: dict[str, bytes] = {}
        self.exists = True
        self.faults: dict[str, Exception] = {}
        self.before_save: Callable[[], None] | None = None
        self.lost_answers = 0
        self._clock = clock
        self._written_at: datetime | None = None
        self._versions: Counter[str] = Counter()

    @property
    def data(self) -> bytes | None:
        """The stored state, or None."""
        return self.documents.get(STATE)

    def replace(self, data: bytes, document: str = STATE) -> None:
        """Write a document as another process would."""
        self.documents[document] = data
        self._versions[document] += 1
        if document == STATE:
            self._written_at = self._clock.now() if self._clock else None

    def age(self) -> timedelta | None:
        self._trip("age")
        return self._clock.now() - self._written_at if self._clock and self._written_at else None

    def load(self, limit: int, document: str = STATE) -> Blob:
        self._trip("load", document)
        data = self.documents.get(document)
        if data is None:
            return Blob()
        return Blob(data if len(data) <= limit else b"", str(self._versions[document]), len(data))

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        if document == STATE:
            hook, self.before_save = self.before_save, None
            if hook:
                hook()
        self._trip("save", document)
        if not self.exists:
            raise NotFound("no-container", "the container does not exist")
        if version != (str(self._versions[document]) if document in self.documents else None):
            raise Conflict
        self.replace(data, document)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Transient("connection", "the response was lost")
        return str(self._versions[document])

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        self._trip("set_aside", document)
        name = aside_name(document or "state.json", damaged)
        self.aside[name] = damaged.data or self.documents.get(document, b"")
        return name

    def put(self, document: str, data: bytes, content_type: str) -> str:
        self._trip("put", document)
        self.replace(data, document)
        return document

    def put_report(self, run_id: str, data: bytes) -> str:
        self._trip("put_report")
        self.reports[run_id] = data
        return report_name(run_id)

    def report(self, run_id: str) -> bytes:
        self._trip("report")
        if run_id not in self.reports:
            raise NotFound("report-missing", f"no report of run {run_id}")
        return self.reports[run_id]

    def report_ids(self, since: str) -> list[str]:
        self._trip("report_ids")
        return run_ids(map(report_name, self.reports), since)

    def _trip(self, operation: str, document: str = STATE) -> None:
        for fault in (operation, f"{operation} {document}") if document else (operation,):
            if fault in self.faults:
                raise self.faults[fault]
