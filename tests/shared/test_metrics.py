"""The metrics of a run: one list for all clouds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from shared.metrics import CALLS_BY_QUOTA, FRESHNESS, Unit, log_metrics, metrics_of
from shared.state.document import ScopeRecord, fresh
from shared.state.summary import freshness_lag
from shared.target_state import TargetState
from tests.shared.builders import HOUR, START
from tests.shared.setting import Setting

COUNTS = [
    "covered",
    "pending",
    "deferred",
    "manual",
    "failed",
    "excluded",
    "missing",
    "newly_excluded",
    "delivering",
    "awaiting_first_data",
    "deliveries_new",
    "deliveries_late",
    "deliveries_missing",
    "calls",
    "deliveries_unannounced",
    "messages_unsent",
    "degraded",
]


def test_run_has_counts_and_durations() -> None:
    """Scopes by class, data, calls and status are counts; durations are in seconds."""
    result = Setting(3).run()
    found = {one.name: one for one in result.metrics}
    assert [name for name, one in found.items() if one.unit is Unit.COUNT] == COUNTS
    assert [name for name, one in found.items() if one.unit is Unit.SECONDS] == [
        "duration",
        "seconds_since_last_success",
    ]
    assert (found["covered"].value, found["missing"].value, found["degraded"].value) == (4, 0, 0)
    assert found["calls"].value == sum(result.report["calls"].values())


def test_dry_run_has_no_metrics() -> None:
    """No alarm counts it, and no metrics are logged."""
    lines: list[str] = []
    result = Setting(3).run(dry_run=True)
    log_metrics(lambda _level, event, _fields: lines.append(event), result.report, result.metrics)
    assert (result.metrics, lines) == ((), [])


@pytest.mark.parametrize(("since", "seconds"), [(HOUR, 3600.0), (-HOUR, 0.0)])
def test_age_of_the_last_success_is_not_negative(since: Any, seconds: float) -> None:
    """Another host's clock may be ahead; without a successful run the metric is absent."""
    report = Setting(1).run().report
    ages = {one.name: one.value for one in metrics_of(report, 0, START - since, START)}
    assert ages["seconds_since_last_success"] == seconds
    assert "seconds_since_last_success" not in {one.name for one in metrics_of(report, 0, None, START)}


def test_freshness_lag_is_that_of_the_latest_scope() -> None:
    """The lag is in hours since each scope's newest delivery; departed scopes and those without data do not count."""
    document = fresh("aws")
    for name, (state, hours) in {
        "a": ("active", (30, 2)),
        "b": ("active", (5.5, None)),
        "c": ("active", (None,)),
        "d": ("suspended", (900,)),
    }.items():
        targets = {
            str(number): TargetState(at=START, delivered_at=None if age is None else START - age * HOUR)
            for number, age in enumerate(hours)
        }
        document.scopes[name] = ScopeRecord(at=START, state=state, targets=targets)
    lag = freshness_lag(document, START)
    assert lag == 5.5 * HOUR
    report = Setting(1).run().report
    assert {one.name: (one.value, one.unit) for one in metrics_of(report, 0, None, START, lag)}[FRESHNESS] == (
        5.5,
        Unit.HOURS,
    )
    assert freshness_lag(fresh("aws"), START) is None
    assert freshness_lag(document, START - 100 * HOUR) == timedelta(0)


def test_log_line_has_the_run_and_every_metric() -> None:
    """Log-based metrics filter by these names."""
    lines: list[tuple[str, str, Mapping[str, Any]]] = []
    result = Setting(1).run()
    log_metrics(lambda *line: lines.append(line), result.report, result.metrics)
    ((level, event, fields),) = lines
    assert (level, event, fields["status"], fields["cloud"]) == ("info", "figures", "ok", "memory")
    assert {one.name: one.value for one in result.metrics}.items() <= fields.items()
    assert fields[CALLS_BY_QUOTA] == result.report["calls"]
