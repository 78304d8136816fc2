"""`--json`: whatever happens, standard output is one strict JSON document, which says why where there is no result."""

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
# What a command needs beside the cloud to get as far as the cloud.
MORE = {"backfill": ["--missing"], "run": ["--yes"]}


def with_json(group: click.Group) -> Iterator[str]:
    """Yield the commands that have `--json` as a flag."""
    for name, command in group.commands.items():
        options = [one for one in command.params if isinstance(one, click.Option)]
        if any("--json" in one.opts and one.is_flag for one in options):
            yield name


COMMANDS = sorted(with_json(main))


def test_the_commands_are_found() -> None:
    """The tests below would hold nothing if the tree were read wrongly."""
    assert {"status", "history", "months", "backfill", "logs", "explain", "plan", "run", "invoke", "doctor"} == set(
        COMMANDS
    )


def called(name: str, *more: str) -> Result:
    """Return what a command did with `--json`, called about AWS, or about a code that no runbook has."""
    about = "xyzzy" if name == "explain" else "aws"
    return CliRunner().invoke(main, [name, about, "--json", *MORE.get(name, ()), *more])


def document(text: str) -> Any:
    """Return the one document in a text; NaN and infinities are refused, which Python would take."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def reasons(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the problems and remedies that a document gives; plan and run give them in their report."""
    if "error" in found:
        return [(one["what"], one["remedy"]) for one in found["error"]["problems"]]
    return [(one["message"], one["remedy"]) for one in found["failures"]]


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command on AWS fail as soon as it opens the cloud."""

    class Unreachable(FakeOperator):
        def open(self, _given: Mapping[str, Any]) -> NoReturn:
            raise error

    entry = replace(clouds.CLOUDS["aws"], operator=lambda: cast("Any", Unreachable([], {})))
    monkeypatch.setitem(clouds.CLOUDS, "aws", entry)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_is_a_document_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem with its remedy, on standard output for programs and on standard error for people; exit code 1."""
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
def test_a_defect_is_a_document_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that no one expects ends no command without a document."""
    fail_with(KeyError("unexpected"), monkeypatch)
    result = called(name)
    assert result.exit_code == 1
    [(what, remedy)] = reasons(document(result.stdout))
    assert "a defect of the command: KeyError" in what
    assert "Report it with its trace" in remedy
    assert "Traceback" not in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_a_usage_error_is_a_document_too(name: str) -> None:
    """A misspelt option is known before the command begins."""
    result = called(name, "--no-such-option")
    assert result.exit_code == 1
    [(what, remedy)] = reasons(document(result.stdout))
    assert "--no-such-option" in what
    assert remedy == f"See tailpipe-exports {name} --help."
    assert "Usage:" in result.stderr


@pytest.mark.parametrize("name", [one for one in COMMANDS if one != "explain"])
def test_an_incomplete_installation_is_a_document_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that is missing is named."""
    fail_with(ModuleNotFoundError("No module named 'botocore'", name="botocore"), monkeypatch)
    result = called(name)
    assert result.exit_code == 1
    [(what, _)] = reasons(document(result.stdout))
    assert "no botocore" in what
    assert what in result.stderr


@pytest.mark.parametrize("arguments", [["status", "oracle"], ["demo", "--scopes", "1", "--json", "x"], ["nothing"]])
def test_without_the_flag_a_usage_error_prints_no_document(arguments: list[str]) -> None:
    """Standard output stays empty; `--json FILE` of the demonstration is no such flag."""
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (1, "")


@pytest.mark.parametrize("name", ["status", "months"])
def test_clouds_that_cannot_be_read_are_named_beside_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One document for all clouds; each problem says whose it is."""
    fail_with(OperatorError(WHY), monkeypatch)
    monkeypatch.setitem(clouds.CLOUDS, "gcp", clouds.CLOUDS["aws"])
    result = CliRunner().invoke(main, [name, "aws", "gcp", "--json"])
    found = document(result.stdout)
    assert found["clouds"] == []
    assert found["error"]["problems"][0] == {"cloud": "aws", "what": WHY.what, "remedy": WHY.remedy}


def test_documents_are_strict_json_that_a_terminal_shows_unharmed() -> None:
    """What JSON has no number for is null; characters that a terminal would obey, and halves of pairs, are escaped."""
    hostile = "a\x1b\x7f\x9b\u202e\u2066\ud800é"
    given = {"nan": [float("nan"), float("-inf"), 1.5], "deep": {"x": ({"y": float("inf")},)}, "name": hostile}
    text = document_text(given)
    assert document(text) == {"nan": [None, None, 1.5], "deep": {"x": [{"y": None}]}, "name": hostile}
    assert not set("\x1b\x7f\x9b\u202e\u2066\ud800") & set(text)
    assert "é" in text
    assert document_text({"a": 1}, None) == '{"a": 1}'


def test_a_reader_that_left_is_no_defect() -> None:
    """`tailpipe-exports logs aws | head` ends quietly: click knows the error of a closed pipe."""

    def command() -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        attempt("title", command)
