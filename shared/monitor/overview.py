"""One cloud's state as an operator wants to read it: what is covered, what needs a person, what fails.

Everything comes from the state document and the newest stored reports: no cloud is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from statistics import median
from types import MappingProxyType
from typing import Any

import msgspec

from shared.labels import packed, presentable
from shared.model import Result
from shared.monitor.cost import estimate
from shared.monitor.history import Change, all_changes, summary
from shared.monitor.months import Row, marks
from shared.monitor.stored import StoredReport
from shared.report import FAILED, remedy_for
from shared.runbook import entry_url
from shared.state.document import RunNote, ScopeRecord, StateDocument, dump
from shared.state.summary import class_of, is_active, remembered_status
from shared.target_state import TargetState

EXAMPLES = 5
RUNS_FOR_INTERVAL = 10
SHORTEST_INTERVAL_S = 300  # what follows sooner was called by a person or an event
CHANGES_OF_SCOPE = 5
# Of these the newest report alone knows: they concern the run as a whole, or the absence of data.
OF_THE_RUN = frozenset({"data-late", "data-missing"})


def overview(
    document: StateDocument, reports: Sequence[StoredReport], now: datetime, docs_url: str = ""
) -> dict[str, Any]:
    """Return the overview as plain JSON data; `reports` are the newest ones, oldest first.

    Where there is a documentation site at `docs_url`, what needs a person and what fails has `runbook`, the address of
    its code's entry, else "".

    Keys: those of `remembered_status`; `sentence` says it all in one line; `tone` is ``ok``, ``wait``, ``ask`` or
    ``bad``; `age_s` is how old the state is in seconds, None without a run; `interval_s` the usual time between two
    runs in seconds, 0 where it is not known; `next_run` when the next run is expected, None where that is not known or
    over; `must_do` lists {code, what, steps, url, scope, scope_name, scopes, count}, `failing` {code, count, message,
    remedy, examples}, `excluded` {reason, count, examples}, `runs` {run_id, at, status, duration_s, active, covered,
    writes, freshness_lag_h, changes}, the newest first.
    """
    status = remembered_status(document)
    active = [
        (scope_id, scope) for scope_id, scope in sorted(document.scopes.items()) if scope.counted and is_active(scope)
    ]
    real = [one for one in reports if not one.dry_run]
    must_do, failing = _must_do(document), _failing(document, real[-1] if real else None)
    interval = _interval(document.runs)
    updated = document.updated_at
    found = {
        **status,
        "age_s": max(0, int((now - updated).total_seconds())) if updated else None,
        "interval_s": interval,
        "next_run": _next_run(document.runs, interval, now),
        "must_do": [{**one, "runbook": entry_url(docs_url, one["code"])} for one in must_do],
        "failing": [{**one, "runbook": entry_url(docs_url, one["code"])} for one in failing],
        "excluded": _excluded(active),
        "runs": _runs(document.runs, all_changes(real)),
    }
    return {"sentence": _sentence(found), "tone": _tone(found), **found}


def page_data(
    overview_: Mapping[str, Any],
    document: StateDocument,
    title: str,
    scopes_word: str,
    names: Sequence[str] = (),
    months: Iterable[Row] = (),
) -> dict[str, Any]:
    """Return what the page shows of one cloud: its overview, what it costs a month, and every scope as a row.

    `names` are the months of the heat map, oldest first, and `months` the rows of `shared.monitor.months` for them.
    `labels`, `scope_labels` (by row) and `scopes_with_more_labels` are as `shared.labels.packed` returns them.
    """
    by_scope: dict[str, list[Row]] = {}
    for row in months:
        by_scope.setdefault(row.scope, []).append(row)
    shown = {scope: marks(rows, names) for scope, rows in by_scope.items()}
    rows = scope_rows(document, shown)
    labels, scope_labels, incomplete = packed(document.scopes[row[0]].labels or {} for row in rows)
    stored = len(dump(document, document.updated_at)) if document.updated_at else 0
    return {
        **overview_,
        "title": title,
        "scopes_word": scopes_word,
        "cost": estimate(document.cloud, document.runs, stored),
        "months": list(names) if shown else [],
        "scopes": rows,
        "labels": labels,
        "scope_labels": scope_labels if labels else [],
        "scopes_with_more_labels": incomplete,
    }


def scope_rows(document: StateDocument, months: Mapping[str, str] = MappingProxyType({})) -> list[list[str]]:
    """Return [id, name, class, code, day of the newest data, months] of every scope that is known, sorted by id.

    The class is that of a report; a scope that is not active has its state instead. `months` are the marks of
    `shared.monitor.months.marks` by scope.
    """
    rows = []
    for scope_id, scope in sorted(document.scopes.items()):
        if not scope.counted:
            continue
        newest = max((one.delivered_at for one in scope.targets.values() if one.delivered_at), default=None)
        code = next((one.error.code for one in scope.targets.values() if one.error is not None), "")
        day = f"{newest:%Y-%m-%d}" if newest else ""
        coverage = class_of(scope) if is_active(scope) else scope.state
        rows.append([scope_id, scope.name, coverage, code, day, months.get(scope_id, "")])
    return rows


def scope_detail(document: StateDocument, scope_id: str, reports: Sequence[StoredReport]) -> dict[str, Any] | None:
    """Return everything that is known of one scope, None if it is not known at all.

    Keys: `scope`, `name`, `state`, `class`, `labels` {name: value}, `first_seen`, `last_seen`, `targets` [{kind, name,
    present, state, since, verified_at, delivered_at, next_try, error}] and `changes`, the newest of which come first.
    """
    scope = document.scopes.get(scope_id)
    if scope is None:
        return None
    theirs = [one for one in all_changes(reports) if one.scope == scope_id]
    return {
        "scope": scope_id,
        "name": scope.name,
        "state": scope.state,
        "class": class_of(scope),
        "labels": presentable(scope.labels or {}),
        "first_seen": _text(scope.first_seen),
        "last_seen": _text(scope.last_seen),
        "targets": [_target(key, entry) for key, entry in sorted(scope.targets.items())],
        "changes": [msgspec.structs.asdict(one) for one in reversed(theirs[-CHANGES_OF_SCOPE:])],
    }


def _target(key: str, entry: TargetState) -> dict[str, Any]:
    kind, _, name = key.partition("/")
    error = entry.error
    return {
        "kind": kind,
        "name": name,
        "present": entry.present,
        "state": entry.state,
        "since": _text(entry.since),
        "verified_at": _text(entry.verified_at),
        "delivered_at": _text(entry.delivered_at),
        "next_try": _text(entry.not_before),
        "error": {
            "code": error.code,
            "message": error.what or error.message,
            "remedy": error.remedy,
            "steps": error.steps,
        }
        if error
        else None,
    }


def _must_do(document: StateDocument) -> list[dict[str, Any]]:
    """Return each manual step once, with the first scope that it stands for and how many there are."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for scope_id, scope in sorted(document.scopes.items()):
        for entry in _asked_for(scope):
            error = entry.error
            if error is None or error.result != Result.MANUAL.value:
                continue
            steps = error.steps or [remedy_for(error.remedy, scope_id)]
            key = (error.code, error.what, error.url, *steps)
            known = found.setdefault(
                key,
                {
                    "code": error.code,
                    "what": error.what or error.message or error.code,
                    "steps": steps,
                    "url": error.url,
                    "scope": scope_id,
                    "scope_name": scope.name,
                    "scopes": {},
                },
            )
            known["scopes"][scope_id] = None
    return [{**one, "count": len(one["scopes"]), "scopes": _examples(one["scopes"])} for one in found.values()]


def _failing(document: StateDocument, newest: StoredReport | None) -> list[dict[str, Any]]:
    """Return what fails, one entry a code, the most frequent first."""
    found: dict[str, dict[str, Any]] = {}
    for scope_id, scope in sorted(document.scopes.items()):
        for entry in _asked_for(scope):
            error = entry.error
            if error is not None and error.result in (Result.FAILED.value, Result.BLOCKED.value):
                _add(found, error.code, scope_id, error.message or error.code, error.remedy)
    for failure in newest.failures if newest else ():
        if failure.code in OF_THE_RUN or not failure.scope:
            _add(found, failure.code, failure.scope, failure.message, failure.remedy)
    ordered = sorted(found.values(), key=lambda one: (-len(one["scopes"]), one["code"]))
    return [
        {
            "code": one["code"],
            "count": max(1, len(one["scopes"])),
            "message": one["message"],
            "remedy": one["remedy"],
            "examples": _examples(one["scopes"]),
        }
        for one in ordered
    ]


def _add(found: dict[str, dict[str, Any]], code: str, scope: str, message: str, remedy: str) -> None:
    known = found.setdefault(
        code, {"code": code, "message": message, "remedy": remedy_for(remedy, scope), "scopes": {}}
    )
    if scope:
        known["scopes"][scope] = None


def _examples(scopes: Mapping[str, None]) -> list[str]:
    """Return the first of the scopes, which are the keys: there may be ten thousand, each several times."""
    return list(islice(scopes, EXAMPLES))


def _asked_for(scope: ScopeRecord) -> Iterable[TargetState]:
    """Return what is remembered of the targets of a scope that is still there."""
    return scope.targets.values() if is_active(scope) else ()


def _excluded(active: Iterable[tuple[str, ScopeRecord]]) -> list[dict[str, Any]]:
    by_reason: dict[str, list[str]] = {}
    for scope_id, scope in active:
        if class_of(scope) == "excluded":
            codes = [one.error.code for one in scope.targets.values() if one.error is not None]
            codes += [one.state for one in scope.targets.values() if one.state]
            by_reason.setdefault(codes[0] if codes else "not-applicable", []).append(scope_id)
    ordered = sorted(by_reason.items(), key=lambda one: (-len(one[1]), one[0]))
    return [{"reason": reason, "count": len(ids), "examples": ids[:EXAMPLES]} for reason, ids in ordered]


def _interval(runs: Sequence[RunNote]) -> int:
    moments = sorted(note.at for note in runs)[-RUNS_FOR_INTERVAL:]
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    scheduled = [gap for gap in gaps if gap >= SHORTEST_INTERVAL_S]
    return int(median(scheduled)) if scheduled else 0


def _next_run(runs: Sequence[RunNote], interval: int, now: datetime) -> str | None:
    last = max((note.at for note in runs), default=None)
    expected = last + timedelta(seconds=interval) if last and interval else None
    return _text(expected) if expected and expected > now else None


def _runs(runs: Sequence[RunNote], found: Sequence[Change]) -> list[dict[str, Any]]:
    by_run: dict[str, list[Change]] = {}
    for change in found:
        by_run.setdefault(change.run_id, []).append(change)
    return [
        {
            "run_id": note.run_id,
            "at": _text(note.at),
            "status": note.status,
            "duration_s": note.duration_s,
            "active": note.active,
            "covered": note.covered,
            "writes": note.writes,
            "freshness_lag_h": note.freshness_lag_h,
            "changes": summary(by_run.get(note.run_id, ())),
        }
        for note in sorted(runs, key=lambda note: note.at, reverse=True)
    ]


def _sentence(found: Mapping[str, Any]) -> str:
    if found["last_run"] is None:
        return "No run has been recorded yet."
    scopes = found["scopes"]
    parts = [f"{scopes['covered']:,} of {scopes['active']:,} covered"]
    if scopes["manual"] or found["must_do"]:
        count = scopes["manual"] or len(found["must_do"])
        parts.append(f"{count:,} need{'s' if count == 1 else ''} you")
    if scopes["failed"] or found["failing"]:
        codes = ", ".join(one["code"] for one in found["failing"][:3])
        parts.append(f"{scopes['failed'] or len(found['failing']):,} failing{f': {codes}' if codes else ''}")
    parts += [f"{scopes[name]:,} {name}" for name in ("pending", "deferred", "excluded") if scopes[name]]
    if found["last_run"]["status"] == FAILED:
        parts.append("the last run failed")
    return "; ".join(parts) + "."


def _tone(found: Mapping[str, Any]) -> str:
    scopes, last = found["scopes"], found["last_run"]
    if last is None:
        return "wait"
    if scopes["failed"] or found["failing"] or last["status"] == FAILED:
        return "bad"
    if scopes["manual"] or found["must_do"]:
        return "ask"
    return "wait" if scopes["pending"] or scopes["deferred"] else "ok"


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
