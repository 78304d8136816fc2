"""Builders of the engine's data, for tests of single modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.errors import CloudError, Permanent, ReportedError
from shared.model import (
    NOT_LOOKED_AT,
    Absent,
    Action,
    Enumeration,
    Key,
    Kind,
    ManualStep,
    Observation,
    Outcome,
    Result,
    Scope,
    Stage,
    Target,
    Verb,
)
from shared.plan import Plan
from shared.provider import Applied, KnownStates
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.runtime.rate_limit import Rate
from shared.settings import EngineSettings
from shared.state.document import ScopeRecord, StateDocument, fresh
from shared.target_state import TargetState

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DESTINATION = Kind("destination", Stage.DESTINATION)
EXPORT = Kind("export", Stage.EXPORT, grace=2 * HOUR)
ROLE = Kind("role", Stage.DERIVED, batch_size=3)
CHECKED = Kind("checked", Stage.EXPORT, writable=False)
GUIDE = ManualStep("it is broken", ("Mend it.",), "https://console.example/mend")
RATES = {"list": Rate(1000, 1000), "read": Rate(1000, 1000), "write": Rate(1000, 1000)}

Line = tuple[str, str, Mapping[str, Any]]


def key(scope: str = "s1", kind: str = "export", name: str = "daily") -> Key:
    """Return a key."""
    return Key(scope, kind, name)


def target(scope: str = "s1", kind: Kind = EXPORT, name: str = "daily", **fields: Any) -> Target:
    """Return a target with one desired field, unless given otherwise."""
    return Target(Key(scope, kind.name, name), kind, **{"desired": {"format": "csv"}, **fields})


def action(verb: Verb, scope: str = "s1", kind: Kind = EXPORT, **fields: Any) -> Action:
    """Return an action on a target of `scope`; any field of the target and the action may be given."""
    of_target = {name: fields.pop(name) for name in ("name", "needs", "batch", "desired", "state") if name in fields}
    seen: Observation = Absent() if verb is Verb.CREATE else NOT_LOOKED_AT
    return Action(target(scope, kind, **of_target), verb, **{"reason": "test", "observation": seen, **fields})


def outcome(result: Result, scope: str = "s1", verb: Verb = Verb.CREATE, **fields: Any) -> Outcome:
    """Return an outcome; any field of the action and the outcome may be given."""
    of_action = {name: fields.pop(name) for name in ("observation", "waits", "kind", "reason") if name in fields}
    return Outcome(action(verb, scope, **of_action), result, **{"code": "test", **fields})


def scopes(*ids: str) -> dict[str, Scope]:
    """Return active scopes by id."""
    return {one: Scope(one) for one in ids}


def enumeration(*ids: str, complete: bool = True) -> Enumeration:
    """Return an enumeration of active scopes."""
    return Enumeration("org-1", tuple(Scope(one) for one in ids), complete)


def remembering(entries: Mapping[Key, TargetState]) -> StateDocument:
    """Return a state document with these entries."""
    memory = fresh("memory")
    for one, entry in entries.items():
        scope = memory.scopes.setdefault(one.scope, ScopeRecord(at=entry.at, first_seen=entry.at, targets={}))
        scope.targets[f"{one.kind}/{one.name}"] = entry
    return memory


def with_state(one: Target, state: TargetState | None) -> Target:
    """Return a target with its remembered state."""
    return msgspec.structs.replace(one, state=state)


def paired(plan: Plan, memory: StateDocument) -> Plan:
    """Return a plan whose targets have their state from a state document."""
    actions = (
        msgspec.structs.replace(one, target=with_state(one.target, memory.state_of(one.key))) for one in plan.actions
    )
    return Plan(tuple(actions), plan.hash)


def known(*keys: Key, **fields: Any) -> StateDocument:
    """Return a state document in which these targets are present, or have the given fields."""
    return remembering({one: TargetState(**{"at": START, "present": True, **fields}) for one in keys})


class Recorder:
    """A run context on a virtual clock that records its log lines."""

    def __init__(self, clock: VirtualClock | None = None, seconds: float = 600.0, seed: int = 1, **settings: Any):
        self.clock = clock or VirtualClock(START)
        self.lines: list[Line] = []

        def sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
            self.lines.append((level, event, fields))

        def translate(error: Exception) -> ReportedError:
            return Permanent("unexpected", type(error).__name__)

        self.run = RunContext("memory", EngineSettings(**settings), sink, self.clock, seconds, RATES, translate, seed)

    def events(self) -> list[str]:
        """Return the names of the events, in order."""
        return [event for _, event, _ in self.lines]


class ScriptedCloud:
    """A provider with scripted results that records its calls.

    `observe_bulk` raises `survey_error`; `observe` raises the exceptions in `observations`. `answers` has, by scope, a
    result or an exception that is raised for the batch with that scope.
    """

    name = "memory"
    facts: Mapping[str, Any] = {}

    def __init__(
        self,
        surveyed: Mapping[Key, Observation] | None = None,
        observations: Mapping[Key, Observation | Exception] | None = None,
        answers: Mapping[str, Applied | CloudError | Exception] | None = None,
    ) -> None:
        self.surveyed = dict(surveyed or {})
        self.survey_error: ReportedError | None = None
        self.observations = dict(observations or {})
        self.answers = dict(answers or {})
        self.inspected: list[Key] = []
        self.batches: list[list[Key]] = []

    def enumerate(self, scopes: Sequence[str]) -> Enumeration:
        return enumeration(*scopes)

    def targets(self, enumeration: Enumeration, known: KnownStates) -> Sequence[Target]:
        return [target(scope.id) for scope in enumeration.scopes]

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        if self.survey_error:
            raise self.survey_error
        return self.surveyed

    def observe(self, target: Target) -> Observation:
        self.inspected.append(target.key)
        found = self.observations.get(target.key, Absent())
        if isinstance(found, Exception):
            raise found
        return found

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        self.batches.append([one.key for one in actions])
        answers: list[Applied | CloudError] = []
        for one in actions:
            answer = self.answers.get(one.key.scope, Applied())
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
        return answers


def with_fields(actions: Iterable[Action], **fields: Any) -> list[Action]:
    """Return the actions with some fields replaced."""
    return [msgspec.structs.replace(one, **fields) for one in actions]
