"""The last check before anything is written: refuses unsafe plans and caps the writes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec

from shared.model import NOT_LOOKED_AT, WRITES, Absent, Action, Key, Problem, Verb
from shared.plan import Plan, assemble
from shared.settings import EngineSettings

VANISHED_FLOOR = 10  # fewer missing targets than this are recreated without a refusal


class Guarded(msgspec.Struct, frozen=True):
    """The plan as it may be applied; `refusal` says why it may not be, `capped` counts the deferred writes."""

    plan: Plan
    refusal: Problem | None = None
    capped: int = 0


def guard(plan: Plan, settings: EngineSettings, now: datetime, *, force: bool) -> Guarded:
    """Return the plan with the guard's refusal or cap applied. Pure: makes no calls.

    A plan is refused if more than `max_vanished_percent` of the targets that earlier runs saw and that this run looked
    at are absent at once, and at least VANISHED_FLOOR of them: wrong credentials or a wrong scope are more likely than
    real deletions. Every write is then blocked, unless `force`. Beyond `max_writes`, the writes that have waited least
    are deferred.
    """
    refusal = None if force else _vanished(plan, settings.max_vanished_percent)
    if refusal:
        blocked = [_hold(action, Verb.BLOCK, refusal.code, refusal.message) for action in plan.actions]
        return Guarded(assemble(blocked), refusal)
    return _cap(plan, settings.max_writes, now)


def _vanished(plan: Plan, percent: int) -> Problem | None:
    known = gone = 0
    lost: Counter[Key] = Counter()  # by prerequisite, the targets that vanished together with it
    absent = {one.key for one in plan.actions if isinstance(one.observation, Absent)}
    for action in plan.actions:
        state = action.target.state
        # Targets that were not observed are no evidence of what is gone; targets that are not writable are never
        # recreated.
        if action.verb is Verb.SKIP or action.observation is NOT_LOOKED_AT or not action.target.kind.writable:
            continue
        if state is not None and state.present:
            known += 1
            if isinstance(action.observation, Absent) and action.verb is not Verb.KEEP:
                gone += 1
                lost.update(need for need in action.target.needs if need in absent)
    if gone < VANISHED_FLOOR or gone * 100 <= known * percent:
        return None
    return Problem(
        "vanished",
        f"{gone} of {known} known targets ({gone * 100 / known:.1f} %) are absent at once, more than the limit of "
        f"{percent} % (MAX_VANISHED_PERCENT); nothing was written",
        _remedy(lost, gone),
    )


def _remedy(lost: Counter[Key], gone: int) -> str:
    """Return the remedy: if all vanished together with one prerequisite, it names that prerequisite."""
    for need, together in lost.most_common(1):
        if together >= gone - 1:  # the prerequisite itself is one of them
            return (
                f"All of them need {need}, which is gone, too. Check the cloud's audit log for who deleted it, and "
                "check the setting that names it. To recreate it with everything in it, invoke once with force."
            )
    return (
        "Check the credentials, the organization and the settings. If the targets were really removed, invoke once "
        "with force."
    )


def _cap(plan: Plan, most: int, now: datetime) -> Guarded:
    writes = plan.writes()
    if not most or len(writes) <= most:
        return Guarded(plan)

    since: dict[Key, datetime] = {}
    for action in writes:
        state = action.target.state
        since[action.key] = state.waiting_since if state and state.waiting_since else now
    # A prerequisite has waited as long as the targets that rest on it: deferring it would defer them too, run after
    # run.
    for action in sorted(writes, key=lambda one: one.target.kind.stage, reverse=True):
        for need in action.target.needs:
            if need in since:
                since[need] = min(since[need], since[action.key])

    def escalation(action: Action) -> tuple[datetime, int, Key]:
        return (since[action.key], action.target.kind.stage, action.key)

    later = {action.key for action in sorted(writes, key=escalation)[most:]}
    detail = f"{len(writes)} writes are due, MAX_WRITES_PER_RUN allows {most}"
    held = [_hold(one, Verb.DEFER, "write-cap", detail) if one.key in later else one for one in plan.actions]
    return Guarded(assemble(held), capped=len(later))


def _hold(action: Action, verb: Verb, reason: str, detail: str) -> Action:
    if action.verb not in WRITES:
        return action
    return msgspec.structs.replace(action, verb=verb, reason=reason, detail=detail)
