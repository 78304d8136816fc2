"""The health of an export by its runs and deliveries: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from azure_function.resources.export_health import SILENT, ExportSnapshot, evaluate_health, runs_of
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
