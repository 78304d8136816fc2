"""docs/cost.md shows the counted calls, priced, and how they were counted."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from shared.metrics import metrics_of
from shared.monitor import cost as prices
from tests.bench import cost
from tests.shared.builders import START
from tests.shared.setting import Setting
from tools import modules

CLOUDS = tuple(cost.TITLES)
RUN = {
    "cpu_s": 1.0,
    "waited_s": 0.0,
    "calls": {"s3": 4, "organizations": 6},
    "log_bytes": 100,
    "log_lines": 2,
    "metrics": 3,
    "state_bytes": 10,
    "report_bytes": 20,
    "status": "ok",
    "active": 100,
}


def counts() -> dict[str, dict[str, dict[str, object]]]:
    """Return the stored counts."""
    found: dict[str, dict[str, dict[str, object]]] = json.loads(cost.COUNTS.read_text(encoding="utf-8"))
    return found


def test_page_matches_the_counts_and_prices(capsys: pytest.CaptureFixture[str]) -> None:
    """A changed price, module default or number of alarms fails this test; `make cost` rewrites the page."""
    assert cost.main(["--check"]) == 0, capsys.readouterr().err


def test_check_detects_a_stale_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check exits with 1 if the page is missing or outdated; writing it corrects that."""
    monkeypatch.setattr(cost, "PAGE", tmp_path / "cost.md")
    assert cost.main(["--check"]) == 1
    assert "make cost" in capsys.readouterr().err
    assert cost.main([]) == 0
    assert cost.main(["--check"]) == 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_counts_come_from_successful_runs(cloud: str) -> None:
    """Counts of a run that does not serve all scopes are meaningless."""
    found = counts()[cloud]
    assert sorted(map(int, found)) == sorted(cost.COUNTED[cloud])
    for size, run in found.items():
        assert (run["status"], run["active"]) == ("ok", int(size))


def test_duration_is_cpu_and_calls_or_the_wait_for_a_quota() -> None:
    """Ten sequential calls and the CPU time; if the wait for a quota is longer, that wait."""
    assert cost.seconds(RUN) == 1.0 + 10 * cost.LATENCY_S
    assert cost.seconds({**RUN, "waited_s": 300.0}) == 300.0


def test_uncounted_size_is_extrapolated() -> None:
    """The two largest counted sizes give calls, bytes and seconds; a counted size is unchanged."""
    smaller = {**RUN, "calls": {"s3": 2}, "log_bytes": 50}
    found = cost.at({"gcp": {"10": smaller, "20": RUN}}, "gcp", 40)
    assert (found["calls"], found["log_bytes"], found["status"]) == ({"s3": 8.0, "organizations": 18.0}, 200.0, "ok")
    assert cost.at({"gcp": {"10": smaller, "20": RUN}}, "gcp", 20) == RUN


def test_monthly_amounts_follow_from_one_run_and_the_module_defaults(repository: Path) -> None:
    """730 runs at the module's memory, its alarms, 90 days of reports, and the other resources."""
    module = modules.read(repository / "infra" / "aws")
    found = prices.amounts("aws", cost.run_of(RUN), cost.deployment_of(RUN, module), prices.MONTH_H)
    assert found["compute"] == pytest.approx(cost.seconds(RUN) * 730 / 2)
    assert (found["runs"], found["log"], found["metrics"], found["storage calls"]) == (730, 73_000, 3, 4 * 730)
    assert found["alarms"] == len(module.locals["alarms"])
    assert found["stored"] == pytest.approx(10 + 20 * 90 * 24, rel=0.001)


def test_status_page_uses_the_module_defaults(repository: Path) -> None:
    """The prices on the page use the memory, alarms and metrics of the modules."""
    published = len(metrics_of(Setting(1).run().report, 0, START, START, timedelta(hours=1)))
    for cloud in CLOUDS:
        module = modules.read(repository / "infra" / cloud)
        metrics = published if cloud == "aws" else 0
        assert prices.DEPLOYMENTS[cloud] == cost.deployment_of({"metrics": metrics}, module)


def test_counts_have_the_number_of_metrics_that_a_run_publishes() -> None:
    """A changed number of metrics fails this test; `make cost` updates the counts."""
    published = len(metrics_of(Setting(1).run().report, 0, START, START, timedelta(hours=1)))
    assert {size: run["metrics"] for size, run in counts()["aws"].items()} == dict.fromkeys(counts()["aws"], published)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_price_has_a_unit_and_a_source(cloud: str) -> None:
    """The page also has the date of the prices, and what is not included."""
    for name, price in prices.PRICES[cloud].items():
        assert price.each > 0, name
        assert price.unit, name
        assert " pricing" in price.source, name
    text = cost.page(counts())
    assert prices.LOOKED_UP in text
    assert "**Not counted**" in text


@pytest.mark.slow
@pytest.mark.parametrize(("cloud", "scopes"), [("aws", 3), ("azure", 3), ("gcp", 2)])
def test_run_is_counted_against_the_local_cloud(cloud: str, scopes: int) -> None:
    """The counts are calls, log, report and memory of a steady run."""
    found = cost.COUNTERS[cloud](scopes)
    assert (found["status"], found["active"]) == ("ok", scopes)
    assert min(sum(found["calls"].values()), found["log_bytes"], found["state_bytes"], found["report_bytes"]) > 0
    assert any(found["calls"].get(name) for name in prices.STORAGE_CALLS[cloud])
    assert (found["metrics"] > 0) == (cloud == "aws")
