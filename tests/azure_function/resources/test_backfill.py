"""The backfill: each past month is requested once, even after throttling and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from azure_function.clients import drop_clients
from azure_function.resources.backfill import period
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.errors import RequestError
from shared.model import Present, Result
from tests.azure_function.support import DAY, HOUR, action, advance, local_azure, outcome, run

RUN = "Microsoft.CostManagement/exports/*action"


@pytest.fixture
def old() -> Iterator[LocalAzure]:
    """Return a tenant with four covered subscriptions, in which an execution takes ten minutes to deliver."""
    with local_azure(Behavior(run_delay_s=600), subscriptions=4) as cloud:
        run(cloud)
        advance(cloud, HOUR)
        cloud.calls.clear()
        yield cloud
        drop_clients()


def months(cloud: LocalAzure, subscription: str) -> set[str]:
    """Return the months (YYYYMM) with a manifest."""
    prefix = f"tailpipe/subscriptions/{subscription}/"
    with cloud.blob_client() as client:
        names = client.get_container_client("dataexport").list_blob_names(name_starts_with=prefix)
        return {name.split("/")[4][:6] for name in names if name.endswith("manifest.json")}


def test_each_month_is_requested_once_and_done_after_its_delivery(old: LocalAzure) -> None:
    """Three months of four exports are twelve calls, with no repetition before or after the delivery."""
    first = run(old, BACKFILL_MONTHS="3")
    assert first.report["status"] == "ok", first.report["failures"]
    one = old.subscription_ids[0]
    assert outcome(first, one, "backfill").result is Result.PENDING
    assert old.calls.count(RUN) == 12
    assert outcome(run(old, BACKFILL_MONTHS="3"), one, "backfill").result is Result.PENDING
    advance(old, HOUR)
    last = run(old, BACKFILL_MONTHS="3")
    assert outcome(last, one, "backfill").result is Result.UNCHANGED
    assert {"202608", "202609", "202610"} <= months(old, one)
    assert old.calls.count(RUN) == 12


def test_past_months_are_requested_after_the_run_that_creates_the_export(azure: LocalAzure) -> None:
    """New exports come first."""
    first = run(azure, BACKFILL_MONTHS="1")
    assert azure.calls.count(RUN) == 0
    assert first.report["status"] == "ok"
    advance(azure, HOUR)
    run(azure, BACKFILL_MONTHS="1")
    assert azure.calls.count(RUN) == 6


@pytest.mark.parametrize(
    ("budget", "requested"), [("4", [4, 4, 4, 0]), ("5", [5, 5, 2, 0]), ("2", [2, 2, 2, 2, 2, 2, 0])]
)
def test_call_budget_bounds_the_months_of_a_run(old: LocalAzure, budget: str, requested: list[int]) -> None:
    """Later runs request the other months, even if the budget is smaller than the months of one export."""
    asked = []
    for _ in requested:
        old.calls.clear()
        assert run(old, BACKFILL_MONTHS="3", CALL_BUDGET=budget).report["status"] == "ok"
        asked.append(old.calls.count(RUN))
        advance(old, HOUR)
    assert asked == requested
    assert all({"202608", "202609", "202610"} <= months(old, one) for one in old.subscription_ids)


def test_accepted_months_are_not_requested_again_after_an_error(old: LocalAzure) -> None:
    """Each accepted month is recorded immediately, so the next run continues with the rejected ones."""
    one = old.subscription_ids[0]
    refused = {"left": 2}

    def third(attempt: object) -> bool:
        refused["left"] -= 1
        return refused["left"] < 0

    old.faults.add(RUN, "BadRequest", "not now", status=400, times=1, resource=f"*{one}*", when=third)
    finished = run(old, [one], BACKFILL_MONTHS="4")
    assert "2 months requested" in outcome(finished, one, "backfill").message
    old.clear_faults()
    old.calls.clear()
    run(old, [one], BACKFILL_MONTHS="4")
    assert old.calls.count(RUN) == 2


def test_month_without_data_is_abandoned_after_three_attempts(old: LocalAzure) -> None:
    """Months before the first cost of a subscription are never delivered."""
    one = old.subscription_ids[0]
    old.fail_runs(one, times=50, status="DataNotAvailable")
    old.calls.clear()
    for _ in range(4):
        run(old, [one], BACKFILL_MONTHS="1")
        advance(old, DAY + HOUR)
    finished = run(old, [one], BACKFILL_MONTHS="1")
    assert old.calls.count(RUN) == 3
    assert outcome(finished, one, "backfill").result is Result.UNCHANGED
    assert "no data for 202610" in str(action(finished, one, "backfill").observation)


def test_backfill_of_a_deleted_export_waits_for_its_recreation(old: LocalAzure) -> None:
    """Its months follow in a later run."""
    one = old.subscription_ids[0]
    old.delete_export(one)
    finished = run(old, [one], BACKFILL_MONTHS="2")
    assert outcome(finished, one).result is Result.DONE
    assert finished.report["scopes"]["failed"] == 0


@pytest.mark.parametrize(
    ("month", "first", "last"),
    [
        ("202602", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"),
        ("202402", "2024-02-01T00:00:00Z", "2024-02-29T00:00:00Z"),
        ("202512", "2025-12-01T00:00:00Z", "2025-12-31T00:00:00Z"),
    ],
)
def test_period_is_one_calendar_month(month: str, first: str, last: str) -> None:
    """Azure accepts at most one calendar month per execution."""
    assert period(month) == {"from": first, "to": last}


def test_months_of_a_request_override_the_setting(old: LocalAzure) -> None:
    """Each is executed once, and delivered afterwards."""
    one = old.subscription_ids[0]
    planned = run(old, [one], months=["2025-12", "2026-02"], dry_run=True, BACKFILL_MONTHS="0")
    assert (outcome(planned, one, "backfill").result, old.calls.count(RUN)) == (Result.PLANNED, 0)
    for _ in range(2):
        asked = run(old, [one], months=["2025-12", "2026-02"], BACKFILL_MONTHS="0")
        assert outcome(asked, one, "backfill").result is Result.PENDING
    assert old.calls.count(RUN) == 2
    advance(old, HOUR)
    done = run(old, [one], months=["2025-12", "2026-02"], BACKFILL_MONTHS="0")
    assert outcome(done, one, "backfill").result is Result.UNCHANGED
    assert {"202512", "202602"} <= months(old, one)


@pytest.mark.parametrize("month", ["2026-11", "2027-01", "2019-09"])
def test_month_that_azure_cannot_deliver_is_rejected_before_any_call(old: LocalAzure, month: str) -> None:
    """The current month, a future one, and one more than seven years ago."""
    with pytest.raises(RequestError, match=month):
        run(old, months=[month])
    assert not old.calls.count("*")


def test_month_that_leaves_azures_reach_is_said_with_its_last_day(old: LocalAzure) -> None:
    """Azure delivers seven years back: a wanted month that waits for the call budget meanwhile has an end."""
    one = old.subscription_ids[0]

    def seen() -> Present:
        found = outcome(run(old, [one], dry_run=True, BACKFILL_MONTHS="84", CALL_BUDGET="5"), one, "backfill")
        assert isinstance(found.action.observation, Present)
        return found.action.observation

    assert seen().ends == datetime(2026, 12, 1, tzinfo=UTC)
    assert seen().detail == "5 of 84 months to request; 2019-11 can be requested before 2026-12-01 only"
    asked = outcome(run(old, [one], months=["2019-11"]), one, "backfill")
    assert isinstance(asked.action.observation, Present)
    assert (asked.result, asked.action.observation.ends) == (Result.PENDING, None)
    assert seen().ends is None  # it was requested, and has not arrived yet
