"""One JSON document about a run, with the same form on all clouds.

Keys and meanings: `trigger` is what started the run (``timer``, ``event`` or ``call``). `scopes` counts scopes: `total`
enumerated, `active`; every active scope is in exactly one of `covered`, `pending`, `deferred`, `manual`, `failed` and
`excluded` (see `shared.coverage`); `delivering` are those whose data arrived within its rhythm, `awaiting_first_data`
those with data that has never arrived. `actions` holds every action with its result, and for an exclusion a `code`: the
reason of the refusal, where `reason` is that of the request. `outcomes` counts them as {verb: {result: number of
targets}}, `calls` is {quota: number of calls}. `excluded` counts the excluded scopes by reason, with the ids of some of
them. `deliveries` counts targets that deliver data: `new` arrived since the last look, `late` ones are silent beyond
their rhythm, `missing` ones should have begun by now. Every entry of `manual` has steps, every one of `failures` a
remedy, and `runbook`, the address of its code's entry, if DOCS_URL names the documentation site.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, overload

import msgspec

from shared.coverage import Silence, count_scopes, find_silence
from shared.errors import ReportedError
from shared.hints import Hints, latency
from shared.model import OVERDUE, Enumeration, Outcome, Problem, Result, Target, Verdict
from shared.runbook import entry_url
from shared.settings import EngineSettings
from shared.state.document import StateDocument
from shared.target_state import TargetState

LONGEST_LIST = 50
EXAMPLES = 5
OVERDUE_AFTER = timedelta(hours=24)
OVERDUE_ATTEMPTS = 3
OK, DEGRADED, FAILED = "ok", "degraded", "failed"
PLANNED = Result.PLANNED.value
RUNBOOK = "docs/runbook.md"


class RunProgress(msgspec.Struct, kw_only=True):
    """Everything that a report contains, filled in during the run.

    `targets` are all that must exist; a run may be limited to some of them. `arrived` counts the targets whose data
    arrived since they were last observed. `duration_s` is in seconds, `calls` is {quota: number}.
    """

    cloud: str
    run_id: str
    trigger: str
    dry_run: bool
    started_at: datetime
    tenant: str = ""
    round: str = ""
    hints: Hints | None = None
    duration_s: float = 0.0
    calls: Mapping[str, int] = {}
    enumeration: Enumeration | None = None
    targets: Sequence[Target] = ()
    verdicts: Mapping[str, Verdict] = {}
    arrived: int = 0
    plan_hash: str = ""
    outcomes: Sequence[Outcome] = ()
    problems: list[Problem] = []
    run_complete: bool = False
    stopped: bool = False

    def stop(self, error: ReportedError) -> None:
        """Note the failure that ends the run."""
        self.stopped = True
        self.problems.append(Problem(error.code, error.message, error.remedy))


class Actions(Sequence[dict[str, str]]):
    """The entries of `actions`, one for each outcome, made when they are read: all at once would take much memory."""

    def __init__(self, outcomes: Sequence[Outcome], names: Mapping[str, str]) -> None:
        self._outcomes = outcomes
        self._names = names  # of scopes, by id

    def __len__(self) -> int:
        return len(self._outcomes)

    @overload
    def __getitem__(self, place: int) -> dict[str, str]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, str]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, str] | list[dict[str, str]]:
        found = self._outcomes[place]
        return self._entry(found) if isinstance(found, Outcome) else [self._entry(one) for one in found]

    def _entry(self, one: Outcome) -> dict[str, str]:
        return {
            "scope": one.key.scope,
            "scope_name": self._names.get(one.key.scope, ""),
            "kind": one.key.kind,
            "name": one.key.name,
            "verb": one.action.verb.value,
            "reason": one.action.reason,
            "result": one.result.value,
            "message": one.message or one.action.detail,
            **({"code": one.code} if one.result is Result.EXCLUDED and one.code else {}),
        }


def make_report(progress: RunProgress, document: StateDocument, settings: EngineSettings) -> dict[str, Any]:
    """Return the whole report as plain JSON, with uncut lists; see `summarize`."""
    return plain(summarize(progress, document, settings))


def plain(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of `summarize` as plain JSON."""
    return {**report, "actions": list(report["actions"])}


def pieces(report: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the JSON of a report of `summarize` in pieces: each key, and each entry of a list, on a line of its own."""
    for number, (name, value) in enumerate(report.items()):
        yield b"%s %s: " % (b",\n" if number else b"{\n", msgspec.json.encode(name))
        if isinstance(value, list | Actions):
            for place, one in enumerate(value):
                yield (b",\n  " if place else b"[\n  ") + msgspec.json.encode(one)
            yield b"\n ]" if value else b"[]"
        else:
            yield msgspec.json.encode(value)
    yield b"\n}"


def summarize(progress: RunProgress, document: StateDocument, settings: EngineSettings) -> dict[str, Any]:
    """Return the whole report with uncut lists, whose `actions` are made when they are read.

    A run for events also has the key `events`, a tenant's run `tenant`, and `round` if it is part of one.
    """
    outcomes, scopes = progress.outcomes, progress.enumeration.scopes if progress.enumeration else ()
    deferred = [one for one in outcomes if one.result is Result.DEFERRED]
    overdue = [one for one in deferred if is_overdue(one, document.state_of(one.key), progress.started_at)]
    silence = find_silence(outcomes, document, settings, progress.started_at)
    return {
        "cloud": progress.cloud,
        "run_id": progress.run_id,
        "trigger": progress.trigger,
        "status": status_of(progress, overdue, silence),
        "dry_run": progress.dry_run,
        "enumeration_complete": bool(progress.enumeration and progress.enumeration.complete),
        "run_complete": progress.run_complete,
        "started_at": f"{progress.started_at:%Y-%m-%dT%H:%M:%SZ}",
        "duration_s": round(progress.duration_s, 3),
        "plan_hash": progress.plan_hash,
        "scopes": count_scopes(progress.enumeration, progress.verdicts),
        "actions": Actions(outcomes, {one.id: one.name for one in scopes}),
        "outcomes": count_outcomes(outcomes),
        "calls": dict(sorted(progress.calls.items())),
        "manual": [_manual(one) for one in outcomes if one.result is Result.MANUAL],
        "failures": [_linked(one, settings.docs_url) for one in _failures(progress, overdue, silence)],
        "excluded": _excluded(progress.verdicts),
        "deliveries": {"new": progress.arrived, "late": len(silence.late), "missing": len(silence.missing)},
        "next_run_hint": _hint(progress, document),
        **({"events": _events(progress.hints, progress)} if progress.hints else {}),
        **({"tenant": progress.tenant} if progress.tenant else {}),
        **({"round": progress.round} if progress.round else {}),
    }


def _events(hints: Hints, progress: RunProgress) -> dict[str, Any]:
    """Return the number of events of the run, when the first one happened, and the time from it to the run's end."""
    passed = latency(hints, progress.started_at + timedelta(seconds=progress.duration_s))
    return {
        "count": hints.count,
        "oldest": f"{hints.oldest:%Y-%m-%dT%H:%M:%SZ}" if hints.oldest else None,
        "latency_s": None if passed is None else round(passed.total_seconds(), 3),
    }


def cut_lists(report: Mapping[str, Any], whole: str) -> dict[str, Any]:
    """Return the report as the response to a trigger, with long lists cut.

    A cut list ends with the number of entries left out; `whole` says where the whole report is. Actions whose targets
    are not merely unchanged come first.
    """
    short = dict(report)
    rest = f"Read the whole report: {whole}"
    of_actions = {"scope": "*", "scope_name": "", "kind": "", "name": "", "verb": "", "reason": "more", "result": ""}
    last_items: dict[str, dict[str, Any]] = {
        "actions": {**of_actions, "message": rest},
        "manual": {"scope": "*", "code": "more", "steps": [rest], "url": ""},
        "failures": {"scope": "*", "code": "more", "remedy": rest},
    }
    for name, last in last_items.items():
        items = report[name]
        if len(items) > LONGEST_LIST:
            more = f"{len(items) - LONGEST_LIST} more of {len(items)}"
            text = {"actions": "message", "manual": "what", "failures": "message"}[name]
            message = more if text not in last else f"{more}. {rest}"
            short[name] = [*_first(items), {**last, text: message}]
        else:
            short[name] = list(items)
    return short


def was_cut(report: Mapping[str, Any]) -> bool:
    """Return whether a list of the report was cut for the response to a trigger."""
    return any(one.get("scope") == "*" for name in ("actions", "manual", "failures") for one in report.get(name, ()))


def _first(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return heapq.nsmallest(LONGEST_LIST, items, key=lambda one: one.get("result") == Result.UNCHANGED)


def failure_message(report: Mapping[str, Any]) -> str:
    """Return in one line why a run failed, with the remedies; `report` is that of `make_report`."""
    first = report["failures"][:5]
    failures = [f"{one['code']}: {one['message'].rstrip('.')}. {one['remedy']}".strip() for one in first]
    return f"run {report['run_id']} failed. " + (" | ".join(failures) or "See its report for the reasons.")


def status_of(progress: RunProgress, overdue: Sequence[Outcome], silence: Silence) -> str:
    """Return ok, degraded or failed, as docs/architecture.md defines them."""
    if progress.stopped:
        return FAILED
    results = Counter(one.result for one in progress.outcomes)
    good = sum(results[one] for one in (Result.DONE, Result.UNCHANGED, Result.PENDING, Result.PLANNED))
    if results[Result.FAILED] and not good:
        return FAILED
    stopped = silence.late or silence.missing
    if results[Result.FAILED] or results[Result.BLOCKED] or overdue or stopped or progress.problems:
        return DEGRADED
    return OK


def is_overdue(outcome: Outcome, entry: TargetState | None, now: datetime) -> bool:
    """Return whether a deferred target is overdue: a day old, tried three times, failed before, or never finished."""
    if outcome.result is not Result.DEFERRED:
        return False
    if outcome.code == OVERDUE or entry is None:
        return outcome.code == OVERDUE
    waited = now - entry.waiting_since if entry.waiting_since else timedelta(0)
    failed = entry.error is not None and entry.error.result == Result.FAILED.value
    return waited >= OVERDUE_AFTER or entry.attempts >= OVERDUE_ATTEMPTS or failed


def count_outcomes(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return {verb: {result: number of targets}}."""
    counts: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        of_verb = counts.setdefault(outcome.action.verb.value, {})
        of_verb[outcome.result.value] = of_verb.get(outcome.result.value, 0) + 1
    return {verb: dict(sorted(of_verb.items())) for verb, of_verb in sorted(counts.items())}


def _failed(progress: RunProgress, overdue: Sequence[Outcome]) -> list[Outcome]:
    reported = {problem.code for problem in progress.problems}  # failures of the whole run are reported once
    failed = [one for one in progress.outcomes if one.result is Result.FAILED]
    blocked = [one for one in progress.outcomes if one.result is Result.BLOCKED and one.code not in reported]
    return [*failed, *blocked, *overdue]


def _excluded(verdicts: Mapping[str, Verdict]) -> list[dict[str, Any]]:
    """Return {reason, count, examples} for each reason, the most frequent first; examples are scope ids."""
    by_reason: dict[str, list[str]] = {}
    for scope, verdict in verdicts.items():
        if verdict.coverage == "excluded":
            by_reason.setdefault(verdict.code, []).append(scope)
    ordered = sorted(by_reason.items(), key=lambda one: (-len(one[1]), one[0]))
    return [{"reason": code, "count": len(ids), "examples": ids[:EXAMPLES]} for code, ids in ordered]


def _manual(outcome: Outcome) -> dict[str, Any]:
    manual_step = outcome.manual_step
    return {
        "scope": outcome.key.scope,
        "code": outcome.code,
        "what": (manual_step.what if manual_step else "") or outcome.message or outcome.code,
        "steps": list(manual_step.steps)
        if manual_step and manual_step.steps
        else [remedy_for(outcome.remedy, outcome.key.scope)],
        "url": manual_step.url if manual_step else "",
    }


def _failures(progress: RunProgress, overdue: Sequence[Outcome], silence: Silence) -> list[dict[str, str]]:
    return (
        [_problem(one) for one in progress.problems]
        + [_failure(one) for one in _failed(progress, overdue)]
        + [_silent(one, "data-late", "nothing has arrived for longer than usual") for one in _unreported(silence.late)]
        + [_silent(one, "data-missing", "nothing has ever arrived") for one in _unreported(silence.missing)]
    )


def _linked(failure: dict[str, str], docs_url: str) -> dict[str, str]:
    """Return a failure with the address of its runbook entry, if there is a site that has one."""
    url = entry_url(docs_url, failure["code"])
    return {**failure, "runbook": url} if url else failure


def _failure(outcome: Outcome) -> dict[str, str]:
    key = outcome.key
    message = f"{key.kind} {key.name}: {outcome.result.value}: {outcome.message or outcome.code}"
    remedy = remedy_for(outcome.remedy, key.scope)
    return {"scope": key.scope, "code": outcome.code, "message": message, "remedy": remedy}


_UNREPORTED = (Result.UNCHANGED, Result.PENDING, Result.DONE, Result.PLANNED)


def _unreported(silent: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that the report does not mention elsewhere: a manual step or failure names its own cause."""
    return [one for one in silent if one.result in _UNREPORTED]


def _silent(outcome: Outcome, code: str, what: str) -> dict[str, str]:
    key = outcome.key
    remedy = (
        f"Check in the cloud's console whether {key.kind} {key.name} still runs and may write to its destination, and "
        f"whether {key.scope} has any costs; exclude it in the settings if it has none."
    )
    return {"scope": key.scope, "code": code, "message": f"{key.kind} {key.name}: {what}", "remedy": remedy}


def _problem(problem: Problem) -> dict[str, str]:
    remedy = remedy_for(problem.remedy, problem.scope)
    return {"scope": problem.scope, "code": problem.code, "message": problem.message, "remedy": remedy}


def remedy_for(remedy: str, scope: str = "") -> str:
    """Return the remedy of a failure, or where to find one: every reported failure has a remedy."""
    if remedy.strip():
        return remedy
    again = f"for {scope} alone (--scope {scope})" if scope else "again"
    return (
        f"Look the code up in the runbook ({RUNBOOK}). If it is not listed there, the message is the cloud's own: act "
        f"on it, then run {again}. If it persists, report it with this message."
    )


def _waiting_since(entry: TargetState | None) -> str:
    return entry.waiting_since.isoformat() if entry and entry.waiting_since else "never"


def _hint(progress: RunProgress, document: StateDocument) -> str:
    if progress.stopped:
        return "as scheduled, once the failure is repaired"
    late = [one for one in progress.outcomes if one.code == "deadline"]
    if not progress.run_complete and late:
        first = min(late, key=lambda one: (_waiting_since(document.state_of(one.key)), one.key))
        return f"now: {len(late)} targets were not begun in time, the next run starts with {first.key}"
    waits = [
        entry.not_before
        for one in progress.outcomes
        if one.result is Result.DEFERRED and (entry := document.state_of(one.key)) is not None and entry.not_before
    ]
    if waits:
        return f"as scheduled; {len(waits)} deferred targets are due from {min(waits):%Y-%m-%dT%H:%M:%SZ} on"
    return "as scheduled"
