"""One JSON document about a run, equal on all clouds.

Keys and meanings: `scopes` counts scopes: `total` enumerated, `active`; every active scope is in exactly one of
`covered` (every target is as wanted, or accepted and within its normal time), `deferred` (something waits), `manual`
(a person is asked) and `failed` (something failed or is blocked), the worst that is true of it; `pending` are those of
the covered ones whose targets are not all there yet. A dry run counts a scope with planned writes in none of them.
`outcomes` is {verb: {result: number of targets}}, `calls` is {quota: number of calls}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.memory import Entry, Memory
from shared.model import WRITES, Enumeration, Outcome, Problem, Result, ScopeState

LONGEST_LIST = 50
OVERDUE_AFTER = timedelta(hours=24)
OVERDUE_ATTEMPTS = 3
OK, DEGRADED, FAILED = "ok", "degraded", "failed"
PLANNED = "planned"

_RANK = {
    Result.DONE: 0,
    Result.UNCHANGED: 0,
    Result.SKIPPED: 0,
    Result.PENDING: 1,
    Result.DEFERRED: 2,
    Result.MANUAL: 3,
    Result.BLOCKED: 4,
    Result.FAILED: 5,
}
_CLASS = ("covered", "pending", "deferred", "manual", "failed", "failed")


class Findings(msgspec.Struct, kw_only=True):
    """Everything a report is made of, filled in as the run goes on."""

    enumeration: Enumeration | None = None
    plan_hash: str = ""
    outcomes: Sequence[Outcome] = ()
    problems: list[Problem] = []
    run_complete: bool = False
    stopped: bool = False


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What identifies a run in its report. Durations are seconds."""

    cloud: str
    run_id: str
    dry_run: bool
    started_at: datetime
    duration_s: float
    calls: Mapping[str, int]


def make_report(header: Header, findings: Findings, memory: Memory) -> dict[str, Any]:
    """Return the whole report, its lists uncut."""
    outcomes = findings.outcomes
    overdue = [one for one in outcomes if is_overdue(one, memory.entry(one.key), header.started_at)]
    return {
        "cloud": header.cloud,
        "run_id": header.run_id,
        "status": status_of(findings, overdue),
        "dry_run": header.dry_run,
        "enumeration_complete": bool(findings.enumeration and findings.enumeration.complete),
        "run_complete": findings.run_complete,
        "started_at": f"{header.started_at:%Y-%m-%dT%H:%M:%SZ}",
        "duration_s": round(header.duration_s, 3),
        "plan_hash": findings.plan_hash,
        "scopes": count_scopes(findings.enumeration, outcomes, dry_run=header.dry_run),
        "outcomes": count_outcomes(outcomes, dry_run=header.dry_run),
        "calls": dict(sorted(header.calls.items())),
        "manual": [_manual(one) for one in outcomes if one.result is Result.MANUAL],
        "failures": [_problem(one) for one in findings.problems]
        + [_failure(one) for one in _failed(findings, overdue)],
        "next_run_hint": _hint(findings, memory),
    }


def cut_lists(report: Mapping[str, Any], whole: str) -> dict[str, Any]:
    """Return the report with long lists cut: the last item says how many are left out, and that `whole` has them."""
    manual, failures = report["manual"], report["failures"]
    short = dict(report)
    if len(manual) > LONGEST_LIST:
        more = {"scope": "*", "what": _more(manual), "steps": [f"Read the whole report: {whole}"], "url": ""}
        short["manual"] = [*manual[:LONGEST_LIST], more]
    if len(failures) > LONGEST_LIST:
        more = {"scope": "*", "code": "more", "message": _more(failures), "remedy": f"Read the whole report: {whole}"}
        short["failures"] = [*failures[:LONGEST_LIST], more]
    return short


def failure_message(report: Mapping[str, Any]) -> str:
    """Return why a run failed, with the remedies, in one line; `report` as `make_report` gave it."""
    told = [f"{one['code']}: {one['message'].rstrip('.')}. {one['remedy']}".strip() for one in report["failures"][:5]]
    return f"run {report['run_id']} failed. " + (" | ".join(told) or "See its report for the reasons.")


def _more(items: Sequence[object]) -> str:
    return f"{len(items) - LONGEST_LIST} more of {len(items)}"


def status_of(findings: Findings, overdue: Sequence[Outcome]) -> str:
    """Return ok, degraded or failed, as the module and the project's documentation define them."""
    if findings.stopped:
        return FAILED
    results = Counter(one.result for one in findings.outcomes)
    good = results[Result.DONE] + results[Result.UNCHANGED] + results[Result.PENDING]
    if results[Result.FAILED] and not good:
        return FAILED
    if results[Result.FAILED] or results[Result.BLOCKED] or overdue or findings.problems:
        return DEGRADED
    return OK


def is_overdue(outcome: Outcome, entry: Entry | None, now: datetime) -> bool:
    """Return whether a deferral is no first one any more: a day old, tried three times, or after a failure."""
    if outcome.result is not Result.DEFERRED or entry is None:
        return False
    waited = now - entry.waiting_since if entry.waiting_since else timedelta(0)
    failed = entry.error is not None and entry.error.result == Result.FAILED.value
    return waited >= OVERDUE_AFTER or entry.attempts >= OVERDUE_ATTEMPTS or failed


def count_scopes(enumeration: Enumeration | None, outcomes: Sequence[Outcome], *, dry_run: bool) -> dict[str, int]:
    """Return the numbers of scopes, as the module's docstring defines them."""
    counts = dict.fromkeys(("total", "active", "covered", "pending", "deferred", "manual", "failed"), 0)
    if enumeration is None:
        return counts
    # A run that ended before it had a plan knows nothing of its scopes: none of them is called covered.
    worst: dict[str, int] = {one.id: 0 for one in enumeration.scopes if one.state is ScopeState.ACTIVE}
    planned: set[str] = set()
    for outcome in outcomes:
        scope = outcome.key.scope
        if scope in worst:
            worst[scope] = max(worst[scope], _RANK[outcome.result])
            if dry_run and outcome.action.verb in WRITES:
                planned.add(scope)
    counts["total"], counts["active"] = len(enumeration.scopes), len(worst)
    for scope, rank in worst.items() if outcomes else ():
        name = _CLASS[rank]
        if scope not in planned or rank > 1:
            counts[name] += 1
            counts["covered"] += name == "pending"
    return counts


def count_outcomes(outcomes: Iterable[Outcome], *, dry_run: bool) -> dict[str, dict[str, int]]:
    """Return {verb: {result: number}}; the result of a dry run's writes is ``planned``."""
    counts: dict[str, dict[str, int]] = {}
    for outcome in outcomes:
        verb = outcome.action.verb
        result = PLANNED if dry_run and verb in WRITES else outcome.result.value
        of_verb = counts.setdefault(verb.value, {})
        of_verb[result] = of_verb.get(result, 0) + 1
    return {verb: dict(sorted(of_verb.items())) for verb, of_verb in sorted(counts.items())}


def _failed(findings: Findings, overdue: Sequence[Outcome]) -> list[Outcome]:
    said = {problem.code for problem in findings.problems}  # what concerns the whole run is said once
    failed = [one for one in findings.outcomes if one.result is Result.FAILED]
    blocked = [one for one in findings.outcomes if one.result is Result.BLOCKED and one.code not in said]
    return [*failed, *blocked, *overdue]


def _manual(outcome: Outcome) -> dict[str, Any]:
    guide = outcome.guide
    return {
        "scope": outcome.key.scope,
        "what": guide.what if guide else outcome.message,
        "steps": list(guide.steps) if guide else [],
        "url": guide.url if guide else "",
    }


def _failure(outcome: Outcome) -> dict[str, str]:
    key = outcome.key
    message = f"{key.kind} {key.name}: {outcome.result.value}: {outcome.message or outcome.code}"
    return {"scope": key.scope, "code": outcome.code, "message": message, "remedy": outcome.remedy}


def _problem(problem: Problem) -> dict[str, str]:
    return {"scope": problem.scope, "code": problem.code, "message": problem.message, "remedy": problem.remedy}


def _waiting_since(entry: Entry | None) -> str:
    return entry.waiting_since.isoformat() if entry and entry.waiting_since else "never"


def _hint(findings: Findings, memory: Memory) -> str:
    if findings.stopped:
        return "as scheduled, once the failure is mended"
    late = [one for one in findings.outcomes if one.code == "deadline"]
    if not findings.run_complete and late:
        first = min(late, key=lambda one: (_waiting_since(memory.entry(one.key)), one.key))
        return f"now: {len(late)} targets were not begun in time, the next run starts with {first.key}"
    waits = [
        entry.not_before
        for one in findings.outcomes
        if one.result is Result.DEFERRED and (entry := memory.entry(one.key)) is not None and entry.not_before
    ]
    if waits:
        return f"as scheduled; {len(waits)} deferred targets are due from {min(waits):%Y-%m-%dT%H:%M:%SZ} on"
    return "as scheduled"
