"""The planner: a pure function from what must exist, what was seen and what is remembered to the plan.

Truth table, first match wins. *Waits* means that memory holds a not-before time in the future, and nobody asked for
the scope by its id.

====================================  ==========================================  ===================================
observation                           and                                         verb (reason)
====================================  ==========================================  ===================================
any                                   scope not active                            SKIP (scope-inactive)
any                                   target does not apply                       SKIP (not-applicable)
not looked at                         waits, or a trouble is remembered           as the remembered trouble says
not looked at                         remembered as present                       KEEP (remembered)
not looked at                         otherwise                                   DEFER (not-looked-at)
Unknown                               escalated, or no policy; manual step       MANUAL (its code)
Unknown                               otherwise                                   DEFER (its code)
Absent                                kind not writable                           MANUAL (its code)
Absent, one proof                     within the grace of an accepted creation    KEEP (pending)
Absent                                waits                                       as the remembered trouble says
Absent                                otherwise                                   CREATE (its code)
Present, INACTIVE or NOT_NEEDED       any                                         SKIP (its code)
Present, foreign                      any                                         MANUAL (foreign)
Present, MANUAL                       any                                         MANUAL (its code)
Present, WAITING                      escalated; manual step                      MANUAL (its code)
Present, WAITING                      otherwise                                   DEFER (its code)
Present, PENDING                      no drift, within its normal time            KEEP (pending)
Present, PENDING                      no drift, longer than that                  DEFER (overdue)
Present, by its deliveries only       a trouble is remembered                     as the remembered trouble says
Present, BROKEN or drift              kind not writable                           MANUAL (its code, or drift)
Present, BROKEN or drift, or unmarked  waits                                      as the remembered trouble says
Present, unmarked                     kind writable                               ADOPT (unmarked)
Present, BROKEN or drift              otherwise                                   REPAIR (its code, or drift)
Present                               otherwise                                   KEEP (as-wanted)
====================================  ==========================================  ===================================

The remembered trouble says MANUAL, SKIP (the cloud had refused it for the scope) or DEFER. At the end a write whose
needs are MANUAL or BLOCK becomes BLOCK, one whose needs are DEFER becomes DEFER.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from shared.model import (
    NOT_LOOKED_AT,
    OVERDUE,
    PENDING,
    RESTS_ON,
    WRITES,
    Absent,
    Action,
    EscalationPolicy,
    Health,
    Key,
    ManualStep,
    Observation,
    Ownership,
    Present,
    Result,
    Scope,
    ScopeState,
    Target,
    Unknown,
    Verb,
)
from shared.target_state import TargetState


class Plan(msgspec.Struct, frozen=True):
    """The actions, sorted by key, and their hash (hex): equal for equal input, whether the run is dry or real."""

    actions: tuple[Action, ...]
    hash: str

    def writes(self) -> list[Action]:
        """Return the actions that write."""
        return [action for action in self.actions if action.verb in WRITES]

    def writes_hash(self) -> str:
        """Return the hash (hex) of the writes alone: what is kept, or waits, may change without changing it."""
        return _digest(self.writes())


def make_plan(
    targets: Iterable[Target],
    scopes: Mapping[str, Scope],
    observations: Mapping[Key, Observation],
    now: datetime,
    requested: Collection[str] = (),
) -> Plan:
    """Return the plan: one action for each target.

    `scopes` are the enumerated ones by id, `requested` the ids somebody asked for by name: for these no not-before time
    counts.
    """
    actions = [
        decide(
            target,
            scopes.get(target.key.scope),
            observations.get(target.key, NOT_LOOKED_AT),
            now,
            requested=target.key.scope in requested,
        )
        for target in targets
    ]
    return assemble(actions)


def assemble(actions: Iterable[Action]) -> Plan:
    """Return the plan of these actions: sorted, with writes held back whose needs are not met, and hashed."""
    held = hold_dependants(sorted(actions, key=_order))
    return Plan(tuple(held), _digest(held))


def _digest(actions: Iterable[Action]) -> str:
    digest = sha256()
    for action in actions:
        key = action.target.key
        parts = (key.scope, key.kind, key.name, action.verb.value, action.reason, *action.changes)
        digest.update("\x1f".join(parts).encode() + b"\x1e")
    return digest.hexdigest()


def _order(action: Action) -> Key:
    return action.target.key


def hold_dependants(actions: list[Action]) -> list[Action]:
    """Return the actions, in the same order, with every write held back whose needs are not going to be there.

    Needs may rest on needs: they are settled stage by stage, so that a reason travels the whole way.
    """
    writes = [place for place, action in enumerate(actions) if action.verb in WRITES and action.target.needs]
    needed = {need for place in writes for need in actions[place].target.needs}
    holders = {action.target.key: action for action in actions if action.target.key in needed}
    for place in sorted(writes, key=lambda place: actions[place].target.kind.stage):
        action = actions[place]
        for need in action.target.needs:
            holder = holders.get(need)
            if holder is None or holder.verb not in (Verb.MANUAL, Verb.BLOCK, Verb.DEFER):
                continue
            verb = Verb.DEFER if holder.verb is Verb.DEFER else Verb.BLOCK
            detail = f"rests on {need}: {holder.detail or holder.reason}"
            remedy = holder.remedy or (" ".join(holder.manual_step.steps) if holder.manual_step else "")
            actions[place] = msgspec.structs.replace(action, verb=verb, reason=RESTS_ON, detail=detail, remedy=remedy)
            if action.key in holders:
                holders[action.key] = actions[place]
            break
    return actions


def decide(
    target: Target,
    scope: Scope | None,
    observation: Observation,
    now: datetime,
    *,
    requested: bool,
) -> Action:
    """Return the one action for one target: the table above, row by row."""
    entry = target.state
    if scope is None or scope.state is not ScopeState.ACTIVE:
        reason = scope.reason if scope else "not enumerated"
        return Action(target, Verb.SKIP, "scope-inactive", reason, observation=observation)
    if target.skip:
        return Action(target, Verb.SKIP, "not-applicable", target.skip, observation=observation)
    waits = entry is not None and entry.not_before is not None and entry.not_before > now and not requested
    if observation is NOT_LOOKED_AT:
        return _unseen(target, entry, waits)
    if isinstance(observation, Unknown):
        return _unknown(target, observation, entry, now)
    if isinstance(observation, Absent):
        return _absent(target, observation, entry, now, waits)
    return _present(target, observation, entry, now, waits)


def _unseen(target: Target, entry: TargetState | None, waits: bool) -> Action:
    if entry is not None and (waits or entry.error is not None):
        return _as_remembered(target, NOT_LOOKED_AT, entry)
    if entry is not None and entry.present:
        return Action(target, Verb.KEEP, "remembered", f"verified {entry.verified_at or entry.applied_at}")
    return Action(target, Verb.DEFER, NOT_LOOKED_AT.code, NOT_LOOKED_AT.detail)


def _unknown(target: Target, observation: Unknown, entry: TargetState | None, now: datetime) -> Action:
    if observation.manual_step and (observation.escalation is None or exhausted(observation.escalation, entry, now)):
        return _manual(target, observation, observation.code, observation.manual_step)
    remedy = observation.remedy
    return Action(target, Verb.DEFER, observation.code, observation.detail, observation=observation, remedy=remedy)


def _absent(target: Target, observation: Absent, entry: TargetState | None, now: datetime, waits: bool) -> Action:
    if not target.kind.writable:
        return _manual(target, observation, observation.code, observation.manual_step or target.manual_step)
    if entry and entry.created_at and abs(now - entry.created_at) < target.kind.grace and len(observation.proof) < 2:
        return Action(target, Verb.KEEP, PENDING, f"accepted {entry.created_at}", observation=observation)
    if entry is not None and waits:
        return _as_remembered(target, observation, entry)
    return Action(target, Verb.CREATE, observation.code, observation.detail, observation=observation)


def _present(target: Target, observation: Present, entry: TargetState | None, now: datetime, waits: bool) -> Action:
    health = observation.health
    if health in (Health.INACTIVE, Health.NOT_NEEDED):
        return Action(target, Verb.SKIP, observation.code or health.value, observation.detail, observation=observation)
    if observation.ownership is Ownership.FOREIGN:
        return _manual(target, observation, "foreign", observation.manual_step)
    if health is Health.MANUAL:
        return _manual(target, observation, observation.code or "unhealthy", observation.manual_step)
    if health is Health.WAITING:
        if observation.manual_step and observation.escalation and exhausted(observation.escalation, entry, now):
            return _manual(target, observation, observation.code or "unhealthy", observation.manual_step)
        return Action(target, Verb.DEFER, observation.code or "waiting", observation.detail, observation=observation)
    if not observation.verified and entry is not None and entry.error is not None:
        return _as_remembered(target, observation, entry)
    changes = drift(target, observation) if observation.verified else ()
    unmarked = observation.ownership is Ownership.UNMARKED and target.kind.writable
    if not changes and not unmarked and health is not Health.BROKEN:
        if health is Health.PENDING:
            return _pending(target, observation, entry, now)
        return Action(target, Verb.KEEP, "as-wanted", observation=observation)
    reason = observation.code or "broken" if health is Health.BROKEN else "drift"
    detail = observation.detail or _differences(target, observation, changes)
    if not target.kind.writable:
        return _manual(target, observation, reason, observation.manual_step or target.manual_step)
    if entry is not None and waits:
        return _as_remembered(target, observation, entry)
    if unmarked:
        return Action(target, Verb.ADOPT, "unmarked", detail, changes, observation)
    return Action(target, Verb.REPAIR, reason, detail, changes, observation)


def _pending(target: Target, observation: Present, entry: TargetState | None, now: datetime) -> Action:
    """Return what to do about something that is being made: nothing, as long as that is its normal time.

    What awaits its first data, and kinds without a normal time, are bounded by their adapters.
    """
    limit = (observation.escalation.longest if observation.escalation else None) or target.kind.grace
    since = entry.since if entry and entry.since and entry.state in (PENDING, OVERDUE) else None
    late = since is not None and (now - since >= limit or (entry is not None and entry.state == OVERDUE))
    if not late or not limit or observation.first_data:
        return Action(target, Verb.KEEP, PENDING, observation.detail, observation=observation)
    detail = f"pending since {since:%Y-%m-%d %H:%M} UTC, longer than its normal time ({limit})"
    detail += f": {observation.detail or observation.code}" if observation.detail or observation.code else ""
    return Action(target, Verb.DEFER, OVERDUE, detail, observation=observation, remedy=overdue_remedy(target.key))


def overdue_remedy(key: Key) -> str:
    """Return what to do about a target that was accepted and does not come."""
    return (
        f"See in the cloud's console what becomes of {key.kind} {key.name} of {key.scope}: who or what removes it, or "
        f"which operation never ends. Run again with --scope {key.scope} to try at once."
    )


def drift(target: Target, observation: Present) -> tuple[str, ...]:
    """Return the managed fields, sorted, whose actual value is not the desired one. Other fields never count."""
    actual = observation.actual
    return tuple(sorted(field for field, value in target.desired.items() if actual.get(field) != value))


def _differences(target: Target, observation: Present, changes: tuple[str, ...]) -> str:
    return "; ".join(f"{field}{_difference(observation.actual.get(field), target.desired[field])}" for field in changes)


def _difference(actual: object, desired: object) -> str:
    """Return the two values for a person; whole structures would only hide which field it is."""
    if isinstance(actual, list | dict | tuple) or isinstance(desired, list | dict | tuple):
        return ""
    return f": {actual!r} instead of {desired!r}"


def _manual(target: Target, observation: Observation, reason: str, manual_step: ManualStep | None) -> Action:
    manual_step = manual_step or ManualStep(f"{target.key.kind} {target.key.name}: {observation.detail or reason}")
    return Action(target, Verb.MANUAL, reason, manual_step.what, observation=observation, manual_step=manual_step)


def _as_remembered(target: Target, observation: Observation, entry: TargetState) -> Action:
    trouble = entry.error
    due = f"not before {entry.not_before}" if entry.not_before else "as it was when it was last looked at"
    detail = due + (f": {trouble.message}" if trouble else "")
    if trouble and trouble.result == Result.MANUAL.value:
        manual_step = ManualStep(trouble.what or trouble.message, tuple(trouble.steps), trouble.url)
        return Action(
            target, Verb.MANUAL, trouble.code, detail, observation=observation, manual_step=manual_step, waits=True
        )
    # Documents of earlier versions say "skipped" of what the cloud had refused.
    verb = Verb.SKIP if trouble and trouble.result in (Result.EXCLUDED.value, Result.SKIPPED.value) else Verb.DEFER
    code = trouble.code if trouble else "not-before"
    remedy = trouble.remedy if trouble else ""
    return Action(target, verb, code, detail, observation=observation, waits=True, remedy=remedy)


def exhausted(escalation: EscalationPolicy, entry: TargetState | None, now: datetime) -> bool:
    """Return whether a wait is over, counting the present attempt as one."""
    waited = now - entry.waiting_since if entry and entry.waiting_since else timedelta(0)
    return escalation.exhausted(waited, (entry.attempts if entry else 0) + 1)
