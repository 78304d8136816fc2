"""The benchmarks' arithmetic and their page; no test here measures time."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from statistics import StatisticsError

import pytest

from tests.bench import performance
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


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep measurements and write the page in an empty folder."""
    monkeypatch.setattr(performance, "KEPT", tmp_path / "measures.json")
    monkeypatch.setattr(performance, "PAGE", tmp_path / "performance.md")
    return tmp_path


def test_page_shows_the_kept_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    """A changed measurement, meaning or price fails this test; `make bench` rewrites the page."""
    assert performance.main(["--check"]) == 0, capsys.readouterr().err


def test_check_detects_a_stale_page(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The check exits with 1 if the page is missing or outdated; writing it corrects that."""
    assert performance.main(["--check"]) == 1
    assert "make bench" in capsys.readouterr().err
    assert performance.main([]) == 0
    assert performance.main(["--check"]) == 0


def test_every_kept_measurement_has_a_meaning() -> None:
    """A new measure is explained; the tables by size and side by side explain theirs."""
    kept = json.loads(performance.KEPT.read_text(encoding="utf-8"))
    names = {one["measure"] for name, suite in kept.items() if name != "peers" for one in suite["measures"]}
    assert {name for name in names if not name.startswith("engine.run_")} <= performance.MEANINGS.keys()


def test_page_shows_value_target_and_origin(elsewhere: Path) -> None:
    """A missed target is marked; the page names the commit, Python and the cores, and no host."""
    limits: dict[str, list[tuple[str, float, float | None]]] = {
        "monitor": [("page.10k_mb", 1.5641, 2), ("status.10k_s", 1.25, 1)],
        "setup": [("setup.mb_demo", 301.5, None)],
    }
    for suite, found in limits.items():
        performance.record(suite, [Measure(name, value, "MB", limit, "how") for name, value, limit in found])
    lines = (elsewhere / "performance.md").read_text(encoding="utf-8").splitlines()
    rows = {line.split("`")[1]: line.split(" | ")[1:4] for line in lines if line.startswith("| `")}
    assert rows == {
        "page.10k_mb": ["1.56 MB", "≤ 2 MB", "yes"],
        "status.10k_s": ["1.25 MB", "≤ 1 MB", "**no**"],
        "setup.mb_demo": ["302 MB", "", ""],
    }
    (origin, _) = [line for line in lines if line.startswith("Commit `")]
    assert f"Python {platform.python_version()}, " in origin
    assert performance.origin().keys() == {"commit", "python", "machine", "day"}


def test_suite_replaces_its_own_measurements_only(elsewhere: Path) -> None:
    """`make bench ARGS=monitor` keeps what other suites measured."""
    for suite, value in (("monitor", 1), ("setup", 2), ("monitor", 3)):
        performance.record(suite, [Measure(f"{suite}.value", value, "MB", None, "how")])
    kept = json.loads((elsewhere / "measures.json").read_text(encoding="utf-8"))
    values = {suite: [one["value"] for one in ran["measures"]] for suite, ran in kept.items()}
    assert values == {"monitor": [3], "setup": [2]}
