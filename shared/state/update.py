"""Records what a run observed and did. Only this module changes entries of the state document."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from shared.labels import bounded
from shared.model import (
    FORGET_AFTER,
    NOT_LOOKED_AT,
    PENDING,
    WRITES,
    Absent,
    Action,
    Enumeration,
    Health,
    Key,
    ManualStep,
    Outcome,
    Present,
    Result,
    ScopeState,
    Target,
    Unknown,
    Verb,
    Verdict,
)
from shared.runtime.calls import jittered
from shared.runtime.log import Log
from shared.staleness import with_day
from shared.state.document import RunNote, ScopeRecord, StateDocument
from shared.target_state import LastError, TargetState

FIRST_WAIT = timedelta(minutes=5)
LONGEST_WAIT = timedelta(hours=24)
GONE = "gone"
GONE_AFTER = 3  # complete enumerations without the scope
EXCLUDED = "excluded"


def record_outcome(
    document: StateDocument, outcome: Outcome, now: datetime, rng: random.Random, *, refused: bool = False
) -> None:
    """Record one outcome.

    A `refused` plan does not change what is recorded as present: otherwise the next run would see nothing missing.
    """
    key = outcome.key
    scope = document.scopes.get(key.scope)
    if scope is None:
        scope = document.scopes[key.scope] = ScopeRecord(at=now, first_seen=now, targets={})
    name = sys.intern(f"{key.kind}/{key.name}")  # often equal in many scopes
    before = scope.targets.get(name)
    unseen = outcome.action.observation is NOT_LOOKED_AT and not outcome.attempted
    if before is None and unseen and outcome.result is not Result.DEFERRED:
        return
    entry = before or TargetState(at=now)
    changes = _as_seen(outcome, entry, now, refused)
    if refused and outcome.result is Result.BLOCKED:
        scope.targets[name] = msgspec.structs.replace(entry, at=now, **changes)
        return
    changes |= _as_done(outcome, entry, now, rng)
    if outcome.code != entry.state:
        changes |= {"state": outcome.code, "since": now}
    scope.targets[name] = msgspec.structs.replace(entry, at=now, **changes)


def _as_seen(outcome: Outcome, entry: TargetState, now: datetime, refused: bool) -> dict[str, object]:
    seen = outcome.action.observation
    changes: dict[str, object] = {}
    if seen is NOT_LOOKED_AT:
        return changes
    if not isinstance(seen, Present) and entry.delivered_at and entry.unseen_since is None:
        changes["unseen_since"] = now  # it was looked at: a loss of evidence is not looked at again in each run
    if isinstance(seen, Unknown):
        return {**changes, "looked_at": now}
    if isinstance(seen, Absent):
        changes |= {"looked_at": now, "verified_at": now}
        if not refused and outcome.action.reason != PENDING:
            changes["present"] = False
        return changes
    if seen.health not in (Health.INACTIVE, Health.NOT_NEEDED):
        changes |= {"present": True, "awaited_since": None, "creations": 0}
    if seen.verified:
        changes |= {"looked_at": now, "verified_at": now}
    if seen.facts:
        changes["remembered"] = {**entry.facts, **seen.facts}
    if seen.delivered_at:
        changes |= {"delivered_at": seen.delivered_at, "unseen_since": None}
        changes["arrivals"] = with_day(entry.arrivals, seen.delivered_at)
    elif entry.delivered_at and entry.unseen_since is None:
        changes["unseen_since"] = now
    return changes


def _as_done(outcome: Outcome, entry: TargetState, now: datetime, rng: random.Random) -> dict[str, object]:
    seen = outcome.action.observation
    facts = {**entry.facts, **(seen.facts if isinstance(seen, Present) else {}), **outcome.facts}
    settled: dict[str, object] = {"waiting_since": None, "not_before": None, "attempts": 0, "error": None}
    if outcome.action.verb in WRITES and outcome.result in (Result.DONE, Result.PENDING):
        created: dict[str, object] = {}
        if outcome.action.verb is Verb.CREATE:
            awaited = {"awaited_since": entry.awaited_since or now, "creations": entry.creations + 1}
            created = {"created_at": now, **awaited}
        return {**settled, **created, "present": True, "applied_at": now, "remembered": facts or None}
    if outcome.result in (Result.UNCHANGED, Result.PENDING):
        return settled if seen is not NOT_LOOKED_AT else {}
    if outcome.result is Result.SKIPPED:
        return {} if outcome.action.reason == "scope-inactive" else settled
    # Nothing waits for a target that the cloud refuses permanently.
    waiting_since = None if outcome.result is Result.EXCLUDED else entry.waiting_since or now
    changes: dict[str, object] = {"waiting_since": waiting_since}
    if not outcome.action.waits:
        changes["error"] = _trouble(outcome)
    seen_again = outcome.action.verb not in WRITES and entry.not_before is not None and entry.not_before > now
    if outcome.attempted and not seen_again:
        attempts = entry.attempts + 1
        wait = outcome.retry_after or jittered(FIRST_WAIT, attempts, LONGEST_WAIT, rng)
        changes |= {"attempts": attempts, "not_before": now + wait}
    return changes


def has_new_delivery(action: Action) -> bool:
    """Return whether an observation shows data that arrived since earlier runs observed its target."""
    seen, entry = action.observation, action.target.state
    if not isinstance(seen, Present) or seen.delivered_at is None:
        return False
    return entry is None or entry.delivered_at is None or seen.delivered_at > entry.delivered_at


def record_coverage(document: StateDocument, verdicts: Mapping[str, Verdict], now: datetime) -> list[str]:
    """Record each scope's class; return the ids of those that are newly excluded."""
    newly = []
    for scope_id, verdict in verdicts.items():
        entry = document.scopes.get(scope_id)
        if entry is None:
            continue
        if verdict.coverage == EXCLUDED != entry.coverage:
            newly.append(scope_id)
        entry.at, entry.coverage, entry.data = now, verdict.coverage, verdict.data
    return newly


def _trouble(outcome: Outcome) -> LastError:
    manual_step = outcome.manual_step or ManualStep("")
    return LastError(
        code=outcome.code,
        message=outcome.message,
        remedy=outcome.remedy,
        result=outcome.result.value,
        what=manual_step.what,
        steps=list(manual_step.steps),
        url=manual_step.url,
    )


def record_scopes(document: StateDocument, enumeration: Enumeration, now: datetime, log: Log) -> None:
    """Record which scopes were seen and which are missing.

    A scope that is not active in GONE_AFTER complete enumerations in a row is gone; what is known about it is kept in
    case it returns. An incomplete enumeration forgets nothing.
    """
    active: Mapping[str, object] = {one.id: one for one in enumeration.scopes if one.state is ScopeState.ACTIVE}
    for scope in enumeration.scopes:
        entry = document.scopes.get(scope.id)
        if entry is None:
            entry = document.scopes[scope.id] = ScopeRecord(at=now, first_seen=now, targets={})
        entry.at, entry.name, entry.last_seen, entry.counted = now, scope.name, now, scope.counted
        if scope.labels is not None:
            entry.labels = bounded(scope.labels) or None
        if scope.state is ScopeState.ACTIVE:
            if entry.gone_at is not None:
                log("info", "scope-returned", Key(scope.id, "", ""))
            entry.missed, entry.gone_at, entry.state, entry.inactive_since = 0, None, scope.state.value, None
        elif entry.gone_at is None:
            if entry.state == ScopeState.ACTIVE.value and entry.coverage:
                entry.inactive_since = now
            entry.state = scope.state.value
    if not enumeration.complete:
        return
    for scope_id, entry in document.scopes.items():
        if scope_id in active or entry.gone_at is not None:
            continue
        entry.at, entry.missed = now, entry.missed + 1
        if entry.missed >= GONE_AFTER:
            entry.gone_at, entry.state = now, GONE
            log("warning", "scope-gone", Key(scope_id, "", ""))


def compact(document: StateDocument, now: datetime) -> None:
    """Drop the entries of targets that were part of no run for FORGET_AFTER, and everything about scopes gone that
    long.

    These are targets that the settings no longer require; every run with the target touches its entry.
    """
    for scope in document.scopes.values():
        if scope.gone_at is not None and now - scope.gone_at >= FORGET_AFTER:
            scope.targets = {}
        elif scope.gone_at is None and any(now - state.at >= FORGET_AFTER for state in scope.targets.values()):
            scope.targets = {name: state for name, state in scope.targets.items() if now - state.at < FORGET_AFTER}


def retire(document: StateDocument, targets: Iterable[Target], now: datetime) -> None:
    """Drop the entries of former targets, by the `Kind.forget_after` of their kind.

    Only kinds whose targets change daily have a shorter time than `compact` uses for all.
    """
    brief = [one for one in targets if one.kind.forget_after < FORGET_AFTER]
    kinds = {one.kind.name: one.kind.forget_after for one in brief}
    current = {one.key for one in brief}
    for kind, forget_after in kinds.items():
        former = [key for key, state in document.states_of(kind) if now - state.at >= forget_after]
        for key in former:
            if key not in current:
                del document.scopes[key.scope].targets[f"{key.kind}/{key.name}"]


def begin_round(document: StateDocument, now: datetime) -> None:
    """Record that a round of verification begins, in which every target is read once."""
    document.cycle_since = now


def record_run(document: StateDocument, note: RunNote) -> None:
    """Add a run to the history, and remember the last success, which runs for events may displace from it."""
    document.runs.append(note)
    document.succeeded_at = document.last_success()
