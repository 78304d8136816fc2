"""The report: keys, status, counts and lists."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.coverage import classify
from shared.model import Enumeration, Outcome, Present, Problem, Result, Scope, ScopeState, Verb
from shared.report import (
    LONGEST_LIST,
    RunProgress,
    count_outcomes,
    cut_lists,
    failure_message,
    is_overdue,
    make_report,
    pieces,
    remedy_for,
)
from shared.settings import EngineSettings
from shared.state.document import StateDocument, fresh
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, GUIDE, HOUR, START, enumeration, key, outcome, remembering, target

KEYS = [
    "cloud",
    "run_id",
    "trigger",
    "status",
    "dry_run",
    "enumeration_complete",
    "run_complete",
    "started_at",
    "duration_s",
    "plan_hash",
    "scopes",
    "actions",
    "outcomes",
    "calls",
    "manual",
    "failures",
    "excluded",
    "deliveries",
    "next_run_hint",
]
CLASS_KEYS = ["covered", "pending", "deferred", "manual", "failed", "excluded"]
SCOPE_KEYS = ["total", "active", *CLASS_KEYS, "delivering", "awaiting_first_data"]
UNCHANGED = outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present())


def report_of(
    *outcomes: Outcome, memory: StateDocument | None = None, dry_run: bool = False, **findings: Any
) -> dict[str, Any]:
    """Return the report of a run with these outcomes."""
    ids = dict.fromkeys(one.key.scope for one in outcomes)
    progress = RunProgress(
        **{
            "cloud": "memory",
            "run_id": "run-1",
            "trigger": "timer",
            "dry_run": dry_run,
            "started_at": START,
            "duration_s": 1.23456,
            "calls": {"b": 2, "a": 1},
            "enumeration": enumeration(*ids),
            "plan_hash": "abc",
            "outcomes": outcomes,
            "problems": [],
            "run_complete": True,
            **findings,
        }
    )
    remembered, limits = memory or fresh("memory"), EngineSettings()
    progress.verdicts = classify(progress.enumeration, outcomes, remembered, limits, START)
    return make_report(progress, remembered, limits)


def test_report_has_exactly_the_keys_of_the_contract() -> None:
    """The keys are in reading order; the values are plain JSON."""
    report = report_of(UNCHANGED)
    assert list(report) == KEYS
    assert list(report["scopes"]) == SCOPE_KEYS
    assert msgspec.json.decode(msgspec.json.encode(report)) == report
    assert (report["cloud"], report["run_id"], report["dry_run"], report["plan_hash"]) == (
        "memory",
        "run-1",
        False,
        "abc",
    )
    assert (report["started_at"], report["duration_s"]) == ("2026-01-05T00:00:00Z", 1.235)
    assert report["calls"] == {"a": 1, "b": 2}
    assert list(report["calls"]) == ["a", "b"]
    assert (report["enumeration_complete"], report["run_complete"]) == (True, True)


def test_stored_report_has_a_line_for_each_entry() -> None:
    """People read it and search it by lines; it is the same document."""
    report = report_of(UNCHANGED, outcome(Result.UNCHANGED, scope="s2", verb=Verb.KEEP, observation=Present()))
    stored = b"".join(pieces(report))
    assert msgspec.json.decode(stored) == report
    assert [line.count(b'"verb"') for line in stored.splitlines() if b'"verb"' in line] == [1, 1]


def test_run_without_an_enumeration_reports_zero_counts() -> None:
    """The enumeration is not reported as complete."""
    report = report_of(enumeration=None, stopped=True, run_complete=False, plan_hash="")
    assert list(report) == KEYS
    assert set(report["scopes"].values()) == {0}
    assert (report["enumeration_complete"], report["run_complete"], report["status"]) == (False, False, "failed")


def test_run_that_ended_before_its_plan_covers_no_scope() -> None:
    """The scopes were listed but not observed, so they are deferred."""
    report = report_of(enumeration=enumeration("s1", "s2"), stopped=True, run_complete=False, plan_hash="")
    assert report["scopes"] == dict.fromkeys(SCOPE_KEYS, 0) | {"total": 2, "active": 2, "deferred": 2}


LONG_WAIT = remembering({key("s2"): TargetState(at=START, waiting_since=START - DAY)})
PROBLEM = Problem("listing", "a listing failed", "Grant the right.")


@pytest.mark.parametrize(
    ("outcomes", "findings", "memory", "status"),
    [
        pytest.param([UNCHANGED], {}, None, "ok", id="all as desired"),
        pytest.param([], {}, None, "ok", id="nothing to do"),
        pytest.param([UNCHANGED, outcome(Result.PENDING, "s2")], {}, None, "ok", id="pending"),
        pytest.param([UNCHANGED, outcome(Result.MANUAL, "s2")], {}, None, "ok", id="a person is asked"),
        pytest.param([outcome(Result.MANUAL)], {}, None, "ok", id="only a person can do anything"),
        pytest.param([UNCHANGED, outcome(Result.DEFERRED, "s2")], {}, None, "ok", id="deferred for the first time"),
        pytest.param([outcome(Result.SKIPPED)], {}, None, "ok", id="nothing applies"),
        pytest.param([UNCHANGED, outcome(Result.DEFERRED, "s2")], {}, LONG_WAIT, "degraded", id="overdue"),
        pytest.param([UNCHANGED, outcome(Result.FAILED, "s2")], {}, None, "degraded", id="some failed"),
        pytest.param([UNCHANGED, outcome(Result.BLOCKED, "s2")], {}, None, "degraded", id="some are blocked"),
        pytest.param([UNCHANGED], {"problems": [PROBLEM]}, None, "degraded", id="a listing failed"),
        pytest.param([outcome(Result.FAILED)], {}, None, "failed", id="nothing succeeded"),
        pytest.param(
            [outcome(Result.FAILED), outcome(Result.MANUAL, "s2")], {}, None, "failed", id="asking is no success"
        ),
        pytest.param([UNCHANGED], {"stopped": True}, None, "failed", id="the run was stopped"),
        pytest.param([outcome(Result.DONE)], {"stopped": True}, None, "failed", id="stopped after a success"),
    ],
)
def test_status_follows_from_the_outcomes(
    outcomes: list[Outcome], findings: dict[str, Any], memory: StateDocument | None, status: str
) -> None:
    """It is ok, degraded or failed, as the contract defines."""
    assert report_of(*outcomes, memory=memory, **findings)["status"] == status


@pytest.mark.parametrize(
    ("entry", "overdue"),
    [
        pytest.param(None, False, id="nothing is known"),
        pytest.param(TargetState(at=START), False, id="it does not wait"),
        pytest.param(TargetState(at=START, waiting_since=START), False, id="it has just begun"),
        pytest.param(TargetState(at=START, waiting_since=START - DAY + HOUR, attempts=2), False, id="not quite"),
        pytest.param(TargetState(at=START, waiting_since=START - DAY), True, id="a day old"),
        pytest.param(TargetState(at=START, attempts=3), True, id="tried three times"),
        pytest.param(TargetState(at=START, error=LastError("x", result="failed")), True, id="after a failure"),
        pytest.param(TargetState(at=START, error=LastError("x", result="deferred")), False, id="after a deferral"),
    ],
)
def test_only_deferred_outcomes_become_overdue(entry: TargetState | None, overdue: bool) -> None:
    """Other outcomes keep their result."""
    assert is_overdue(outcome(Result.DEFERRED), entry, START) is overdue
    assert not is_overdue(outcome(Result.MANUAL), entry, START)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([Result.UNCHANGED, Result.DONE], "covered", id="as desired"),
        pytest.param([Result.UNCHANGED, Result.SKIPPED], "covered", id="what does not apply is not missing"),
        pytest.param([Result.SKIPPED, Result.SKIPPED], "excluded", id="nothing is exported for it"),
        pytest.param([Result.UNCHANGED, Result.PENDING], "pending", id="accepted"),
        pytest.param([Result.PENDING, Result.DEFERRED], "deferred", id="something waits"),
        pytest.param([Result.UNCHANGED, Result.EXCLUDED], "excluded", id="the cloud refuses something"),
        pytest.param([Result.DEFERRED, Result.EXCLUDED], "excluded", id="waiting does not help"),
        pytest.param([Result.EXCLUDED, Result.MANUAL], "manual", id="a person is asked"),
        pytest.param([Result.MANUAL, Result.BLOCKED], "failed", id="something is blocked"),
        pytest.param([Result.DONE, Result.FAILED], "failed", id="something failed"),
    ],
)
def test_scope_has_the_worst_class_of_its_targets(results: list[Result], expected: str) -> None:
    """A scope has one class, and a refusal is not coverage."""
    outcomes = [outcome(result, observation=Present()) for result in results]
    counts = report_of(*outcomes)["scopes"]
    assert counts == dict.fromkeys(SCOPE_KEYS, 0) | {"total": 1, "active": 1, expected: 1}


def test_every_active_scope_is_in_exactly_one_class() -> None:
    """Inactive and unlisted scopes have no class; the total counts all listed scopes."""
    results = [outcome(result, f"s{place}") for place, result in enumerate(Result)]
    shown = (*(Scope(one.key.scope) for one in results), Scope("off", state=ScopeState.INACTIVE))
    skipped = [outcome(Result.FAILED, "off"), outcome(Result.FAILED, "nowhere")]
    counts = report_of(*results, *skipped, enumeration=Enumeration("org-1", shown))["scopes"]
    assert counts == {
        "total": 11,
        "active": 10,
        "covered": 2,
        "pending": 1,
        "deferred": 2,
        "manual": 1,
        "failed": 2,
        "excluded": 2,
        "delivering": 0,
        "awaiting_first_data": 0,
    }


def test_dry_run_does_not_cover_scopes_with_planned_writes() -> None:
    """Such a scope is deferred; its other problems count as usual."""
    written = outcome(Result.PLANNED, "s1")
    asked = [outcome(Result.PLANNED, "s2"), outcome(Result.MANUAL, "s2", Verb.MANUAL)]
    fine = outcome(Result.UNCHANGED, "s3", Verb.KEEP)
    report = report_of(written, *asked, fine, dry_run=True)
    assert report["dry_run"] is True
    assert report["scopes"] == dict.fromkeys(SCOPE_KEYS, 0) | {
        "total": 3,
        "active": 3,
        "covered": 1,
        "deferred": 1,
        "manual": 1,
    }
    assert report["outcomes"] == {"CREATE": {"planned": 2}, "KEEP": {"unchanged": 1}, "MANUAL": {"manual": 1}}


def test_outcomes_are_counted_by_verb_and_result() -> None:
    """The sum is the number of actions."""
    outcomes = [
        outcome(Result.DONE),
        outcome(Result.FAILED),
        outcome(Result.DONE, "s2"),
        outcome(Result.UNCHANGED, verb=Verb.KEEP),
    ]
    assert count_outcomes(outcomes) == {"CREATE": {"done": 2, "failed": 1}, "KEEP": {"unchanged": 1}}


def test_manual_steps_have_description_steps_and_link() -> None:
    """Without a manual step, the message and a reference to help are used."""
    report = report_of(
        outcome(Result.MANUAL, "s1", manual_step=GUIDE), outcome(Result.MANUAL, "s2", message="manual check required")
    )
    assert report["manual"] == [
        {
            "scope": "s1",
            "code": "test",
            "what": "it is broken",
            "steps": ["Mend it."],
            "url": "https://console.example/mend",
        },
        {"scope": "s2", "code": "test", "what": "manual check required", "steps": [remedy_for("", "s2")], "url": ""},
    ]
    assert report["failures"] == []


def test_failures_are_problems_then_failed_blocked_or_overdue_targets() -> None:
    """Each has scope, code, message and remedy; the message names the target and its result."""
    report = report_of(
        outcome(Result.BLOCKED, "s1", code="rests-on", message="rests on data"),
        outcome(Result.DEFERRED, "s2", code="busy"),
        outcome(Result.FAILED, "s3", code="denied", message="no", remedy="Grant it."),
        UNCHANGED,
        memory=LONG_WAIT,
        problems=[Problem("listing", "a listing failed", "Grant the right.", "s9")],
    )
    assert report["failures"] == [
        {"scope": "s9", "code": "listing", "message": "a listing failed", "remedy": "Grant the right."},
        {"scope": "s3", "code": "denied", "message": "export daily: failed: no", "remedy": "Grant it."},
        {
            "scope": "s1",
            "code": "rests-on",
            "message": "export daily: blocked: rests on data",
            "remedy": remedy_for("", "s1"),
        },
        {"scope": "s2", "code": "busy", "message": "export daily: deferred: busy", "remedy": remedy_for("", "s2")},
    ]


@pytest.mark.parametrize("number", [0, 1, LONGEST_LIST, LONGEST_LIST + 1, 1000])
def test_long_lists_are_shortened_and_the_report_is_unchanged(number: int) -> None:
    """The last item has the number of omitted items and where to find them."""
    complete = report_of(
        *(outcome(Result.MANUAL, f"m{place}", manual_step=GUIDE) for place in range(number)),
        *(outcome(Result.FAILED, f"f{place}") for place in range(number)),
    )
    short = cut_lists(complete, "runs/run-1.json")
    assert list(short) == KEYS
    assert (len(complete["manual"]), len(complete["failures"])) == (number, number)
    for name in ("manual", "failures"):
        assert short[name][:LONGEST_LIST] == complete[name][:LONGEST_LIST]
        assert len(short[name]) == min(number, LONGEST_LIST + 1)
        assert all(item.keys() == complete[name][0].keys() for item in short[name])
    if number > LONGEST_LIST:
        assert short["manual"][-1]["what"] == f"{number - LONGEST_LIST} more of {number}"
        assert short["manual"][-1]["steps"] == ["Read the whole report: runs/run-1.json"]
        assert short["failures"][-1]["message"] == f"{number - LONGEST_LIST} more of {number}"
        assert "runs/run-1.json" in short["failures"][-1]["remedy"]


def due(scope: str, hours: int) -> StateDocument:
    """Return a state document in which the scope's target waits for a number of hours."""
    return remembering({key(scope): TargetState(at=START, not_before=START + timedelta(hours=hours))})


@pytest.mark.parametrize(
    ("outcomes", "findings", "memory", "hint"),
    [
        pytest.param([UNCHANGED], {}, None, "as scheduled", id="nothing waits"),
        pytest.param([UNCHANGED], {"stopped": True}, None, "as scheduled, once the failure is repaired", id="stopped"),
        pytest.param(
            [outcome(Result.DEFERRED, code="deadline")],
            {"run_complete": False},
            None,
            "now: 1 targets were not begun in time, the next run starts with s1/export/daily",
            id="time was up",
        ),
        pytest.param(
            [outcome(Result.DEFERRED)],
            {},
            due("s1", 2),
            "as scheduled; 1 deferred targets are due from 2026-01-05T02:00:00Z on",
            id="deferred",
        ),
        pytest.param([outcome(Result.MANUAL)], {}, due("s1", 2), "as scheduled", id="only deferrals are due"),
    ],
)
def test_next_run_hint_follows_from_the_waits(
    outcomes: list[Outcome], findings: dict[str, Any], memory: StateDocument | None, hint: str
) -> None:
    """It is now, as scheduled, or the time of the next due target."""
    assert report_of(*outcomes, memory=memory, **findings)["next_run_hint"] == hint


@pytest.mark.parametrize(
    ("entry", "code", "counted"),
    [
        (TargetState(at=START, present=True, delivered_at=START - 3 * DAY), "data-late", (1, 0)),
        (TargetState(at=START, present=True, applied_at=START - 3 * DAY), "data-missing", (0, 1)),
    ],
)
def test_stopped_data_degrades_the_run_and_is_reported_once(
    entry: TargetState, code: str, counted: tuple[int, int]
) -> None:
    """A silent export is reported with a remedy unless a manual step for it is reported already."""
    export = target("s1", rhythm=2 * DAY)
    quiet = msgspec.structs.replace(UNCHANGED, action=msgspec.structs.replace(UNCHANGED.action, target=export))
    report = report_of(quiet, memory=remembering({export.key: entry}))
    assert report["status"] == "degraded"
    assert (report["deliveries"]["late"], report["deliveries"]["missing"]) == counted
    (failure,) = report["failures"]
    assert (failure["scope"], failure["code"]) == ("s1", code)
    assert failure["remedy"]
    asked = msgspec.structs.replace(quiet, result=Result.MANUAL, manual_step=GUIDE)
    reported = report_of(asked, memory=remembering({export.key: entry}))
    assert (reported["status"], reported["failures"], len(reported["manual"])) == ("degraded", [], 1)


def test_times_are_in_utc() -> None:
    """The start has whole seconds and the suffix Z."""
    assert datetime.fromisoformat(report_of()["started_at"]) == START


def test_failed_run_is_summarized_in_one_line() -> None:
    """At most five reasons with their remedies; without any, the line refers to the report."""
    one = {"scope": "*", "code": "denied", "message": "It may not.", "remedy": "Grant it."}
    bare = {**one, "message": "It may not", "remedy": ""}
    assert failure_message({"run_id": "r", "failures": [one, bare]}) == (
        "run r failed. denied: It may not. Grant it. | denied: It may not."
    )
    assert failure_message({"run_id": "r", "failures": [one] * 9}).count("Grant it.") == 5
    assert failure_message({"run_id": "r", "failures": []}) == "run r failed. See its report for the reasons."
