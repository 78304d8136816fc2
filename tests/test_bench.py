"""The benchmarks' arithmetic; no test here takes a time."""

from __future__ import annotations

import json
from statistics import StatisticsError

import pytest

from tests.bench.calibration import REFERENCE_S, Timing, calibrated, workload
from tests.bench.measure import Measure, cpu_measure


@pytest.mark.parametrize("slowdown", [0.5, 1.0, 3.9])
def test_slower_machine_does_not_change_calibrated_seconds(slowdown: float) -> None:
    """What slows down the measured code and the workload alike leaves the result as it is."""
    assert calibrated([Timing(0.8 * slowdown, REFERENCE_S * slowdown)]) == pytest.approx(0.8)


def test_slower_code_changes_calibrated_seconds() -> None:
    """Code that takes twice as long beside the same workload does so in the result."""
    once, twice = (calibrated([Timing(cpu_s, 0.2)]) for cpu_s in (0.7, 1.4))
    assert twice == pytest.approx(2 * once)


def test_outlier_does_not_change_calibrated_seconds() -> None:
    """The median counts: one measurement beside a workload that was disturbed more, or less, is ignored."""
    regular = Timing(1.0, REFERENCE_S)
    assert calibrated([regular, Timing(1.0, REFERENCE_S / 4), regular, Timing(9.0, REFERENCE_S), regular]) == 1.0


def test_measurement_without_timings_is_refused() -> None:
    """Without a timing there is no value, rather than a zero that meets every target."""
    with pytest.raises(StatisticsError):
        calibrated([])


def test_line_contains_the_calibrated_value_and_what_was_measured() -> None:
    """The target is compared with calibrated seconds; the CPU seconds of this machine stand beside them."""
    timings = [Timing(2.0 * slowdown, 2 * REFERENCE_S * slowdown) for slowdown in (1.0, 1.5, 2.0)]
    line = json.loads(cpu_measure("gcp.plan.cpu_s", timings, 1, "CPU of a plan").line())
    assert (line["value"], line["unit"], line["target"], line["ok"]) == (1.0, "s", "<= 1", True)
    assert (line["cpu_s"], line["workload_s"]) == (3.0, round(3 * REFERENCE_S, 4))
    assert line["method"].startswith("CPU of a plan; median of 3, ")


def test_measure_without_raw_values_has_none() -> None:
    """Calls, bytes and virtual times are absolute."""
    line = json.loads(Measure("calls", 3, "calls", 2, "counted").line())
    assert line == {"measure": "calls", "value": 3, "unit": "calls", "target": "<= 2", "ok": False, "method": "counted"}


def test_workload_is_the_one_that_the_reference_was_measured_with() -> None:
    """A changed workload takes another time: it needs a new REFERENCE_S, and old values no longer compare with new."""
    assert workload() == "ad89702388ebc21b9ed6561b0d256e62dfcf1ab52a6ce9439da26e8c87bbc541"
