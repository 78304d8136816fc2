"""What runs and deliveries say of an export's health: pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from azure_function.health import Sight, judged, moment, runs_of
from azure_function.identity import allows
from shared.model import Health

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def sight(
    *statuses: str,
    delivered: timedelta | None = None,
    since: timedelta = timedelta(days=30),
    facts: Mapping[str, Any] | None = None,
    known: bool = True,
) -> Sight:
    """Return an export whose newest run has the first status, a day between them."""
    runs = [
        {"status": status, "submittedTime": (NOW - timedelta(days=back, hours=2)).isoformat()}
        for back, status in enumerate(statuses)
    ]
    at = NOW - delivered if delivered is not None else None
    return Sight("export", runs, facts or {}, at, known, NOW - since)


@pytest.mark.parametrize(
    ("seen", "health", "code"),
    [
        (sight("Completed", delivered=20 * HOUR), Health.HEALTHY, ""),
        (sight("Failed", "Failed", "Completed", delivered=40 * HOUR), Health.HEALTHY, ""),
        (sight("Failed", "Timeout", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (sight("InProgress", "Failed", "Failed", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (sight("Completed", delivered=50 * HOUR), Health.BROKEN, "nothing-delivered"),
        (sight("NewDataNotAvailable", delivered=90 * HOUR), Health.HEALTHY, ""),
        (sight("DataNotAvailable"), Health.HEALTHY, ""),
        (sight(), Health.BROKEN, "nothing-delivered"),
        (sight(since=10 * HOUR), Health.PENDING, "first-delivery"),
        (sight(known=False), Health.HEALTHY, ""),
        (sight("Completed", delivered=90 * HOUR, since=HOUR), Health.HEALTHY, ""),
    ],
)
def test_health_by_runs_and_deliveries(seen: Sight, health: Health, code: str) -> None:
    """Three failures in a row or two days of silence break it; runs without new data, and a late listing, do not."""
    found = judged(seen, NOW)
    assert (found.health, found.code) == (health, code)


def test_one_execution_and_then_a_person() -> None:
    """After an execution its outcome is awaited for a day; then a person is asked, with the last run's error."""
    runs = ("Failed", "Failed", "Failed")
    waiting = judged(sight(*runs, facts={"executed_at": (NOW - 5 * HOUR).isoformat()}), NOW)
    assert waiting.health is Health.PENDING
    late = judged(sight(*runs, facts={"executed_at": (NOW - 25 * HOUR).isoformat()}), NOW)
    assert late.health is Health.MANUAL
    assert late.guide is not None
    well = judged(sight("Completed", delivered=HOUR, facts={"executed_at": NOW.isoformat()}), NOW)
    assert well.facts == {"executed_at": ""}


def test_runs_are_read_newest_first_and_nonsense_is_no_moment() -> None:
    """Azure's answer may come in any order, with seven decimals, or without runs."""
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
    assert moment("soon") is moment("") is moment(None) is None


def test_permissions_are_read_as_azure_means_them() -> None:
    """Wildcards and exclusions count, case does not."""
    action = "Microsoft.CostManagement/exports/write"
    assert allows({"actions": ["microsoft.costmanagement/*"]}, action)
    assert not allows({"actions": ["*"], "notActions": ["Microsoft.CostManagement/exports/write"]}, action)
    assert not allows({"actions": ["*/read"]}, action)
