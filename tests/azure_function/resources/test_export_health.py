"""The health of an export by its runs and deliveries: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from azure_function.resources.export_health import SILENT, ExportSnapshot, evaluate_health, news, runs_of
from azure_function.resources.manifests import ManifestContent
from shared.model import Health
from shared.parsing import parse_time

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def snapshot(
    *statuses: str,
    delivered: timedelta | None = None,
    since: timedelta = timedelta(days=30),
    facts: Mapping[str, Any] | None = None,
    known: bool = True,
    filled: timedelta | None = None,
    stale: timedelta = SILENT,
) -> ExportSnapshot:
    """Return an export whose runs have these statuses, newest first, a day apart. The other values are ages."""
    runs = [
        {"status": status, "submittedTime": (NOW - timedelta(days=back, hours=2)).isoformat()}
        for back, status in enumerate(statuses)
    ]
    at = NOW - delivered if delivered is not None else None
    rows = NOW - filled if filled is not None else None
    return ExportSnapshot("export", runs, facts or {}, at, NOW if known else None, NOW - since, rows, stale)


def empty(days: float) -> dict[str, str]:
    """Return the facts of an export whose manifests have listed no rows for a number of days."""
    return {"empty_since": (NOW - timedelta(days=days)).isoformat()}


@pytest.mark.parametrize(
    ("seen", "health", "code"),
    [
        (snapshot("Completed", delivered=20 * HOUR), Health.HEALTHY, ""),
        (snapshot("Failed", "Failed", "Completed", delivered=40 * HOUR), Health.HEALTHY, ""),
        (snapshot("Failed", "Timeout", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (snapshot("InProgress", "Failed", "Failed", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (snapshot("Completed", delivered=50 * HOUR), Health.BROKEN, "nothing-delivered"),
        (snapshot("NewDataNotAvailable", delivered=90 * HOUR, filled=90 * HOUR), Health.HEALTHY, ""),
        (snapshot("NewDataNotAvailable", delivered=120 * HOUR, filled=120 * HOUR), Health.MANUAL, "data-stopped"),
        (snapshot("DataNotAvailable", filled=30 * 24 * HOUR), Health.MANUAL, "data-stopped"),
        (snapshot("DataNotAvailable", filled=8 * 24 * HOUR, stale=9 * 24 * HOUR), Health.HEALTHY, ""),
        (snapshot("DataNotAvailable"), Health.INACTIVE, "no-cost-rows"),
        (snapshot("DataNotAvailable", since=100 * HOUR), Health.PENDING, "first-delivery"),
        (snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, facts=empty(5)), Health.MANUAL, "data-stopped"),
        (snapshot(delivered=20 * HOUR, filled=5 * 24 * HOUR, facts=empty(4)), Health.HEALTHY, ""),
        (snapshot(delivered=20 * HOUR, facts=empty(5)), Health.INACTIVE, "no-cost-rows"),
        (snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, stale=9 * 24 * HOUR, facts=empty(5)), Health.HEALTHY, ""),
        (snapshot(delivered=HOUR, facts={"incomplete": "part_0_0001.csv is missing"}), Health.BROKEN,
         "delivery-incomplete"),
        (snapshot("Completed", delivered=50 * HOUR, stale=60 * HOUR), Health.HEALTHY, ""),
        (snapshot(), Health.BROKEN, "nothing-delivered"),
        (snapshot(since=10 * HOUR), Health.PENDING, "first-delivery"),
        (snapshot(known=False), Health.HEALTHY, ""),
        (snapshot("Completed", delivered=90 * HOUR, since=HOUR), Health.HEALTHY, ""),
    ],
)  # fmt: skip
def test_health_follows_from_runs_and_deliveries(seen: ExportSnapshot, health: Health, code: str) -> None:
    """Repeated failures, no delivery and missing files are BROKEN. Days without rows are never HEALTHY."""
    found = evaluate_health(seen, NOW)
    assert (found.health, found.code) == (health, code)


def test_execution_that_does_not_help_becomes_a_manual_step() -> None:
    """The function waits a day for the result of an execution."""
    runs = ("Failed", "Failed", "Failed")
    waiting = evaluate_health(snapshot(*runs, facts={"executed_at": (NOW - 5 * HOUR).isoformat()}), NOW)
    assert waiting.health is Health.PENDING
    late = evaluate_health(snapshot(*runs, facts={"executed_at": (NOW - 25 * HOUR).isoformat()}), NOW)
    assert late.health is Health.MANUAL
    assert late.manual_step is not None
    well = evaluate_health(snapshot("Completed", delivered=HOUR, facts={"executed_at": NOW.isoformat()}), NOW)
    assert well.facts == {"executed_at": ""}


def test_runs_are_sorted_newest_first() -> None:
    """Azure returns runs in any order and with seven decimals, or none at all."""
    export = {
        "properties": {
            "runHistory": {
                "value": [
                    {"properties": {"status": "Failed", "submittedTime": "2026-11-01T00:00:00.1234567Z"}},
                    {"properties": {"status": "Completed", "submittedTime": "2026-11-02T00:00:00Z"}},
                ]
            }
        }
    }
    assert [run["status"] for run in runs_of(export)] == ["Completed", "Failed"]
    assert runs_of({"properties": {}}) == []
    assert parse_time("soon") is parse_time("") is parse_time(None) is None


def test_stopped_data_has_a_manual_step_and_no_delivery_time() -> None:
    """A delivery without rows does not count as an arrival of data."""
    stopped = evaluate_health(snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, facts=empty(5)), NOW)
    assert stopped.delivered_at is None
    assert stopped.manual_step is not None
    assert "Delete the export" in " ".join(stopped.manual_step.steps)
    assert evaluate_health(snapshot(delivered=20 * HOUR), NOW).delivered_at == NOW - 20 * HOUR


@pytest.mark.parametrize(("age", "health"), [(SILENT - HOUR / 60, Health.HEALTHY), (SILENT, Health.BROKEN)])
def test_run_without_new_data_explains_two_days_without_a_delivery(age: timedelta, health: Health) -> None:
    """Later, runs have stopped; when a run ended counts before when it was submitted."""
    for name, other in (("submittedTime", {}), ("processingEndTime", {"submittedTime": (NOW - 90 * HOUR).isoformat()})):
        run = {"status": "NewDataNotAvailable", name: (NOW - age).isoformat(), **other}
        seen = ExportSnapshot("export", [run], {}, NOW - 90 * HOUR, NOW, NOW - 99 * HOUR, NOW - 90 * HOUR)
        assert evaluate_health(seen, NOW).health is health


def test_execution_is_remembered_until_a_delivery() -> None:
    """A later incident then gets its own execution."""
    executed = {"executed_at": NOW.isoformat()}
    assert evaluate_health(snapshot(since=HOUR, facts=executed), NOW).facts == {}
    assert evaluate_health(snapshot("Completed", delivered=HOUR), NOW).facts == {}


def test_months_that_lost_files_are_a_manual_step() -> None:
    """Azure does not deliver earlier months again by itself."""
    lost = {f"2026-0{month}": f"part {month} is missing" for month in range(8, 0, -1)}
    seen = evaluate_health(snapshot("Completed", delivered=HOUR, facts={"lost": lost}), NOW)
    assert (seen.health, seen.code) == (Health.MANUAL, "period-incomplete")
    assert seen.manual_step is not None
    assert seen.detail == seen.manual_step.what
    assert "the files of 2026-01, 2026-02, 2026-03, 2026-04, 2026-05, 2026-06 are missing" in seen.detail
    assert seen.detail.endswith("2026-01: part 1 is missing")
    assert any("backfill azure --missing" in one for one in seen.manual_step.steps)


@pytest.mark.parametrize(
    ("content", "facts", "changes"),
    [
        (ManifestContent(False, "", False), {}, {}),
        (ManifestContent(True, "", False), {}, {"empty_since": NOW.isoformat()}),
        (ManifestContent(True, "", False), {"empty_since": "before"}, {}),
        (ManifestContent(False, "", False), {"empty_since": "before"}, {"empty_since": ""}),
        (ManifestContent(False, "a is missing", False), {}, {"incomplete": "a is missing"}),
        (ManifestContent(False, "a is missing", False), {"incomplete": "a is missing"}, {}),
        (ManifestContent(False, "", False), {"incomplete": "a is missing"}, {"incomplete": ""}),
        (ManifestContent(False, "", True), {}, {"sized": True}),
        (ManifestContent(False, "", True), {"sized": True}, {}),
        (ManifestContent(False, "", False), {"sized": True}, {}),
    ],
)
def test_what_a_manifest_changes_is_remembered(
    content: ManifestContent, facts: dict[str, Any], changes: dict[str, Any]
) -> None:
    """And when it was written, so that it is read once."""
    assert news(NOW, content, facts) == {"manifest": NOW.isoformat(), **changes}


@pytest.mark.parametrize(
    ("run", "shown"),
    [
        ({}, "; it has not run yet"),
        ({"status": "Failed"}, "; last run Failed"),
        ({"status": "Failed", "error": {"code": "E1", "message": "no room"}}, "; last run Failed: E1 no room"),
        ({"status": "Failed", "error": {"message": "no room"}}, "; last run Failed: no room"),
    ],
)
def test_missing_delivery_names_the_last_run(run: dict[str, Any], shown: str) -> None:
    """With its error, as far as Azure shows one."""
    seen = ExportSnapshot("export", [run] if run else [], {}, None, NOW, NOW - 90 * HOUR)
    found = evaluate_health(seen, NOW)
    assert (found.code, found.detail) == ("nothing-delivered", f"it delivered nothing for two days{shown}")
