"""The demonstration: it verifies what it shows, and detects failures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from packaging.utils import canonicalize_name

from cli import clouds
from cli.demo.aws import AwsScenario
from cli.demo.runner import Runner
from cli.main import main
from localcloud import Unavailable
from tests.cli.terminal.test_render import CONTROL


class Forgetful(AwsScenario):
    """A scenario whose repairing run is a dry run, so that nothing is repaired."""

    def healing_request(self) -> Mapping[str, Any]:
        """Return the event of the run that should repair."""
        return {"dry_run": True}


class Mistaken(AwsScenario):
    """A scenario that sends a request which the function refuses."""

    def healing_request(self) -> Mapping[str, Any]:
        """Return an event with an unknown key."""
        return {"dryrun": True}


class Silent:
    """A scenario without checks."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Start a step without an expectation."""
        with runner.step("Nothing", "nothing is expected"):
            pass


class Torn:
    """A scenario whose local cloud fails."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Start a step in which the cloud fails."""
        with runner.step("Before", "this one is well") as step:
            step.check("it is well", ok=True)
        with runner.step("Lost", "this one is not"):
            raise ConnectionError("the local cloud is gone")


class Missing:
    """A scenario whose local cloud needs a missing program."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Start a step in which the program is found to be missing."""
        with runner.step("First", "the cloud is started"):
            raise Unavailable("Node.js was not found. Install it.")


class Good:
    """A scenario that meets its only expectation."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Meet the expectation."""
        with runner.step("Only", "all is well") as step:
            step.check("it is well", ok=True)


def play(monkeypatch: pytest.MonkeyPatch, scenario: Any, *arguments: str) -> Any:
    """Play a scenario instead of AWS's and return click's result."""
    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], scenario=scenario))
    return CliRunner().invoke(main, ["demo", *arguments])


def test_every_expectation_of_the_scenario_is_met(tmp_path: Path) -> None:
    """Each is shown with a mark and written to the file with its report."""
    file = tmp_path / "demo.json"
    result = CliRunner().invoke(main, ["demo", "aws", "--scopes", "6", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    assert re.search(r"all \d+ expectations met", result.output)
    assert not CONTROL.search(result.output)
    document = json.loads(file.read_text(encoding="utf-8"))
    assert document["aws"]["ok"] is True
    steps = document["aws"]["steps"]
    runs = ["First run", "Second run", "Third run", "Fourth run", "Fifth run", "Sixth run", "An event", "A plan"]
    assert [step["name"] for step in steps] == [*runs[:-1], "A delivery", runs[-1]]
    silent, refused = steps[3]["report"], steps[4]["report"]
    assert [one["code"] for one in silent["manual"]] == ["nothing-delivered"]
    assert silent["scopes"]["covered"] == refused["scopes"]["covered"] == 0
    assert [one["reason"] for one in refused["excluded"]] == ["no-such-table"]
    for step in steps:
        assert step.keys() == {"name", "report", "checks", "duration_s"}
        # A delivery is announced without a run.
        assert step["report"] is None if step["name"] == "A delivery" else step["report"]["cloud"] == "aws"
        assert step["checks"]
        assert all(check.keys() == {"what", "ok", "detail"} and check["ok"] for check in step["checks"])
        assert step["duration_s"] > 0
    assert steps[1]["report"]["outcomes"].keys().isdisjoint({"CREATE", "REPAIR", "ADOPT"})
    shown = CliRunner().invoke(main, ["status", "aws", "--demo", "--all"])
    assert shown.exit_code == 0, shown.output
    assert "AWS · demonstration  6 of 6 covered." in shown.stdout
    listed = shown.stdout.partition("last runs")[2]
    assert re.findall(r"(\d) of \d covered", listed) == ["1", "6", "1", "0", "0", "5", "6", "1"]
    assert "1 manual step opened (nothing-delivered)" in listed
    assert re.search(r"^/.*/status\.html$", result.stdout, re.MULTILINE)


def test_demo_without_a_repair_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The live cloud shows each unmet expectation by name."""
    file = tmp_path / "demo.json"
    result = play(monkeypatch, Forgetful, "aws", "--scopes", "4", "--json", str(file))
    assert result.exit_code == 1
    healing = json.loads(file.read_text(encoding="utf-8"))["aws"]["steps"][2]
    unmet = {check["what"] for check in healing["checks"] if not check["ok"]}
    assert {"the export exists again", "the statement is back", "the failed account's role is back"} <= unmet
    for what in unmet:
        assert re.search(f"✗ +{re.escape(what)}", result.output)


def test_failed_run_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's message is the detail of a failed check."""
    result = play(monkeypatch, Mistaken, "aws", "--scopes", "4")
    assert result.exit_code == 1
    assert re.search(r"✗ +the function returns a report .*dryrun", result.output)
    assert "A plan" not in result.output


def test_scenario_that_fails_exits_with_1_and_a_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A failed local cloud is an unmet expectation, and the file has the previous steps."""
    file = tmp_path / "demo.json"
    result = play(monkeypatch, Torn, "aws", "--json", str(file))
    assert result.exit_code == 1
    assert "ConnectionError: the local cloud is gone" in result.output
    before, lost = json.loads(file.read_text(encoding="utf-8"))["aws"]["steps"]
    assert [check["ok"] for check in before["checks"]] == [True]
    assert [check["ok"] for check in lost["checks"]] == [False]


def test_scenario_without_expectations_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step without a check is not a success."""
    assert play(monkeypatch, Silent, "aws").exit_code == 1


def test_demo_without_a_name_plays_every_cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each scenario has its default number of scopes, or the requested one."""
    told: list[int] = []

    class Brief:
        """A scenario that only notes how many scopes it was given."""

        def run(self, runner: Runner, scopes: int) -> None:
            """Meet the one expectation."""
            told.append(scopes)
            with runner.step("Brief", "nothing happens") as step:
                step.check("it is well", ok=True)

    for name, cloud in clouds.CLOUDS.items():
        monkeypatch.setitem(clouds.CLOUDS, name, replace(cloud, scenario=Brief))
    file = tmp_path / "demo.json"
    assert CliRunner().invoke(main, ["demo", "--json", str(file)]).exit_code == 0
    assert json.loads(file.read_text(encoding="utf-8")).keys() == clouds.CLOUDS.keys()
    assert told == [cloud.demo_scopes for cloud in clouds.CLOUDS.values()]
    assert CliRunner().invoke(main, ["demo", "--scopes", "7"]).exit_code == 0
    assert told[len(clouds.CLOUDS) :] == [7] * len(clouds.CLOUDS)


def test_file_that_cannot_be_written_is_reported_before_the_demo(tmp_path: Path) -> None:
    """A wrong path does not cost a complete demonstration."""
    result = CliRunner().invoke(main, ["demo", "--json", str(tmp_path / "nowhere" / "demo.json")])
    assert result.exit_code == 1
    assert "does not exist" in result.stderr
    assert result.stdout == ""


def test_cloud_that_this_machine_cannot_run_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One sentence says what is missing, and the exit code is that of the other clouds."""
    scenarios: dict[str, Any] = {"aws": Good, "azure": Missing, "gcp": Good}
    for name, scenario in scenarios.items():
        monkeypatch.setitem(clouds.CLOUDS, name, replace(clouds.CLOUDS[name], scenario=scenario))
    result = CliRunner().invoke(main, ["demo", "--json", str(tmp_path / "demo.json")])
    assert result.exit_code == 0, result.output
    assert result.output.count("Azure was skipped. Node.js was not found. Install it.") == 1
    assert result.output.count("all 1 expectations met") == 2
    document = json.loads((tmp_path / "demo.json").read_text())
    assert [document[name]["ok"] for name in ("aws", "azure", "gcp")] == [True, False, True]
    assert document["azure"]["left_out"] == "Node.js was not found. Install it."


def test_demo_of_a_cloud_that_cannot_run_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was demonstrated."""
    assert play(monkeypatch, Missing, "aws").exit_code == 1


def in_demo_set(repository: Path, environment: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool in an environment with the packages of the `demo` lock, which is made first."""
    if not environment.exists():
        _make_demo_set(repository, environment)
    command: list[str | Path] = [environment / "bin" / "python", "-m", "cli.main", *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def _make_demo_set(repository: Path, environment: Path) -> None:
    venv.create(environment, with_pip=False, symlinks=True)
    [packages] = environment.glob("lib/python*/site-packages")
    lock = (repository / "requirements" / "demo.txt").read_text(encoding="utf-8")
    names = {canonicalize_name(match) for match in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    for distribution in distributions():
        if canonicalize_name(distribution.name) in names:
            for file in distribution.files or ():
                # Namespace packages such as `azure` are complete: the set omits no distribution that is part of one.
                top = packages / file.parts[0]
                if ".." not in file.parts and not top.exists():
                    top.symlink_to(Path(str(distribution.locate_file(file.parts[0]))))
    for part in ("google-discovery", "azure-runtime"):
        if (Path(sys.prefix) / part).is_dir():
            (environment / part).symlink_to(Path(sys.prefix) / part)


@pytest.mark.slow
def test_fleet_runs_with_only_the_packages_of_the_demo_set(repository: Path, tmp_path: Path) -> None:
    """The environment has the `demo` lock's packages, among them the SDK of Azure's rounds."""
    done = in_demo_set(repository, tmp_path / "environment", "demo", "fleet")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("chosen", "scenarios"), [(["aws"], 1), pytest.param([], 3, marks=pytest.mark.slow)])
def test_demo_runs_with_only_the_packages_of_its_set(
    chosen: list[str], scenarios: int, repository: Path, tmp_path: Path
) -> None:
    """The environment has the `demo` lock's packages."""
    environment = tmp_path / "environment"
    done = in_demo_set(repository, environment, "demo", *chosen, "--scopes", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("expectations met") == scenarios
    shown = in_demo_set(repository, environment, "status", *chosen)
    assert shown.stdout.count(" · demonstration  ") == scenarios, shown.stdout + shown.stderr
