"""The overview: what is covered, what needs a person and what fails, from the stored documents alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.monitor.overview import overview, page_data, scope_detail, scope_rows
from shared.state.document import RunNote, ScopeRecord, StateDocument, fresh
from shared.target_state import LastError, TargetState
from tests.shared.monitor.test_history import did, failure, report

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
STEP = LastError(
    "export-switch", what="Switch it on", steps=["Open the page"], url="https://example.com", result="manual"
)
BROKEN = LastError("storage-firewall", "the firewall refuses", "Let the service in.", "failed")


def scope(coverage: str = "covered", error: LastError | None = None, **more: object) -> ScopeRecord:
    """Return a scope with one export."""
    entry = TargetState(at=NOW, present=True, delivered_at=NOW - timedelta(days=1), error=error)
    return ScopeRecord(at=NOW, coverage=coverage, targets={"export/daily": entry}, **more)  # type: ignore[arg-type]  # the caller passes the fields


def document(**scopes: ScopeRecord) -> StateDocument:
    """Return a state document after three runs, one hour apart, the last one ten minutes ago."""
    made = fresh("azure")
    made.owner, made.updated_at = "tenant", NOW - timedelta(minutes=10)
    made.scopes = scopes
    made.runs = [
        RunNote(f"run-{number}", NOW - timedelta(hours=3 - number, minutes=10), "ok", active=3, covered=number)
        for number in (1, 2, 3)
    ]
    return made


def test_overview_before_the_first_run_says_so() -> None:
    """It makes no statement about coverage."""
    found = overview(fresh("aws"), [], NOW)
    assert (found["sentence"], found["tone"]) == ("No run has been recorded yet.", "wait")
    assert (found["age_s"], found["interval_s"], found["next_run"], found["runs"]) == (None, 0, None, [])


def test_overview_of_a_covered_deployment() -> None:
    """It has one sentence, the state's age, and the time of the next run."""
    found = overview(document(a=scope(), b=scope()), [], NOW)
    assert (found["sentence"], found["tone"]) == ("2 of 2 covered.", "ok")
    assert (found["age_s"], found["interval_s"]) == (600, 3600)
    assert found["next_run"] == "2026-03-10T12:50:00Z"
    assert [run["run_id"] for run in found["runs"]] == ["run-3", "run-2", "run-1"]


def test_equal_manual_steps_and_failures_are_grouped() -> None:
    """A step in many scopes is one entry with a count; a failure is one entry with examples."""
    scopes = {f"s{number}": scope("manual", STEP) for number in range(7)}
    scopes |= {f"t{number}": scope("failed", BROKEN) for number in range(6)}
    found = overview(document(**scopes, ok=scope()), [], NOW)
    assert found["sentence"] == "1 of 14 covered; 7 need you; 6 failing: storage-firewall."
    assert found["tone"] == "bad"
    (step,) = found["must_do"]
    assert (step["count"], step["scope"], step["steps"]) == (7, "s0", ["Open the page"])
    (broken,) = found["failing"]
    assert (broken["count"], broken["remedy"]) == (6, "Let the service in.")
    assert broken["examples"] == ["t0", "t1", "t2", "t3", "t4"]


def test_gone_and_suspended_scopes_need_no_action() -> None:
    """Their old failures and manual steps are not shown."""
    gone = scope("failed", BROKEN, gone_at=NOW)
    suspended = scope("manual", STEP, state="suspended")
    found = overview(document(a=scope(), gone=gone, suspended=suspended), [], NOW)
    assert (found["must_do"], found["failing"], found["tone"]) == ([], [], "ok")


def test_failures_of_the_run_come_from_its_report() -> None:
    """Failures without a scope, and stopped data, are only in the newest report."""
    late = {"scope": "a", "code": "data-late", "message": "export daily: nothing has arrived", "remedy": "Look."}
    reports = [report(1, did("a"), failures=[failure("", "older")]), report(2, did("a"), failures=[late])]
    found = overview(document(a=scope()), reports, NOW)
    assert [one["code"] for one in found["failing"]] == ["data-late"]
    assert found["tone"] == "bad"


def test_runs_have_their_changes() -> None:
    """The run id joins the state's history with the changes from the reports."""
    reports = [report(2, did("a", "CREATE", "done")), report(3, did("a"), failures=[failure("a")])]
    found = overview(document(a=scope()), reports, NOW)
    assert [run["changes"] for run in found["runs"]] == [["1 failure opened (storage-firewall)"], ["1 created"], []]


def test_detail_of_a_scope_has_its_targets_and_its_last_changes() -> None:
    """It has desired and actual fields, the last delivery, the error with its remedy, and the newest changes first."""
    reports = [
        report(1, did("a", "CREATE", "done"), did("b", "CREATE", "done")),
        report(2, did("a", "CREATE", "failed"), failures=[failure("a")]),
    ]
    found = scope_detail(document(a=scope("failed", BROKEN, name="Alpha")), "a", reports)
    assert found is not None
    assert (found["name"], found["class"]) == ("Alpha", "failed")
    (target,) = found["targets"]
    assert (target["kind"], target["name"], target["delivered_at"]) == ("export", "daily", "2026-03-09T12:00:00Z")
    assert target["error"]["remedy"] == "Let the service in."
    assert [one["what"] for one in found["changes"]] == ["failure opened", "created"]
    assert scope_detail(document(), "a", []) is None


def test_labels_are_shown_of_one_scope_and_on_the_page() -> None:
    """The page names each text once, in the order of its rows; scopes that are in no count have none."""
    made = document(
        a=scope(labels={"env": "prod", "owner": "x"}),
        b=scope(labels={"env": "no row"}, counted=False),
        c=scope(),
        d=scope(labels={"env": "prod"}),
    )
    found = scope_detail(made, "a", [])
    assert found is not None
    assert found["labels"] == {"env": "prod", "owner": "x"}
    data = page_data(overview(made, [], NOW), made, "Azure", "subscriptions")
    assert [row[0] for row in data["scopes"]] == ["a", "c", "d"]
    assert data["labels"] == ["env: prod", "owner: x"]
    assert data["scope_labels"] == [[0, 1], [], [0]]
    assert data["scopes_with_more_labels"] == 0


def test_page_has_a_row_for_every_scope() -> None:
    """A row has id, name, class or state, code, and the day of the newest data."""
    made = document(a=scope("failed", BROKEN, name="Alpha"), b=scope(state="suspended"), c=scope(counted=False))
    assert scope_rows(made) == [
        ["a", "Alpha", "failed", "storage-firewall", "2026-03-09", ""],
        ["b", "", "suspended", "", "2026-03-09", ""],
    ]
    assert page_data(overview(made, [], NOW), made, "Azure", "subscriptions")["scopes"] == scope_rows(made)
