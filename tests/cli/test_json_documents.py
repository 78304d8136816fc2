"""`--json`: standard output is always one strict JSON document, which has the error if there is no result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn, cast

import click
import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.deployment.model import OperatorError, Problem
from cli.deployment.session import attempt
from cli.main import main
from cli.terminal.console import document_text
from tests.cli.support.fakes import FakeOperator

WHY = Problem("the sign-in has expired", "Sign in again.")
# The arguments that a command needs, besides the cloud, to reach the cloud.
MORE = {"backfill": ["--missing"], "run": ["--yes"]}


def with_json(group: click.Group) -> Iterator[str]:
    """Yield the commands with the flag `--json`."""
    for name, command in group.commands.items():
        options = [one for one in command.params if isinstance(one, click.Option)]
        if any("--json" in one.opts and one.is_flag for one in options):
            yield name


COMMANDS = sorted(with_json(main))


def test_commands_with_json_are_found() -> None:
    """Otherwise the tests below would test nothing."""
    stored = {"status", "history", "months", "deliveries", "backfill", "logs", "explain"}
    assert stored | {"plan", "run", "invoke", "doctor"} == set(COMMANDS)


def called(name: str, *more: str) -> Result:
    """Return the result of a command with `--json`, for AWS or for an unknown code."""
    about = "xyzzy" if name == "explain" else "aws"
    return CliRunner().invoke(main, [name, about, "--json", *MORE.get(name, ()), *more])


def document(text: str) -> Any:
    """Parse the only document in a text; NaN and infinities, which Python accepts, are refused."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def reasons(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the problems and remedies in a document; those of plan and run are in their report."""
    if "error" in found:
        return [(one["what"], one["remedy"]) for one in found["error"]["problems"]]
    return [(one["message"], one["remedy"]) for one in found["failures"]]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command on AWS fail when it opens the cloud."""

    class Unreachable(FakeOperator):
        def open(self, _given: Mapping[str, Any]) -> NoReturn:
            raise error

    entry = replace(clouds.CLOUDS["aws"], operator=lambda: cast("Any", Unreachable([], {})))
    monkeypatch.setitem(clouds.CLOUDS, "aws", entry)


@pytest.mark.parametrize("name", COMMANDS)
def test_error_is_a_document(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has each problem with its remedy; standard error has them as text, and the exit code is 1."""
    fail_with(OperatorError(WHY, Problem("and the clock is wrong")), monkeypatch)
    result = called(name)
    assert result.exit_code == 1
    found = reasons(document(result.stdout))
    if name == "explain":
        assert found == [("the runbook has no entry 'xyzzy'", "A code that is not listed is the cloud's own.")]
    else:
        assert found[0] == (WHY.what, WHY.remedy)
        assert len(found) == 2
    assert all(what in " ".join(result.stderr.split()) for what, _ in found)


@pytest.mark.parametrize("name", [one for one in COMMANDS if one != "explain"])
def test_unexpected_exception_is_a_document(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command ends without one."""
    fail_with(KeyError("unexpected"), monkeypatch)
    result = called(name)
    assert result.exit_code == 1
    [(what, remedy)] = reasons(document(result.stdout))
    assert "a defect of the command: KeyError" in what
    assert "Report it with its trace" in remedy
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_usage_error_is_a_document(name: str) -> None:
    """A misspelled option is found before the command starts."""
    result = called(name, "--no-such-option")
    assert result.exit_code == 1
    [(what, remedy)] = reasons(document(result.stdout))
    assert "--no-such-option" in what
    assert remedy == f"See tailpipe-exports {name} --help."
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("name", [one for one in COMMANDS if one != "explain"])
def test_missing_module_is_a_document(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the module."""
    fail_with(ModuleNotFoundError("No module named 'botocore'", name="botocore"), monkeypatch)
    result = called(name)
    assert result.exit_code == 1
    [(what, _)] = reasons(document(result.stdout))
    assert "no botocore" in what
    assert what in result.stderr


@pytest.mark.parametrize("arguments", [["status", "oracle"], ["demo", "--scopes", "1", "--json", "x"], ["nothing"]])
def test_usage_error_without_the_flag_is_no_document(arguments: list[str]) -> None:
    """Standard output stays empty; `--json FILE` of the demonstration is another option."""
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize("name", ["status", "months"])
def test_unreadable_clouds_are_reported_with_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one document for all clouds, and each problem has its cloud."""
    fail_with(OperatorError(WHY), monkeypatch)
    monkeypatch.setitem(clouds.CLOUDS, "gcp", clouds.CLOUDS["aws"])
    result = CliRunner().invoke(main, [name, "aws", "gcp", "--json"])
    found = document(result.stdout)
    assert found["clouds"] == []
    assert found["error"]["problems"][0] == {"cloud": "aws", "what": WHY.what, "remedy": WHY.remedy}


def test_documents_are_strict_and_printable_json() -> None:
    """Numbers outside JSON are null; control characters and lone surrogates are escaped."""
    hostile = "a\x1b\x7f\x9b\u202e\u2066\ud800é"
    given = {"nan": [float("nan"), float("-inf"), 1.5], "deep": {"x": ({"y": float("inf")},)}, "name": hostile}
    text = document_text(given)
    assert document(text) == {"nan": [None, None, 1.5], "deep": {"x": [{"y": None}]}, "name": hostile}
    assert not set("\x1b\x7f\x9b\u202e\u2066\ud800") & set(text)
    assert "é" in text
    assert document_text({"a": 1}, None) == '{"a": 1}'


def test_closed_pipe_ends_the_command_quietly() -> None:
    """`head` may close the pipe of `tailpipe-exports logs aws`."""

    def command() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        attempt("title", command)
