"""The planner's truth table: the verb of a target, by what was observed and what is remembered about it.

`RULES` is the table. `decide` applies the first rule that matches, and its docstring is generated from the same rows.
*Waits* means that a not-before time lies in the future and that the scope was not requested by its id. *Remembered*
means MANUAL, SKIP (the cloud had refused it for the scope) or DEFER, as the remembered error says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from shared.case import Case, differences, exhausted, overdue_remedy
from shared.model import (
    NOT_LOOKED_AT,
    OVERDUE,
    PENDING,
    Absent,
    Action,
    Health,
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

# What was observed, as rows name it: one of these three, or the health of a present target.
UNSEEN, UNKNOWN, ABSENT = "not looked at", "Unknown", "Absent"
ANY = (UNSEEN, UNKNOWN, ABSENT, *Health)
SETTLED = (Health.HEALTHY, Health.PENDING, Health.BROKEN)


class Rule(NamedTuple):
    """One row: for what was observed (`sights`) and a condition, the verb and its reason."""

    sights: tuple[str, ...]
    condition: str
    outcome: str
    applies: Callable[[Case], bool]
    action: Callable[[Case], Action]


def _always(_: Case) -> bool:
    return True


def _troubled(case: Case) -> bool:
    return case.state is not None and (case.waits or case.state.error is not None)


def _escalated(case: Case) -> bool:
    seen = case.seen
    if isinstance(seen, Absent) or seen.manual_step is None:
        return False
    if seen.escalation is None:
        return isinstance(seen, Unknown)
    return exhausted(seen.escalation, case.state, case.now)


def _just_created(case: Case) -> bool:
    seen, state = case.seen, case.state
    created = state.created_at if state else None
    one_proof = isinstance(seen, Absent) and len(seen.proof) < 2
    return created is not None and one_proof and abs(case.now - created) < case.target.kind.grace


def _by_deliveries_in_trouble(case: Case) -> bool:
    seen = case.seen
    return isinstance(seen, Present) and not seen.verified and case.state is not None and case.state.error is not None


def _overdue(case: Case) -> bool:
    """Return whether a creation takes longer than its normal time.

    Adapters limit the wait for first data, and that of kinds without a normal time.
    """
    limit, since = _limit(case), _pending_since(case)
    awaits_data = isinstance(case.seen, Present) and case.seen.first_data
    if case.changes or case.unmarked or since is None or not limit or awaits_data:
        return False
    return case.now - since >= limit or (case.state is not None and case.state.state == OVERDUE)


def _limit(case: Case) -> timedelta:
    escalation = case.seen.escalation if isinstance(case.seen, Present) else None
    return (escalation.longest if escalation else None) or case.target.kind.grace


def _pending_since(case: Case) -> datetime | None:
    state = case.state
    return state.since if state and state.since and state.state in (PENDING, OVERDUE) else None


def _remembered(case: Case) -> Action:
    """Return the action for the remembered error."""
    state = case.state
    error = state.error if state else None
    due = f"not before {state.not_before}" if state and state.not_before else "as it was when it was last looked at"
    detail = due + (f": {error.message}" if error else "")
    if error and error.result == Result.MANUAL.value:
        step = ManualStep(error.what or error.message, tuple(error.steps), error.url)
        return Action(case.target, Verb.MANUAL, error.code, detail, observation=case.seen, manual_step=step, waits=True)
    # Documents of earlier versions say "skipped" of what the cloud had refused.
    refused = error is not None and error.result in (Result.EXCLUDED.value, Result.SKIPPED.value)
    verb, code = Verb.SKIP if refused else Verb.DEFER, error.code if error else "not-before"
    remedy = error.remedy if error else ""
    return Action(case.target, verb, code, detail, observation=case.seen, waits=True, remedy=remedy)


def _known(case: Case) -> Action:
    state = case.state
    return case.act(Verb.KEEP, "remembered", f"verified {state and (state.verified_at or state.applied_at)}")


def _unknown(case: Case) -> Action:
    remedy = case.seen.remedy if isinstance(case.seen, Unknown) else ""
    return case.act(Verb.DEFER, case.seen.code, case.seen.detail, remedy)


def _late(case: Case) -> Action:
    detail = f"pending since {_pending_since(case):%Y-%m-%d %H:%M} UTC, longer than its normal time ({_limit(case)})"
    detail += f": {case.seen.detail or case.seen.code}" if case.seen.detail or case.seen.code else ""
    return case.act(Verb.DEFER, OVERDUE, detail, overdue_remedy(case.target.key))


def _reason(case: Case) -> str:
    broken = isinstance(case.seen, Present) and case.seen.health is Health.BROKEN
    return case.code("broken") if broken else "drift"


def _write(verb: Verb, reason: Callable[[Case], str]) -> Callable[[Case], Action]:
    def write(case: Case) -> Action:
        detail = case.seen.detail or differences(case)
        return Action(case.target, verb, reason(case), detail, case.changes, case.seen)

    return write


RULES = (
    Rule(
        ANY,
        "scope not active",
        "SKIP (scope-inactive)",
        lambda case: case.scope is None or case.scope.state is not ScopeState.ACTIVE,
        lambda case: case.act(Verb.SKIP, "scope-inactive", case.scope.reason if case.scope else "not enumerated"),
    ),
    Rule(
        ANY,
        "target does not apply",
        "SKIP (not-applicable)",
        lambda case: bool(case.target.skip),
        lambda case: case.act(Verb.SKIP, "not-applicable", case.target.skip),
    ),
    Rule((UNSEEN,), "waits, or an error is remembered", "remembered", _troubled, _remembered),
    Rule(
        (UNSEEN,),
        "remembered as present",
        "KEEP (remembered)",
        lambda case: case.state is not None and bool(case.state.present),
        _known,
    ),
    Rule((UNSEEN,), "otherwise", "DEFER (not-looked-at)", _always, _unknown),
    Rule(
        (UNKNOWN,),
        "a manual step, and its policy is exhausted or none is given",
        "MANUAL (its code)",
        _escalated,
        lambda case: case.ask(case.seen.code, case.seen.manual_step),
    ),
    Rule((UNKNOWN,), "otherwise", "DEFER (its code)", _always, _unknown),
    Rule(
        (ABSENT,),
        "kind not writable",
        "MANUAL (its code)",
        lambda case: not case.target.kind.writable,
        lambda case: case.ask(case.seen.code, case.seen.manual_step or case.target.manual_step),
    ),
    Rule(
        (ABSENT,),
        "one proof, within the grace of an accepted creation",
        "KEEP (pending)",
        _just_created,
        lambda case: case.act(Verb.KEEP, PENDING, f"accepted {case.state and case.state.created_at}"),
    ),
    Rule((ABSENT,), "waits", "remembered", lambda case: case.waits, _remembered),
    Rule(
        (ABSENT,),
        "otherwise",
        "CREATE (its code)",
        _always,
        lambda case: case.act(Verb.CREATE, case.seen.code, case.seen.detail),
    ),
    Rule(
        (Health.INACTIVE,),
        "any",
        "SKIP (its code)",
        _always,
        lambda case: case.act(Verb.SKIP, case.code(Health.INACTIVE.value), case.seen.detail),
    ),
    Rule(
        (Health.NOT_NEEDED,),
        "any",
        "SKIP (its code)",
        _always,
        lambda case: case.act(Verb.SKIP, case.code(Health.NOT_NEEDED.value), case.seen.detail),
    ),
    Rule(
        (*SETTLED, Health.MANUAL, Health.WAITING),
        "foreign",
        "MANUAL (foreign)",
        lambda case: isinstance(case.seen, Present) and case.seen.ownership is Ownership.FOREIGN,
        lambda case: case.ask("foreign", case.seen.manual_step),
    ),
    Rule(
        (Health.MANUAL,),
        "otherwise",
        "MANUAL (its code)",
        _always,
        lambda case: case.ask(case.code("unhealthy"), case.seen.manual_step),
    ),
    Rule(
        (Health.WAITING,),
        "a manual step, and its policy is exhausted",
        "MANUAL (its code)",
        _escalated,
        lambda case: case.ask(case.code("unhealthy"), case.seen.manual_step),
    ),
    Rule(
        (Health.WAITING,),
        "otherwise",
        "DEFER (its code)",
        _always,
        lambda case: case.act(Verb.DEFER, case.code("waiting"), case.seen.detail),
    ),
    Rule(
        SETTLED,
        "seen by its deliveries only, and an error is remembered",
        "remembered",
        _by_deliveries_in_trouble,
        _remembered,
    ),
    Rule((Health.PENDING,), "no drift, longer than its normal time", "DEFER (overdue)", _overdue, _late),
    Rule(
        (Health.PENDING,),
        "no drift",
        "KEEP (pending)",
        lambda case: not case.changes and not case.unmarked,
        lambda case: case.act(Verb.KEEP, PENDING, case.seen.detail),
    ),
    Rule(
        (Health.HEALTHY,),
        "no drift, and marked as ours",
        "KEEP (as-wanted)",
        lambda case: not case.changes and not case.unmarked,
        lambda case: case.act(Verb.KEEP, "as-wanted"),
    ),
    Rule(
        SETTLED,
        "broken or drift, kind not writable",
        "MANUAL (its code, or drift)",
        lambda case: not case.target.kind.writable,
        lambda case: case.ask(_reason(case), case.seen.manual_step or case.target.manual_step),
    ),
    Rule(SETTLED, "waits", "remembered", lambda case: case.waits, _remembered),
    Rule(
        SETTLED,
        "not marked as ours",
        "ADOPT (unmarked)",
        lambda case: case.unmarked,
        _write(Verb.ADOPT, lambda _: "unmarked"),
    ),
    Rule(SETTLED, "broken or drift", "REPAIR (its code, or drift)", _always, _write(Verb.REPAIR, _reason)),
)
_BY_SIGHT = {sight: tuple(rule for rule in RULES if sight in rule.sights) for sight in ANY}


def decide(target: Target, scope: Scope | None, seen: Observation, now: datetime, *, requested: bool) -> Action:
    """Return the one action for one target, by the first of these rules that applies.

    {table}

    `scope` is None if the target's scope was not enumerated; `requested` is true if the scope was requested by its id.
    """
    case = Case(target, scope, seen, now, requested=requested)
    for rule in _BY_SIGHT[_sight(seen)]:
        if rule.applies(case):
            return rule.action(case)
    raise AssertionError("unreachable: the last rule of each observation always applies")


def _sight(seen: Observation) -> str:
    if isinstance(seen, Present):
        return seen.health
    if isinstance(seen, Absent):
        return ABSENT
    return UNSEEN if seen is NOT_LOOKED_AT else UNKNOWN


def table(rules: Iterable[Rule] = RULES) -> str:
    """Return the rules as a table of three columns: what was observed, the condition, the verb and its reason."""
    rows = [("observation", "condition", "verb (reason)")]
    for rule in rules:
        healths = ", ".join(one.name for one in rule.sights if isinstance(one, Health))
        seen = "any" if rule.sights == ANY else f"Present, {healths}" if healths else ", ".join(rule.sights)
        rows.append((seen, rule.condition, rule.outcome))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    rule_line = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule_line, lines[0], rule_line, *lines[1:], rule_line])


decide.__doc__ = (decide.__doc__ or "").replace("{table}", table().replace("\n", "\n    "))
