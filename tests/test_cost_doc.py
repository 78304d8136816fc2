"""docs/cost.md prices what was counted, and says how."""

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
    """Return what was counted."""
    found: dict[str, dict[str, dict[str, object]]] = json.loads(cost.COUNTS.read_text(encoding="utf-8"))
    return found


def test_the_page_is_what_was_counted_and_priced(capsys: pytest.CaptureFixture[str]) -> None:
    """A price, a default of a module or a number of alarms that changed shows: `make cost` writes the page anew."""
    assert cost.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check ends with 1 where the page is missing or another; writing mends it."""
    monkeypatch.setattr(cost, "PAGE", tmp_path / "cost.md")
    assert cost.main(["--check"]) == 1
    assert "make cost" in capsys.readouterr().err
    assert cost.main([]) == 0
    assert cost.main(["--check"]) == 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_size_was_counted_in_a_run_that_was_ok(cloud: str) -> None:
    """Figures of runs that did not serve all scopes would mean nothing."""
    found = counts()[cloud]
    assert sorted(map(int, found)) == sorted(cost.COUNTED[cloud])
    for size, run in found.items():
        assert (run["status"], run["active"]) == ("ok", int(size))


def test_a_run_takes_its_cpu_and_its_calls_or_the_wait_for_a_quota() -> None:
    """Ten calls one after another, and the CPU; where a quota makes it wait longer, that."""
    assert cost.seconds(RUN) == 1.0 + 10 * cost.LATENCY_S
    assert cost.seconds({**RUN, "waited_s": 300.0}) == 300.0


def test_a_size_that_was_not_counted_is_carried_on_in_proportion() -> None:
    """From the two largest that were: calls of each kind, bytes and seconds; a size that was counted stays as it is."""
    smaller = {**RUN, "calls": {"s3": 2}, "log_bytes": 50}
    found = cost.at({"gcp": {"10": smaller, "20": RUN}}, "gcp", 40)
    assert (found["calls"], found["log_bytes"], found["status"]) == ({"s3": 8.0, "organizations": 18.0}, 200.0, "ok")
    assert cost.at({"gcp": {"10": smaller, "20": RUN}}, "gcp", 20) == RUN


def test_a_months_amounts_follow_from_a_run_and_the_modules_defaults(repository: Path) -> None:
    """730 runs at the module's memory, its alarms, the reports of 90 days, and what it counts beside."""
    module = modules.read(repository / "infra" / "aws")
    found = prices.amounts("aws", cost.run_of(RUN), cost.deployment_of(RUN, module), prices.MONTH_H)
    assert found["compute"] == pytest.approx(cost.seconds(RUN) * 730 / 2)
    assert (found["runs"], found["log"], found["metrics"], found["storage calls"]) == (730, 73_000, 3, 4 * 730)
    assert found["alarms"] == len(module.locals["alarms"])
    assert found["stored"] == pytest.approx(10 + 20 * 90 * 24, rel=0.001)


def test_the_status_page_assumes_the_modules_defaults(repository: Path) -> None:
    """Memory, alarms and metrics that it prices are those of the modules and of a run."""
    published = len(metrics_of(Setting(1).run().report, 0, START, START, timedelta(hours=1)))
    for cloud in CLOUDS:
        module = modules.read(repository / "infra" / cloud)
        metrics = published if cloud == "aws" else 0
        assert prices.DEPLOYMENTS[cloud] == cost.deployment_of({"metrics": metrics}, module)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_price_says_its_unit_and_source(cloud: str) -> None:
    """A reader can look each price up again; the page says when it was, and what is not counted."""
    for name, price in prices.PRICES[cloud].items():
        assert price.each > 0, name
        assert price.unit, name
        assert " pricing" in price.source, name
    text = cost.page(counts())
    assert prices.LOOKED_UP in text
    assert "**Not counted**" in text


@pytest.mark.slow
@pytest.mark.parametrize(("cloud", "scopes"), [("aws", 3), ("azure", 3), ("gcp", 2)])
def test_a_run_is_counted_against_the_local_cloud(cloud: str, scopes: int) -> None:
    """Calls, log, report and memory of a steady run are counted on each cloud."""
    found = cost.COUNTERS[cloud](scopes)
    assert (found["status"], found["active"]) == ("ok", scopes)
    assert min(sum(found["calls"].values()), found["log_bytes"], found["state_bytes"], found["report_bytes"]) > 0
    assert any(found["calls"].get(name) for name in prices.STORAGE_CALLS[cloud])
    assert (found["metrics"] > 0) == (cloud == "aws")
