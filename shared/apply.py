"""Applies a plan stage by stage, in a bounded pool, until the deadline. Every action gets an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

import msgspec

from shared.case import exhausted, overdue_remedy
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    Permanent,
    ReportedError,
    RunStopped,
    Transient,
    clean,
    clean_manual_step,
    defect,
)
from shared.model import (
    NOT_LOOKED_AT,
    OVERDUE,
    PENDING,
    RESTS_ON,
    WRITES,
    Absent,
    Action,
    Health,
    Key,
    Outcome,
    Present,
    Result,
    Stage,
    Verb,
)
from shared.plan import Plan
from shared.provider import Applied, Provider
from shared.runtime.context import RunContext
from shared.runtime.pool import each
from shared.target_state import TargetState

UNWRITTEN = {
    Verb.KEEP: Result.UNCHANGED,
    Verb.SKIP: Result.SKIPPED,
    Verb.DEFER: Result.DEFERRED,
    Verb.BLOCK: Result.BLOCKED,
    Verb.MANUAL: Result.MANUAL,
}
HELD = (RESTS_ON, "write-cap")  # the engine's own reasons for holding a write back
MAX_UNSEEN_CREATIONS = 5  # accepted creations after which a target that never appears has failed
NOT_THERE = frozenset({Result.FAILED, Result.DEFERRED, Result.BLOCKED, Result.MANUAL})


class ApplyResult(msgspec.Struct, frozen=True):
    """The outcomes of a plan. `stopped`: the failure that ended the run early; `complete`: false if time ran out."""

    outcomes: tuple[Outcome, ...]
    stopped: RunStopped | None
    complete: bool


def apply(plan: Plan, cloud: Provider, run: RunContext, on_outcome: Callable[[Outcome], None]) -> ApplyResult:
    """Carry out the plan and return an outcome for each action, in the plan's order.

    `on_outcome` is called with each outcome as it happens, in this thread. Never raises for a failure of the cloud: a
    RunStopped is returned in `stopped`, and actions that were not begun by then, or by the deadline, are deferred.
    """
    outcomes: dict[Key, Outcome] = {}
    stopped: RunStopped | None = None

    def note(outcome: Outcome) -> None:
        outcomes[outcome.key] = outcome
        on_outcome(outcome)

    for action in plan.actions:
        if action.verb not in WRITES:
            note(unwritten(action))
    for stage in Stage:
        due = [action for action in plan.actions if action.verb in WRITES and action.target.kind.stage is stage]
        ready = []
        for action in due:
            need = next(
                (key for key in action.target.needs if key in outcomes and outcomes[key].result in NOT_THERE), None
            )
            if need is None:
                ready.append(action)
            else:
                note(_held_back(action, outcomes[need]))
        stopped = stopped or _write(ready, cloud, run, note)
        for action in due:
            if action.key not in outcomes:
                note(_not_begun(action, stopped))
        run.heartbeat()
    ordered = tuple(outcomes[action.key] for action in plan.actions)
    return ApplyResult(ordered, stopped, complete=not any(one.code == "deadline" for one in ordered))


def _write(
    ready: Sequence[Action], cloud: Provider, run: RunContext, note: Callable[[Outcome], None]
) -> RunStopped | None:
    stopped: list[RunStopped] = []

    def work(batch: Sequence[Action]) -> tuple[Sequence[Applied | ReportedError], int]:
        begun = run.clock.monotonic()
        answers: Sequence[Applied | ReportedError]
        try:
            answers = _checked(cloud.apply(batch), len(batch))
        except RunStopped as error:
            stopped.append(error)
            answers = [error] * len(batch)
        except CloudError as error:
            answers = [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - a defect of an adapter must not cost other targets their outcome
            answers = [defect(error)] * len(batch)
        return answers, round((run.clock.monotonic() - begun) * 1000)

    may_begin = lambda: not stopped and run.deadline.allows(0)  # noqa: E731 - a name for the condition reads better
    for batch, (answers, duration_ms) in each(batches(ready), work, run.settings.workers, may_begin):
        for action, answer in zip(batch, answers, strict=True):
            outcome = outcome_of(action, answer, run.clock.now())
            note(msgspec.structs.replace(outcome, duration_ms=duration_ms))
        run.heartbeat()
    return stopped[0] if stopped else None


def _checked(answers: Sequence[Applied | CloudError], number: int) -> Sequence[Applied | CloudError]:
    if len(answers) != number:
        raise Permanent("internal-error", f"{number} actions gave {len(answers)} answers")
    for answer in answers:
        if not isinstance(answer, Applied | CloudError):
            raise TypeError(f"a {type(answer).__name__} is not an answer")
    return answers


def batches(actions: Iterable[Action]) -> Iterator[tuple[Action, ...]]:
    """Yield the actions in groups that may share one call, the longest waiting first."""

    def waiting(action: Action) -> tuple[bool, datetime | None, Key]:
        state = action.target.state
        since = state.waiting_since if state else None
        return (since is None, since, action.key)

    def group(action: Action) -> tuple[str, str, str]:
        return (action.target.kind.name, action.verb.value, action.target.batch)

    ordered = sorted(actions, key=waiting)
    places = {group: place for place, group in reversed(list(enumerate(map(group, ordered))))}
    for _, members in groupby(sorted(ordered, key=lambda action: places[group(action)]), key=group):
        batch = list(members)
        size = batch[0].target.kind.batch_size
        for start in range(0, len(batch), size):
            yield tuple(batch[start : start + size])


def outcome_of(action: Action, answer: Applied | ReportedError, now: datetime) -> Outcome:
    """Return the outcome of the action for the adapter's answer."""
    entry = action.target.state
    if isinstance(answer, Applied):
        answer = msgspec.structs.replace(answer, message=clean(answer.message))
        if action.verb is Verb.CREATE and entry and is_never_seen(action, answer, entry, now):
            what = f"creations were accepted since {entry.awaited_since:%Y-%m-%d %H:%M} UTC, but it never appeared"
            message = f"{what}; {answer.message}" if answer.message else what
            return Outcome(
                action, Result.FAILED, OVERDUE, message, overdue_remedy(action.key), attempted=True, facts=answer.facts
            )
        return Outcome(action, answer.result, action.reason, answer.message, attempted=True, facts=answer.facts)
    failed = Outcome(action, Result.FAILED, answer.code, answer.message, answer.remedy, attempted=True)
    match answer:
        case Manual():
            return msgspec.structs.replace(
                failed, result=Result.MANUAL, manual_step=clean_manual_step(answer.manual_step)
            )
        case NotApplicable():
            return msgspec.structs.replace(failed, result=Result.EXCLUDED, retry_after=answer.retry_after)
        case Transient():
            if answer.manual_step and answer.escalation and exhausted(answer.escalation, entry, now):
                return msgspec.structs.replace(
                    failed, result=Result.MANUAL, manual_step=clean_manual_step(answer.manual_step)
                )
            attempted = answer.code != "deadline"
            return msgspec.structs.replace(
                failed, result=Result.DEFERRED, retry_after=answer.retry_after, attempted=attempted
            )
        case Denied():
            if answer.escalation and not exhausted(answer.escalation, entry, now):
                return msgspec.structs.replace(failed, result=Result.DEFERRED)
            if answer.manual_step:
                return msgspec.structs.replace(
                    failed, result=Result.MANUAL, manual_step=clean_manual_step(answer.manual_step)
                )
    return failed


def is_never_seen(action: Action, answer: Applied, entry: TargetState, now: datetime) -> bool:
    """Return whether creations are accepted but the target never appears.

    That is true if a pending target is still absent after its normal time, or if many creations succeeded and none was
    seen.
    """
    grace = action.target.kind.grace
    if entry.awaited_since is None or not grace:
        return False
    late = answer.result is Result.PENDING and now - entry.awaited_since >= grace
    return late or entry.creations >= MAX_UNSEEN_CREATIONS


def unwritten(action: Action) -> Outcome:
    """Return the outcome of an action that does not write."""
    result = UNWRITTEN[action.verb]
    if action.verb is Verb.KEEP and action.reason == PENDING:
        result = Result.PENDING
    if is_refused(action):
        result = Result.EXCLUDED
    seen = action.observation
    looked = seen is not NOT_LOOKED_AT and not isinstance(seen, Absent)
    retry_after = None if isinstance(seen, Absent) else seen.retry_after
    tried = action.verb is Verb.DEFER or (action.verb is Verb.SKIP and retry_after is not None)
    attempted = tried and looked and not action.waits and action.reason not in HELD
    return Outcome(
        action,
        result,
        action.reason,
        action.detail,
        action.remedy,
        manual_step=action.manual_step,
        retry_after=retry_after,
        attempted=attempted,
    )


def is_refused(action: Action) -> bool:
    """Return whether an action is skipped because the cloud refuses its target, in this run or in a remembered one."""
    seen = action.observation
    refused = isinstance(seen, Present) and seen.health is Health.INACTIVE
    return action.verb is Verb.SKIP and action.reason != "scope-inactive" and (refused or action.waits)


def _held_back(action: Action, holder: Outcome) -> Outcome:
    """Return the outcome of a write whose prerequisite is missing: deferred if that is only deferred, else blocked."""
    why = f"rests on {holder.key}, which is {holder.result.value}: {holder.message or holder.code}"
    result = Result.DEFERRED if holder.result is Result.DEFERRED else Result.BLOCKED
    remedy = holder.remedy or (" ".join(holder.manual_step.steps) if holder.manual_step else "")
    return Outcome(action, result, RESTS_ON, why, remedy)


def _not_begun(action: Action, stopped: RunStopped | None) -> Outcome:
    if stopped:
        return Outcome(action, Result.DEFERRED, "run-stopped", f"not begun: {stopped.message}", stopped.remedy)
    return Outcome(action, Result.DEFERRED, "deadline", "not begun: time ran out; the next run continues here")
