"""The changes between runs, derived from their reports."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.monitor.history import Change, all_changes, summary
from shared.monitor.stored import StoredReport


def did(scope: str, verb: str = "KEEP", result: str = "unchanged", reason: str = "as-wanted") -> dict[str, str]:
    """Return one action of a report."""
    return {
        "scope": scope,
        "scope_name": "",
        "kind": "export",
        "name": "daily",
        "verb": verb,
        "reason": reason,
        "result": result,
        "message": "",
    }


def report(run: int, *actions: dict[str, str], **more: Any) -> StoredReport:
    """Return a stored report."""
    document = {
        "run_id": f"run-{run}",
        "started_at": f"2026-03-0{run}T00:00:00Z",
        "dry_run": False,
        "run_complete": True,
        "actions": list(actions),
        "failures": [],
        "manual": [],
        **more,
    }
    return msgspec.convert(document, StoredReport)


def failure(scope: str, code: str = "storage-firewall") -> dict[str, str]:
    """Return one failure of a report."""
    return {"scope": scope, "code": code, "message": f"{code} in {scope}", "remedy": "Open it."}


def texts(changes: list[Change]) -> list[str]:
    """Return a short text for each change."""
    return [f"{one.run_id} {one.what} {one.scope} {one.code}".strip() for one in changes]


def test_accepted_writes_are_changes() -> None:
    """Created, repaired and adopted targets count only if the cloud accepted the write."""
    found = all_changes(
        [
            report(
                1,
                did("a", "CREATE", "done", "absent"),
                did("b", "REPAIR", "pending", "drifted"),
                did("c", "ADOPT", "done", "ours"),
                did("d", "CREATE", "failed", "absent"),
                did("e"),
            )
        ]
    )
    assert texts(found) == ["run-1 created a absent", "run-1 repaired b drifted", "run-1 adopted c ours"]
    assert found[0].detail == "export daily"


def test_failures_and_manual_steps_open_once_and_close_once() -> None:
    """A failure that stays open is no change; it closes in the run that observed the scope without it."""
    step = {"scope": "b", "code": "export-switch", "what": "Switch it on", "steps": ["x"], "url": ""}
    found = all_changes(
        [
            report(1, did("a"), did("b")),
            report(2, did("a", "CREATE", "failed"), did("b"), failures=[failure("a")], manual=[step]),
            report(3, did("a", "CREATE", "failed"), did("b"), failures=[failure("a")], manual=[step]),
            report(4, did("a"), did("b")),
        ]
    )
    assert texts(found) == [
        "run-2 failure opened a storage-firewall",
        "run-2 manual step opened b export-switch",
        "run-4 failure closed a storage-firewall",
        "run-4 manual step closed b export-switch",
    ]


def test_run_of_some_scopes_does_not_change_the_failures_of_others() -> None:
    """This holds for a run of one scope and for one that deferred a scope."""
    both = [failure("a"), failure("b")]
    found = all_changes(
        [
            report(1, did("a"), did("b"), failures=both),
            report(2, did("a")),
            report(3, did("a"), did("b", "DEFER", "deferred", "deadline"), run_complete=False),
            report(4, did("a"), did("b"), failures=[failure("b")]),
        ]
    )
    assert texts(found) == [
        "run-1 failure opened a storage-firewall",
        "run-1 failure opened b storage-firewall",
        "run-2 failure closed a storage-firewall",
    ]


def test_failure_of_a_run_closes_only_with_a_complete_run() -> None:
    """A failed enumeration has no scope; only a complete run proves that it is resolved."""
    blind = failure("", "enumeration-incomplete")
    found = all_changes([report(1, failures=[blind]), report(2, run_complete=False), report(3, did("a"))])
    assert texts(found) == [
        "run-1 failure opened  enumeration-incomplete",
        "run-3 failure closed  enumeration-incomplete",
    ]


def test_exclusions_open_and_close() -> None:
    """A scope that the cloud starts or stops refusing is a change."""
    refused = did("a", "SKIP", "excluded", "offer-unsupported")
    found = all_changes([report(1, did("a")), report(2, refused), report(3, did("a"))])
    assert texts(found) == ["run-2 exclusion opened a offer-unsupported", "run-3 exclusion closed a offer-unsupported"]


def test_dry_runs_are_left_out() -> None:
    """A dry run changes nothing."""
    planned = report(2, did("a", "CREATE", "done"), dry_run=True, failures=[failure("a")])
    assert all_changes([report(1, did("a")), planned, report(3, did("a"))]) == []


def test_summary_counts_writes_together_and_openings_by_code() -> None:
    """Three thousand creations are one phrase, and failures are counted by code."""
    found = [Change("t", "r", "created", str(number), "absent") for number in range(3000)]
    found += [Change("t", "r", "failure opened", "a", "quota"), Change("t", "r", "created", "b", "lost")]
    found += [Change("t", "r", "manual step closed", one, "export-switch") for one in "ab"]
    assert summary(found) == ["3,001 created", "1 failure opened (quota)", "2 manual steps closed (export-switch)"]
    assert summary([]) == []
