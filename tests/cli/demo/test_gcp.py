"""The GCP demonstration: that it proves what it shows, and that it cannot be fooled."""

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
        """Return the body of the call that ought to heal."""
        return {"dry_run": True}

    def close_by_itself(self, environment: GcpEnvironment, cast: Cast, damage: Damage) -> None:
        """Leave out what rests on healing."""

    def look_again(self, environment: GcpEnvironment) -> None:
        """Leave it out too."""


class Mistaken(GcpScenario):
    """A scenario whose first call is one that the function refuses."""

    def begin(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Send a request with a key that the function does not know."""
        with environment.runner.step("First run", "it is refused") as step:
            environment.invoke(step, {"dryrun": True})


def play(monkeypatch: pytest.MonkeyPatch, scenario: Any, *arguments: str) -> Any:
    """Play a scenario in the place of GCP's and return click's result."""
    monkeypatch.setitem(clouds.CLOUDS, "gcp", replace(clouds.CLOUDS["gcp"], scenario=scenario))
    return CliRunner().invoke(main, ["demo", "gcp", *arguments])


@pytest.mark.slow
def test_every_expectation_of_the_scenario_is_met(tmp_path: Path) -> None:
    """Every expectation is met, shown with a mark, and written to the file; the manual step is shown with its link."""
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
    names = ["First run", "Second run", "Third run", "Fourth run", "Fifth run", "A plan"]
    assert [step["name"] for step in steps] == names
    for step in steps:
        assert step["report"]["cloud"] == "gcp"
        assert step["checks"]
        assert all(check["ok"] for check in step["checks"])
    assert steps[1]["report"]["outcomes"].keys().isdisjoint({"CREATE", "REPAIR", "ADOPT"})


def test_what_is_not_healed_ends_the_demo_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the healing run does not heal, the live cloud gives it away, each unmet expectation by its name."""
    file = tmp_path / "demo.json"
    result = play(monkeypatch, Forgetful, "--scopes", "4", "--json", str(file))
    assert result.exit_code == 1
    healing = json.loads(file.read_text(encoding="utf-8"))["gcp"]["steps"][3]
    unmet = {check["what"] for check in healing["checks"] if not check["ok"]}
    assert unmet == {
        "each copy took one extract job",
        "the partition that moved was copied again",
        "the deleted copy is back",
        "every partition has its copy, each row once",
    }
    for what in unmet:
        assert re.search(f"✗ +{re.escape(what)}", result.output)


def test_a_call_without_a_report_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the function refuses, its answer is the detail of a failed check, and the scenario ends there."""
    result = play(monkeypatch, Mistaken, "--scopes", "4")
    assert result.exit_code == 1
    assert re.search(r"✗ +the function answers with a report +HTTP 400.*dryrun", result.output)
    assert "Second run" not in result.output
