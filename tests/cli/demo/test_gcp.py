"""The GCP demonstration: it verifies what it shows, and detects failures."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import clouds
from cli.demo.gcp import Cast, Damage, GcpScenario
from cli.demo.gcp_environment import GcpEnvironment
from cli.main import main
from tests.cli.terminal.test_render import CONTROL


class Forgetful(GcpScenario):
    """A scenario whose repairing run is a dry run, and that ends after it."""

    def healing_request(self) -> Mapping[str, Any]:
        """Return the body of the call that should repair."""
        return {"dry_run": True}

    def close_by_itself(self, environment: GcpEnvironment, cast: Cast, damage: Damage) -> None:
        """Skip what depends on the repair."""

    def look_again(self, environment: GcpEnvironment) -> None:
        """Skip what depends on the repair."""


class Mistaken(GcpScenario):
    """A scenario whose first call is refused by the function."""

    def begin(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Send a request with an unknown key."""
        with environment.runner.step("First run", "it is refused") as step:
            environment.invoke(step, {"dryrun": True})


def play(monkeypatch: pytest.MonkeyPatch, scenario: Any, *arguments: str) -> Any:
    """Play a scenario instead of GCP's and return click's result."""
    monkeypatch.setitem(clouds.CLOUDS, "gcp", replace(clouds.CLOUDS["gcp"], scenario=scenario))
    return CliRunner().invoke(main, ["demo", "gcp", *arguments])


@pytest.mark.slow
def test_every_expectation_of_the_scenario_is_met(tmp_path: Path) -> None:
    """Each is shown with a mark and written to the file; the manual step has its link."""
    file = tmp_path / "demo.json"
    result = CliRunner().invoke(main, ["demo", "gcp", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    assert re.search(r"all \d+ expectations met", result.output)
    assert re.search(r"https://console\.cloud\.google\.com/billing/[0-9A-F-]{20}/export", result.output)
    assert not CONTROL.search(result.output)
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["gcp"]["ok"] is True
    steps = document["gcp"]["steps"]
    names = ["First run", "Second run", "Third run", "Fourth run", "Fifth run", "An event", "A plan"]
    assert [step["name"] for step in steps] == names
    for step in steps:
        assert step["report"]["cloud"] == "gcp"
        assert step["checks"]
        assert all(check["ok"] for check in step["checks"])
    assert steps[1]["report"]["outcomes"].keys().isdisjoint({"CREATE", "REPAIR", "ADOPT"})


@pytest.mark.slow
def test_demo_without_a_repair_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The live cloud shows each unmet expectation by name."""
    file = tmp_path / "demo.json"
    result = play(monkeypatch, Forgetful, "--scopes", "4", "--json", str(file))
    assert result.exit_code == 1
    healing = json.loads(file.read_text(encoding="utf-8"))["gcp"]["steps"][3]
    unmet = {check["what"] for check in healing["checks"] if not check["ok"]}
    assert unmet == {
        "each copy took one extract job",
        "one delivery event says what changed in that partition",
        "the partition that changed was copied again",
        "the deleted copy is back",
        "every partition has its copy, each row once",
    }
    for what in unmet:
        assert re.search(f"✗ +{re.escape(what)}", result.output)


def test_refused_call_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is the detail of a failed check."""
    result = play(monkeypatch, Mistaken, "--scopes", "4")
    assert result.exit_code == 1
    assert re.search(r"✗ +the function returns a report +HTTP 400.*dryrun", result.output)
    assert "Second run" not in result.output
