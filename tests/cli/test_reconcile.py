"""`plan` and `run` with a function that ends in every possible way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from shared.errors import AnotherRun, RequestError, RunStopped, SettingsError
from shared.model import Problem, Verb
from tests.cli.support.fakes import FakeFunction, action, finished, install

REPORT_KEYS = list(finished([action(Verb.KEEP)], dry_run=False).report)
PROBLEM = Problem("guard", "12 of 12 are gone", "Invoke with force.")
ENDINGS: list[Any] = [
    pytest.param(FakeFunction([action(Verb.KEEP)]), 0, 0, "ok", id="nothing-to-write"),
    pytest.param(FakeFunction([action(Verb.SKIP), action(Verb.MANUAL, "2")]), 0, 0, "ok", id="only-a-person-can"),
    pytest.param(FakeFunction([action(Verb.CREATE)]), 2, 0, "ok", id="to-create"),
    pytest.param(FakeFunction([action(Verb.REPAIR)]), 2, 0, "ok", id="to-repair"),
    pytest.param(FakeFunction([action(Verb.ADOPT)]), 2, 0, "ok", id="to-adopt"),
    pytest.param(
        FakeFunction([action(Verb.CREATE), action(Verb.KEEP, "2")], failing=["111122223333"]),
        2,
        3,
        None,
        id="partly-failed",
    ),
    pytest.param(FakeFunction([action(Verb.CREATE)], stopped=True, problems=[PROBLEM]), 1, 1, "failed", id="refused"),
    pytest.param(FakeFunction([action(Verb.KEEP)], problems=[PROBLEM]), 1, 3, "degraded", id="could-not-see-all"),
    pytest.param(FakeFunction([action(Verb.CREATE)], problems=[PROBLEM]), 2, 3, "degraded", id="saw-enough-to-create"),
    pytest.param(FakeFunction(error=AnotherRun("r-0", "12:00", "12:05")), 1, 1, "failed", id="another-run"),
    pytest.param(
        FakeFunction(error=SettingsError(["EXPORTS: is odd", "BUCKET_NAME: too"])), 1, 1, "failed", id="settings"
    ),
    pytest.param(FakeFunction(error=RequestError(["'scopes' is odd"])), 1, 1, "failed", id="request"),
    pytest.param(FakeFunction(error=RunStopped("credentials", "none were found")), 1, 1, "failed", id="credentials"),
    pytest.param(FakeFunction(error=ZeroDivisionError("a defect")), 1, 1, "failed", id="defect"),
]


@pytest.mark.parametrize(("function", "of_plan", "of_run", "status"), ENDINGS)
@pytest.mark.parametrize("json_flag", [["--json"], []], ids=["json", "text"])
def test_exit_code_follows_the_contract(
    monkeypatch: pytest.MonkeyPatch,
    function: FakeFunction,
    of_plan: int,
    of_run: int,
    status: str | None,
    json_flag: list[str],
) -> None:
    """This holds for every result of a run and every output format."""
    install(monkeypatch, function)
    assert CliRunner().invoke(main, ["plan", "aws", *json_flag]).exit_code == of_plan
    assert CliRunner().invoke(main, ["run", "aws", "--yes", *json_flag]).exit_code == of_run


@pytest.mark.parametrize(("function", "of_plan", "of_run", "status"), ENDINGS)
@pytest.mark.parametrize("command", [["plan"], ["run", "--yes"]], ids=" ".join)
def test_json_output_is_one_report(
    monkeypatch: pytest.MonkeyPatch,
    function: FakeFunction,
    of_plan: int,
    of_run: int,
    status: str | None,
    command: list[str],
) -> None:
    """This holds even if no run took place."""
    install(monkeypatch, function)
    result = CliRunner().invoke(main, [*command, "aws", "--json"])
    report = json.loads(result.stdout)
    assert list(report) == REPORT_KEYS
    assert report["cloud"] == "aws"
    assert report["dry_run"] is (command == ["plan"])
    if status is not None:
        assert report["status"] == status
        assert bool(report["failures"]) is (status != "ok")
    if function.error is None:
        assert report["run_id"] == "r-1"


def test_all_problems_of_the_settings_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a line on stderr, and stdout stays empty."""
    install(monkeypatch, FakeFunction(error=SettingsError(["EXPORTS: 'x' is odd", "BUCKET_NAME: 'y' too"])))
    result = CliRunner().invoke(main, ["run", "aws", "--yes"])
    assert "nothing was done on AWS · 2 faults" in result.stderr
    assert "EXPORTS: 'x' is odd" in result.stderr
    assert "BUCKET_NAME: 'y' too" in result.stderr
    assert result.stdout == ""


def test_empty_scope_is_refused_without_calling_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request would be invalid."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    result = CliRunner().invoke(main, ["run", "aws", "--yes", "--scope", "", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failures"][0]["code"] == "request"
    assert function.requests == []


def test_options_become_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scopes, force, dry run and verification are passed on; a plan is always a dry run."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    CliRunner().invoke(main, ["run", "aws", "--scope", "1", "--scope", "2", "--force", "--verify-all", "--dry-run"])
    CliRunner().invoke(main, ["run", "aws", "--yes"])
    CliRunner().invoke(main, ["plan", "aws", "--scope", "3"])
    first, second, third = function.requests
    assert (first.scopes, first.force, first.verify_all, first.dry_run) == (("1", "2"), True, True, True)
    assert (second.scopes, second.force, second.verify_all, second.dry_run) == ((), False, False, False)
    assert (third.scopes, third.dry_run) == (("3",), True)


def test_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """One word and no traceback is shown."""
    install(monkeypatch, FakeFunction(error=KeyboardInterrupt()))
    result = CliRunner().invoke(main, ["run", "aws", "--yes"])
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted\n")
    assert "Traceback" not in result.output


def test_traceback_of_an_unexpected_exception_is_in_a_private_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message has the location in the code."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    install(monkeypatch, FakeFunction(error=ZeroDivisionError("a secret that it quotes")))
    result = CliRunner().invoke(main, ["plan", "aws", "--json"])
    (failure,) = json.loads(result.stdout)["failures"]
    (trace,) = tmp_path.iterdir()
    assert failure["code"] == "unexpected"
    assert failure["message"].startswith("a defect of the command: ZeroDivisionError at fakes.py:")
    assert str(trace) in failure["remedy"]
    assert "Traceback" in trace.read_text(encoding="utf-8")
    assert trace.stat().st_mode & 0o077 == 0
    assert "Traceback" not in result.output
    assert "a secret that it quotes" not in result.output
