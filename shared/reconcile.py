"""One run, from the trigger to the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from shared.apply import apply, unwritten
from shared.coverage import classify
from shared.errors import AnotherRun, ReportedError, RunStopped, TooSoon, clean, defect
from shared.guard import Guarded, guard
from shared.hints import Hints, describe, gap_left
from shared.metrics import NOTHING_LEFT, Metric, metrics_of
from shared.model import CLASSES, WRITES, Action, Enumeration, Key, Outcome, Problem, Result, Scope, ScopeState, Target
from shared.observe import observe
from shared.parsing import is_id
from shared.plan import Plan, make_plan
from shared.provider import Provider
from shared.publish import Publishing
from shared.redaction import printable
from shared.report import FAILED, PLANNED, RunProgress, cut_lists, pieces, plain, summarize
from shared.request import RunRequest, Trigger
from shared.runtime.context import RunContext
from shared.state.document import RunNote, StateDocument
from shared.state.session import StateSession
from shared.state.store import StateStore
from shared.state.summary import freshness_lag
from shared.state.update import has_new_delivery, record_coverage, record_outcome, record_run, record_scopes, retire


class RunResult(msgspec.Struct, frozen=True):
    """A run that has ended.

    `summary` is the whole report, whose actions are made when they are read (see `shared.report.summarize`), and
    `stored_as` its location; `plan` is None if the run ended before planning; `problems` are those of the run as a
    whole; `metrics` are empty for a dry run.
    """

    summary: dict[str, Any]
    plan: Plan | None
    outcomes: tuple[Outcome, ...]
    problems: tuple[Problem, ...]
    stored_as: str = ""
    metrics: tuple[Metric, ...] = ()

    @property
    def report(self) -> dict[str, Any]:
        """Return the whole report as plain JSON: of many targets it is large."""
        return plain(self.summary)

    def answer(self) -> dict[str, Any]:
        """Return the report as the response to a trigger, whose size is limited: long lists are cut."""
        return cut_lists(self.summary, self.stored_as)


def reconcile(
    provider: Provider, store: StateStore, request: RunRequest, run: RunContext, publishing: Publishing | None = None
) -> RunResult:
    """Enumerate → targets → observe → plan → guard → apply → record → report → publish.

    Without `publishing`, and in a dry run, nothing is published. Raises AnotherRun if another run holds the lock, and
    TooSoon if a run for events begins less than EVENT_GAP after the last one; every other failure of a cloud ends in a
    report with the status ``failed``.
    """
    session = StateSession(store, run, read_only=request.dry_run, facts=provider.facts)
    session.deliveries.announcing = publishing is not None and publishing.announcer is not None
    run.log("info", "run-started", reason=_why(request))
    progress, plan = _begin(request, run), None
    try:
        document = session.open()
        if request.hints is not None:
            _keep_distance(document, run)
        enumeration = _with_sound_scopes(provider.enumerate(request.scopes))
        run.log.scope_names = {scope.id: scope.name for scope in enumeration.scopes}
        request = _as_listed(request, enumeration)
        _record_enumeration(enumeration, request, progress, run)
        if progress.stopped:
            return _finish(None, progress, session, run, request, publishing)
        session.lock(enumeration.owner, enumeration.formerly)
        if request.hints is not None:
            # Only now: taking the lock may have replaced the document with another run's.
            document.event_run_at = run.started_at
        run.on_heartbeat = session.heartbeat
        record_scopes(document, enumeration, run.clock.now(), run.log)
        scopes = {scope.id: scope for scope in enumeration.scopes}
        progress.targets = document.pair(provider.targets(enumeration, document))
        retire(document, progress.targets, run.clock.now())
        targets = select(progress.targets, request.scopes, request.hints)
        active = [one for one in targets if not one.skip and _is_active(scopes.get(one.key.scope))]
        budget = 0 if request.verify_all else run.settings.call_budget
        requested = scopes if request.verify_all else request.scopes
        seen = observe(provider, active, document, run, budget, requested, session.deliveries.note)
        session.deliveries.note(seen)
        proposed = make_plan(targets, scopes, seen, run.clock.now(), requested)
        del seen  # the plan holds what it needs of it
        guarded = guard(proposed, run.settings, run.clock.now(), force=request.force)
        plan = guarded.plan
        progress.plan_hash = plan.hash
        _require_same_writes(plan, request)
        progress.arrived = sum(map(has_new_delivery, plan.actions))
        _announce(guarded, run)
        if guarded.refusal:
            progress.problems.append(guarded.refusal)
            progress.stopped = True
        if request.dry_run:
            progress.outcomes, progress.run_complete = [_planned(one) for one in plan.actions], True
        else:
            _apply(plan, provider, session, run, progress)
    except AnotherRun as error:
        run.log("warning", "lock-refused", code=error.code, reason=error.message)
        raise
    except TooSoon as error:
        run.log("info", "events-wait", code=error.code, reason=error.message)
        raise
    except ReportedError as error:
        progress.stop(error)
    except Exception as error:  # noqa: BLE001 - a defect ends the run with a report and gives the lock back
        progress.stop(defect(error))
    finally:
        # Nothing may hold what the run listed while its report and its state are made, nor the run once it has ended.
        del provider
        run.on_heartbeat = lambda: None
    return _finish(plan, progress, session, run, request, publishing)


def _begin(request: RunRequest, run: RunContext) -> RunProgress:
    return RunProgress(
        cloud=run.cloud,
        run_id=run.run_id,
        trigger=request.trigger.value,
        dry_run=request.dry_run,
        started_at=run.started_at,
        tenant=request.tenant,
        round=request.round,
        hints=request.hints,
    )


def _why(request: RunRequest) -> str:
    """Return the special conditions of a run for its first log line."""
    if request.dry_run:
        return "dry run"
    return describe(request.hints) if request.hints else ""


def _keep_distance(document: StateDocument, run: RunContext) -> None:
    """Raise TooSoon if the last run for events began less than EVENT_GAP ago, so that a storm of events is merged."""
    left = gap_left(document.event_run_at, run.clock.now())
    if left:
        raise TooSoon(left.total_seconds())


def _with_sound_scopes(enumeration: Enumeration) -> Enumeration:
    """Return the enumeration with printable names and without invalid ids; each invalid id is a problem."""
    valid = [one for one in enumeration.scopes if is_id(one.id)]
    remedy = "Compare the list in the cloud's console with this id; a proxy may alter responses in transit."
    invalid = tuple(
        Problem("scope-id-odd", f"the cloud listed {printable(one.id)[:80]!r}, which cannot be a scope's id", remedy)
        for one in enumeration.scopes
        if not is_id(one.id)
    )
    scopes = tuple(
        one if (name, reason) == (one.name, one.reason) else msgspec.structs.replace(one, name=name, reason=reason)
        for one in valid
        for name, reason in ((printable(one.name), clean(one.reason) if one.reason else ""),)
    )
    problems = (msgspec.structs.replace(one, message=clean(one.message)) for one in enumeration.problems)
    return msgspec.structs.replace(
        enumeration, scopes=scopes, complete=enumeration.complete and not invalid, problems=(*problems, *invalid)
    )


def _as_listed(request: RunRequest, enumeration: Enumeration) -> RunRequest:
    """Return the request with its ids in the cloud's spelling; people may type them in capitals."""
    ids = {one.id.lower(): one.id for one in enumeration.scopes}
    scopes = tuple(dict.fromkeys(ids.get(one.lower(), one) for one in request.scopes))
    return msgspec.structs.replace(request, scopes=scopes)


def _record_enumeration(enumeration: Enumeration, request: RunRequest, progress: RunProgress, run: RunContext) -> None:
    """Record the enumeration; requested scopes that are missing or could not be listed are problems.

    The run is stopped if none of the requested scopes exists. Scopes that events name may have left, or the settings
    may exclude them: that is neither a problem nor a reason to stop.
    """
    wanted = set(request.scopes)
    listed = tuple(one for one in enumeration.scopes if not wanted or one.id in wanted)
    if request.hints is not None:
        wanted = {one.id for one in listed}
        found = tuple(one for one in enumeration.problems if one.scope not in request.scopes or one.scope in wanted)
        enumeration = msgspec.structs.replace(enumeration, problems=found)
    progress.enumeration = msgspec.structs.replace(enumeration, scopes=listed)
    progress.problems += enumeration.problems
    progress.stopped = bool(wanted) and not listed
    # An id whose absence the cloud explains is not reported again.
    explained = tuple(one.scope.lower() for one in enumeration.problems if one.scope)
    for scope in sorted(one for one in wanted - {one.id for one in listed} if not one.lower().startswith(explained)):
        remedy = "Check the id, and whether the settings select it."
        progress.problems.append(
            Problem("unknown-scope", f"{scope[:80]!r} is not among the scopes", remedy, scope[:80])
        )
    run.log("info", "enumerated", reason=f"{len(enumeration.scopes)} scopes")
    for problem in enumeration.problems:
        run.log("error", "enumeration-incomplete", code=problem.code, reason=problem.message)
    if enumeration.problems and not enumeration.scopes and not wanted:
        raise RunStopped("nothing-enumerated", "no scope could be listed", enumeration.problems[0].remedy)


def select(targets: Sequence[Target], wanted: Collection[str], hints: Hints | None = None) -> Sequence[Target]:
    """Return the targets of the wanted scopes, and all that these need; all of them if no scope is named.

    With `hints`, only the targets that the hints name.
    """
    if not wanted:
        return targets
    by_key = {target.key: target for target in targets}
    chosen: dict[Key, Target] = {}
    named = set(wanted)
    queue = [one for one in targets if one.key.scope in named and (hints is None or hints.wants(one.key))]
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
    return Outcome(action, Result.PLANNED, PLANNED) if action.verb in WRITES else unwritten(action)


def _apply(plan: Plan, provider: Provider, session: StateSession, run: RunContext, progress: RunProgress) -> None:
    begun = run.clock.now()

    def on_outcome(outcome: Outcome) -> None:
        # One time for all that is not written: a time each would take more memory than what it dates.
        now = run.clock.now() if outcome.action.verb in WRITES else begun
        record_outcome(session.document, outcome, now, run.rng, refused=progress.stopped)
        _log_outcome(outcome, run)

    applied = apply(plan, provider, run, on_outcome)
    progress.outcomes = applied.outcomes
    progress.run_complete = applied.complete and applied.stopped is None and not run.cut_short
    if applied.stopped:
        progress.stop(applied.stopped)


_EVENT_OF = {
    Result.DONE: ("info", "write-done"),
    Result.FAILED: ("error", "write-failed"),
    Result.DEFERRED: ("info", "deferred"),
    Result.BLOCKED: ("warning", "blocked"),
    Result.MANUAL: ("warning", "manual-step"),
}


def _log_outcome(outcome: Outcome, run: RunContext) -> None:
    action = outcome.action
    level, event = _EVENT_OF.get(outcome.result, ("", ""))
    if outcome.result is Result.PENDING and action.verb in WRITES:
        level, event = "info", "write-pending"
    if event:
        why = outcome.message or action.detail or action.reason
        verb, code = action.verb.value, outcome.code
        run.log(level, event, outcome.key, verb=verb, reason=why, code=code, duration_ms=outcome.duration_ms)


CHANGED_REMEDY = "Nothing was written. Read the new plan, then ask for it: the world changed since the plan was made."
SAVE_REMEDY = "The next run looks at everything again; see whether the state's location can be written."


def _finish(
    plan: Plan | None,
    progress: RunProgress,
    session: StateSession,
    run: RunContext,
    request: RunRequest,
    publishing: Publishing | None,
) -> RunResult:
    """Save the state, make and store the report, and publish; a session that never held the lock writes nothing."""
    run.deadline.use_reserve()
    document = session.document
    progress.verdicts = classify(
        progress.enumeration, progress.outcomes, document, run.settings, run.started_at, progress.targets
    )
    report = _report(progress, run, document)
    newly_excluded, left = 0, NOTHING_LEFT
    saved = False
    if session.may_write:
        newly_excluded = _record_coverage(progress, document, run)
        record_run(document, _note(report, request, run, freshness_lag(document, run.clock.now())))
        if publishing:
            publishing.note(session, report, progress, run, limited=bool(request.scopes))
        try:
            session.save(release=True)
            saved = True
        except ReportedError as error:
            progress.problems.append(Problem("state-unsaved", error.message, error.remedy or SAVE_REMEDY))
            report = _report(progress, run, document)
    stored_as = session.store_report(pieces(report))
    status = report["status"]
    level = "error" if status == FAILED else "info"
    run.log(level, "run-finished", code=status, duration_ms=round(run.elapsed() * 1000))
    if publishing and saved:
        left = publishing.publish(session, report, run)
    now = run.clock.now()
    lag = freshness_lag(document, now)
    metrics = metrics_of(report, newly_excluded, document.last_success(), now, lag, left)
    outcomes, problems = tuple(progress.outcomes), tuple(progress.problems)
    return RunResult(report, plan, outcomes, problems, stored_as, () if session.read_only else metrics)


def _record_coverage(progress: RunProgress, document: StateDocument, run: RunContext) -> int:
    """Record each scope's class; log each newly excluded scope once, and return their number."""
    newly = record_coverage(document, progress.verdicts, run.clock.now()) if progress.outcomes else ()
    for scope in newly:
        run.log("warning", "scope-excluded", Key(scope, "", ""), code=progress.verdicts[scope].code)
    return len(newly)


def _report(progress: RunProgress, run: RunContext, document: StateDocument) -> dict[str, Any]:
    progress.duration_s, progress.calls = run.elapsed(), run.calls.counts
    return summarize(progress, document, run.settings)


def _note(report: dict[str, Any], request: RunRequest, run: RunContext, lag: timedelta | None) -> RunNote:
    scopes, outcomes = report["scopes"], report["outcomes"]
    return RunNote(
        run_id=run.run_id,
        at=run.started_at,
        status=report["status"],
        duration_s=report["duration_s"],
        active=scopes["active"],
        **{name: scopes[name] for name in CLASSES},
        writes=sum(sum(outcomes.get(verb.value, {}).values()) for verb in WRITES),
        freshness_lag_h=None if lag is None else round(lag.total_seconds() / 3600, 2),
        calls=dict(report["calls"]),
        log_lines=run.log.lines,
        log_bytes=run.log.bytes,
        report_bytes=sum(map(len, pieces(report))),
        limited=bool(request.scopes) or request.trigger is Trigger.EVENT,
    )
