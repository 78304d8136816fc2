"""What a deployment costs is estimated from the counted runs in the state's history, at dated list prices."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.monitor import cost
from shared.monitor.overview import overview, page_data
from shared.state.document import RunNote
from tests.shared.monitor.test_overview import NOW, document, scope

CALLS = {"s3": 4, "organizations": 6}


def notes(count: int, hours: float = 1.0, calls: dict[str, int] = CALLS) -> list[RunNote]:
    """Return the notes of runs so many hours apart."""
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


def test_a_month_is_the_average_run_at_the_present_rhythm() -> None:
    """Hourly runs are 730 a month; each item is its amount times its price, and the sum is theirs."""
    found = cost.estimate("aws", notes(4), 5_000)
    assert found is not None
    assert (found["runs"], found["counted"], found["prices"]) == (730, 4, cost.LOOKED_UP)
    run = cost.Run(10.5, {"s3": 4, "organizations": 6}, 2_000, 1_000, 5_000)
    expected = cost.costs("aws", run, cost.DEPLOYMENTS["aws"], 730)
    assert {name: usd for name, usd, _ in found["items"]} == {name: round(usd, 2) for name, usd in expected.items()}
    assert found["usd"] == round(sum(expected.values()), 2) > 1
    assert expected["storage calls"] == pytest.approx(4 * 730 * 0.005 / 1000)
    assert {name: price for name, _, price in found["items"]}["runs"] == "$0.20 per million invocations"


def test_fewer_runs_cost_less() -> None:
    """A daily schedule has 30 runs a month."""
    found = cost.estimate("gcp", notes(3, hours=24), 0)
    assert found is not None
    assert found["runs"] == 30


@pytest.mark.parametrize(
    "known",
    [[], notes(1), notes(3, calls={}), notes(3, hours=0)],
    ids=["no run", "one run", "notes of an older version", "runs of one moment"],
)
def test_nothing_is_made_up(known: list[RunNote]) -> None:
    """Without two runs that were counted there is no estimate; so too for a cloud without prices."""
    assert cost.estimate("aws", known, 0) is None
    assert cost.estimate("memory", notes(3), 0) is None


def test_the_page_has_the_costs_and_the_lag_of_each_run() -> None:
    """Both come from the state alone."""
    made = document(a=scope())
    made.cloud, made.runs = "azure", notes(3)
    data = page_data(overview(made, [], NOW), made, "Azure", "subscriptions")
    assert data["cost"]["counted"] == 3
    assert [run["freshness_lag_h"] for run in data["runs"]] == [None] * 3
