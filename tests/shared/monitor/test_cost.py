"""The estimated cost of a deployment: the counted runs of the state's history, at dated list prices."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.monitor import cost
from shared.monitor.overview import overview, page_data
from shared.state.document import RunNote
from tests.shared.monitor.test_overview import NOW, document, scope

CALLS = {"s3": 4, "organizations": 6}


def notes(count: int, hours: float = 1.0, calls: dict[str, int] = CALLS) -> list[RunNote]:
    """Return the records of runs a number of hours apart."""
    return [
        RunNote(
            f"run-{number}",
            NOW - timedelta(hours=hours * number),
            "ok",
            duration_s=10.0 + number % 2,
            calls=calls,
            log_bytes=2_000,
            report_bytes=1_000,
        )
        for number in range(count)
    ]


def test_month_is_the_average_run_at_the_current_schedule() -> None:
    """Hourly runs are 730 a month; each item is amount times price, and the total is their sum."""
    found = cost.estimate("aws", notes(4), 5_000)
    assert found is not None
    assert (found["runs"], found["counted"], found["prices"]) == (730, 4, cost.LOOKED_UP)
    run = cost.Run(10.5, {"s3": 4, "organizations": 6}, 2_000, 1_000, 5_000)
    expected = cost.costs("aws", run, cost.DEPLOYMENTS["aws"], 730)
    assert {name: usd for name, usd, _ in found["items"]} == {name: round(usd, 2) for name, usd in expected.items()}
    assert found["usd"] == round(sum(expected.values()), 2) > 1
    assert expected["storage calls"] == pytest.approx(4 * 730 * 0.005 / 1000)
    assert {name: price for name, _, price in found["items"]}["runs"] == "$0.20 per million invocations"


def test_daily_schedule_has_thirty_runs_a_month() -> None:
    """Fewer runs cost less."""
    found = cost.estimate("gcp", notes(3, hours=24), 0)
    assert found is not None
    assert found["runs"] == 30


@pytest.mark.parametrize(
    "known",
    [[], notes(1), notes(3, calls={}), notes(3, hours=0)],
    ids=["no run", "one run", "notes of an older version", "runs of one moment"],
)
def test_estimate_needs_two_counted_runs_and_prices(known: list[RunNote]) -> None:
    """Otherwise there is no estimate."""
    assert cost.estimate("aws", known, 0) is None
    assert cost.estimate("memory", notes(3), 0) is None


def test_page_has_cost_and_lag_of_each_run() -> None:
    """Both come from the state alone."""
    made = document(a=scope())
    made.cloud, made.runs = "azure", notes(3)
    data = page_data(overview(made, [], NOW), made, "Azure", "subscriptions")
    assert data["cost"]["counted"] == 3
    assert [run["freshness_lag_h"] for run in data["runs"]] == [None] * 3
