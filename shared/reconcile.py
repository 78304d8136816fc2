"""One run, from the trigger to the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.apply import apply, unwritten
from shared.coverage import CLASSES, classify
from shared.errors import AnotherRun, ReportedError, RunStopped, clean, defect
from shared.guard import Guarded, guard
from shared.model import WRITES, Action, Enumeration, Key, Outcome, Problem, Result, Scope, ScopeState, Target
from shared.observe import observe
from shared.parsing import is_id
from shared.plan import Plan, make_plan
from shared.provider import Provider
from shared.redaction import printable
from shared.report import FAILED, PLANNED, Findings, Header, cut_lists, make_report
from shared.request import RunRequest
from shared.runtime.context import RunContext
from shared.state.document import RunNote, StateDocument, check_owner, move_owner
from shared.state.session import StateSession
from shared.state.store import StateStore
from shared.state.update import has_new_delivery, record_coverage, record_outcome, record_scopes, retire


class RunResult(msgspec.Struct, frozen=True):
    """A run that has ended.

    `report` is the whole document for people and machines, and `stored_as` where it is kept; `plan` is None where the
    run ended before it was made; `problems` are those of the run as a whole; `last_success` is when the last run that
    was ok began, this one included; `newly_excluded` are the scopes that this run found excluded and no earlier one.
    """

    report: dict[str, Any]
    plan: Plan | None
    outcomes: tuple[Outcome, ...]
    problems: tuple[Problem, ...]
    last_success: datetime | None
    stored_as: str = ""
    newly_excluded: tuple[str, ...] = ()

    def answer(self) -> dict[str, Any]:
        """Return the report as the answer to a trigger, which has a limit of size: long lists are cut."""
        return cut_lists(self.report, self.stored_as)


def reconcile(cloud: Provider, store: StateStore, request: RunRequest, run: RunContext) -> RunResult:
    """Enumerate → targets → observe → plan → guard → apply → remember → report.

    Raises AnotherRun where another run holds the lock; every other failure of a cloud ends in a report with the status
    ``failed``.
    """
    run.log("info", "run-started", reason="dry run" if request.dry_run else "")
    keeper, findings, plan = StateSession(store, run, read_only=request.dry_run, facts=cloud.facts), Findings(), None
    try:
        memory = keeper.open()
        keeper.refuse_if_held()
        enumeration = _with_sound_scopes(cloud.enumerate(request.scopes))
        request = _as_listed(request, enumeration)
        _take_in(enumeration, request, findings, run)
        if findings.stopped:
            return _finish(None, findings, keeper, request, store, run)
        move_owner(memory, enumeration.owner, enumeration.formerly)
        check_owner(memory, enumeration.owner)
        keeper.lock(enumeration.owner)
        run.heartbeat = keeper.heartbeat
        record_scopes(memory, enumeration, run.clock.now(), run.log)
        scopes = {scope.id: scope for scope in enumeration.scopes}
        findings.targets = memory.pair(cloud.targets(enumeration, memory))
        retire(memory, findings.targets, run.clock.now())
        targets = select(findings.targets, request.scopes)
        looked_at = [one for one in targets if not one.skip and _is_active(scopes.get(one.key.scope))]
        budget = 0 if request.verify_all else run.settings.call_budget
        requested = scopes if request.verify_all else request.scopes
        seen = observe(cloud, looked_at, memory, run, budget, requested)
        proposed = make_plan(targets, scopes, seen, run.clock.now(), requested)
        guarded = guard(proposed, run.settings, run.clock.now(), force=request.force)
        plan = guarded.plan
        findings.plan_hash = plan.hash
        _require_same_writes(plan, request)
        findings.arrived = sum(map(has_new_delivery, plan.actions))
        _announce(guarded, run)
        if guarded.refusal:
            findings.problems.append(guarded.refusal)
            findings.stopped = True
        if request.dry_run:
            findings.outcomes, findings.run_complete = [_planned(one) for one in plan.actions], True
        else:
            _carry_out(plan, cloud, keeper, run, findings)
    except AnotherRun as error:
        run.log("warning", "lock-refused", code=error.code, reason=error.message)
        raise
    except ReportedError as error:
        _stop(findings, error)
    except Exception as error:  # noqa: BLE001 - a defect ends the run with a report and gives the lock back
        _stop(findings, defect(error))
    return _finish(plan, findings, keeper, request, store, run)


def _with_sound_scopes(enumeration: Enumeration) -> Enumeration:
    """Return the enumeration with printable names, and without ids that are none: each of those is a problem."""
    sound = [one for one in enumeration.scopes if is_id(one.id)]
    remedy = "Compare the listing of the cloud's own console with this id; something may alter answers on their way."
    odd = tuple(
        Problem("scope-id-odd", f"the cloud listed {printable(one.id)[:80]!r}, which cannot be a scope's id", remedy)
        for one in enumeration.scopes
        if not is_id(one.id)
    )
    scopes = tuple(
        one if (name, reason) == (one.name, one.reason) else msgspec.structs.replace(one, name=name, reason=reason)
        for one in sound
        for name, reason in ((printable(one.name), clean(one.reason) if one.reason else ""),)
    )
    told = (msgspec.structs.replace(one, message=clean(one.message)) for one in enumeration.problems)
    return msgspec.structs.replace(
        enumeration, scopes=scopes, complete=enumeration.complete and not odd, problems=(*told, *odd)
    )


def _as_listed(request: RunRequest, enumeration: Enumeration) -> RunRequest:
    """Return the request with its ids as the cloud writes them: people copy them in capitals too."""
    ids = {one.id.lower(): one.id for one in enumeration.scopes}
    scopes = tuple(dict.fromkeys(ids.get(one.lower(), one) for one in request.scopes))
    return msgspec.structs.replace(request, scopes=scopes)


def _take_in(enumeration: Enumeration, request: RunRequest, findings: Findings, run: RunContext) -> None:
    """Note what was enumerated; what was asked for and is not there, or could not be listed, is a problem.

    A run of which nothing is there that was asked for is stopped.
    """
    wanted = set(request.scopes)
    shown = tuple(one for one in enumeration.scopes if not wanted or one.id in wanted)
    findings.enumeration = msgspec.structs.replace(enumeration, scopes=shown)
    findings.problems += enumeration.problems
    findings.stopped = bool(wanted) and not shown
    # Where the cloud says itself why an id is not there, that is enough.
    told = tuple(one.scope.lower() for one in enumeration.problems if one.scope)
    for scope in sorted(one for one in wanted - {one.id for one in shown} if not one.lower().startswith(told)):
        remedy = "See whether the id is right, and whether the settings select it."
        findings.problems.append(
            Problem("unknown-scope", f"{scope[:80]!r} is not among the scopes", remedy, scope[:80])
        )
    run.log("info", "enumerated", reason=f"{len(enumeration.scopes)} scopes")
    for problem in enumeration.problems:
        run.log("error", "enumeration-incomplete", code=problem.code, reason=problem.message)
    if enumeration.problems and not enumeration.scopes and not wanted:
        raise RunStopped("nothing-enumerated", "no scope could be listed", enumeration.problems[0].remedy)


def select(targets: Sequence[Target], wanted: Collection[str]) -> Sequence[Target]:
    """Return the targets of the wanted scopes, and all that these need; all of them if no scope is named."""
    if not wanted:
        return targets
    by_key = {target.key: target for target in targets}
    chosen: dict[Key, Target] = {}
    queue = [target for target in targets if target.key.scope in set(wanted)]
    while queue:
        target = queue.pop()
        if target.key not in chosen:
            chosen[target.key] = target
            queue += [by_key[need] for need in target.needs if need in by_key]
    return [target for target in targets if target.key in chosen]


def _is_active(scope: Scope | None) -> bool:
    return scope is not None and scope.state is ScopeState.ACTIVE


def _announce(guarded: Guarded, run: RunContext) -> None:
    verbs = Counter(action.verb.value for action in guarded.plan.actions)
    run.log("info", "planned", reason=", ".join(f"{verb} {number}" for verb, number in sorted(verbs.items())))
    if guarded.refusal:
        run.log("error", "guard-refused", code=guarded.refusal.code, reason=guarded.refusal.message)
    if guarded.capped:
        run.log("warning", "writes-capped", reason=f"{guarded.capped} deferred by MAX_WRITES_PER_RUN")


def _require_same_writes(plan: Plan, request: RunRequest) -> None:
    if request.writes_hash not in ("", plan.writes_hash()):
        raise RunStopped("plan-changed", "the writes of the plan are not those that were asked for", CHANGED_REMEDY)


def _planned(action: Action) -> Outcome:
    return Outcome(action, Result.UNCHANGED, PLANNED) if action.verb in WRITES else unwritten(action)


def _carry_out(plan: Plan, cloud: Provider, keeper: StateSession, run: RunContext, findings: Findings) -> None:
    def on_outcome(outcome: Outcome) -> None:
        record_outcome(keeper.memory, outcome, run.clock.now(), run.rng, refused=findings.stopped)
        _log_outcome(outcome, run)

    carried = apply(plan, cloud, run, on_outcome)
    findings.outcomes = carried.outcomes
    findings.run_complete = carried.complete and carried.stopped is None and not run.cut_short
    if carried.stopped:
        _stop(findings, carried.stopped)


_EVENT_OF = {
    Result.DONE: ("info", "write-done"),
    Result.FAILED: ("error", "write-failed"),
    Result.DEFERRED: ("info", "deferred"),
    Result.BLOCKED: ("warning", "blocked"),
    Result.MANUAL: ("warning", "manual-step"),
}


def _log_outcome(outcome: Outcome, run: RunContext) -> None:
    action = outcome.action
    level, event = _EVENT_OF.get(outcome.result, ("debug", ""))
    if outcome.result is Result.PENDING and action.verb in WRITES:
        level, event = "info", "write-pending"
    if event:
        why = outcome.message or action.detail or action.reason
        verb, code = action.verb.value, outcome.code
        run.log(level, event, outcome.key, verb=verb, reason=why, code=code, duration_ms=outcome.duration_ms)


def _stop(findings: Findings, error: ReportedError) -> None:
    findings.stopped = True
    findings.problems.append(Problem(error.code, error.message, error.remedy))


def _finish(
    plan: Plan | None, findings: Findings, keeper: StateSession, request: RunRequest, store: StateStore, run: RunContext
) -> RunResult:
    """Save, report and store the report; a dry run and one that never held the lock write nothing."""
    run.deadline.use_reserve()
    memory = keeper.memory
    findings.verdicts = classify(
        findings.enumeration,
        findings.outcomes,
        memory,
        run.settings,
        run.started_at,
        dry_run=request.dry_run,
        targets=findings.targets,
    )
    report = _report(findings, request, run, memory)
    stored_as = "a dry run stores none, the plan itself shows all"
    newly: tuple[str, ...] = ()
    if keeper.may_write:
        newly = _note_coverage(findings, memory, run)
        memory.runs.append(_note(report, run))
        try:
            keeper.save(release=True)
        except ReportedError as error:
            findings.problems.append(Problem("state-unsaved", error.message, error.remedy or SAVE_REMEDY))
            report = _report(findings, request, run, memory)
        stored_as = _store_report(report, store, run)
    status = report["status"]
    run.log(
        "error" if status == FAILED else "info", "run-finished", code=status, duration_ms=round(run.elapsed() * 1000)
    )
    outcomes, problems = tuple(findings.outcomes), tuple(findings.problems)
    return RunResult(report, plan, outcomes, problems, memory.last_success(), stored_as, newly)


def _note_coverage(findings: Findings, memory: StateDocument, run: RunContext) -> tuple[str, ...]:
    """Note each scope's class; whatever is excluded now and was not before is told, once."""
    newly = tuple(record_coverage(memory, findings.verdicts, run.clock.now())) if findings.outcomes else ()
    for scope in newly:
        run.log("warning", "scope-excluded", Key(scope, "", ""), code=findings.verdicts[scope].code)
    return newly


CHANGED_REMEDY = "Nothing was written. Read the new plan, then ask for it: the world changed since the plan was made."
SAVE_REMEDY = "The next run looks at everything again; see whether the state's location can be written."


def _store_report(report: dict[str, Any], store: StateStore, run: RunContext) -> str:
    """Store the whole report; return where."""
    try:
        return store.put_report(run.run_id, msgspec.json.format(msgspec.json.encode(report), indent=1))
    except ReportedError as error:
        run.log("warning", "report-lost", code=error.code, reason=error.message)
        return "it could not be stored"


def _report(findings: Findings, request: RunRequest, run: RunContext, memory: StateDocument) -> dict[str, Any]:
    header = Header(
        cloud=run.cloud,
        run_id=run.run_id,
        trigger=request.trigger.value,
        dry_run=request.dry_run,
        started_at=run.started_at,
        duration_s=run.elapsed(),
        calls=run.calls.counts,
    )
    return make_report(header, findings, memory, run.settings)


def _note(report: dict[str, Any], run: RunContext) -> RunNote:
    scopes, outcomes = report["scopes"], report["outcomes"]
    return RunNote(
        run_id=run.run_id,
        at=run.started_at,
        status=report["status"],
        duration_s=report["duration_s"],
        active=scopes["active"],
        **{name: scopes[name] for name in CLASSES},
        writes=sum(sum(outcomes.get(verb.value, {}).values()) for verb in WRITES),
    )
