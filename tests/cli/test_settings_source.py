"""The source of settings for `plan` and `run`: the deployed function, a file, or the shell if nothing is deployed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.clouds import CLOUDS
from cli.deployment.model import Deployed
from cli.main import main
from cli.settings_source import read_file
from shared.errors import SettingsError
from shared.model import Problem, Verb
from tests.cli.support.fakes import FUNCTION, FakeFunction, action, install
from tests.cli.support.operating import Typing, typing

__all__ = ["typing"]  # a fixture, which pytest finds by name
COMMANDS = [["plan"], ["run", "--yes"], ["run", "--dry-run"]]
OTHER = Deployed("tailpipe-second", "arn:of:tailpipe-second", "code sha256 ba9876543210, deployed before", {})


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def called(command: Sequence[str], *arguments: str) -> Result:
    """Run `plan` or `run` on AWS."""
    return tailpipe(command[0], "aws", *command[1:], *arguments)


def stderr_of(result: Result) -> str:
    """Return the tool's messages in one line."""
    return " ".join(result.stderr.split())


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return a file with settings."""
    file = tmp_path / "settings.env"
    file.write_text("# how it is to be\n\nexport EXPORTS='focus'\nCALLS_AT_ONCE=4\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_settings_come_from_the_deployed_function_and_not_the_shell(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Settings in the shell have no effect."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), settings={"EXPORTS": "focus"})
    monkeypatch.setenv("EXPORTS", "cur2")
    monkeypatch.setenv("CALLS_AT_ONCE", "2")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert called(command).exit_code == 0
    environment = function.environments[-1]
    assert environment["EXPORTS"] == "focus"
    assert "CALLS_AT_ONCE" not in environment
    assert environment["AWS_PROFILE"] == "mine"


def test_credentials_of_the_deployment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop uses its own sign-in; variables set by the platform apply."""
    found = Deployed("x", "arn:x", "deployed today", {"AWS_REGION": "eu-north-1"})
    theirs = {"EXPORTS": "cur2", "AWS_ACCESS_KEY_ID": "of-the-function", "AWS_PROFILE": "of-the-function"}
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[found], settings=theirs)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-operator")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert tailpipe("plan", "aws").exit_code == 0
    environment = function.environments[0]
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_REGION"]) == ("of-the-operator", "eu-north-1")
    assert "of-the-function" not in environment.values()


@pytest.mark.parametrize("json_flag", [["--json"], []], ids=["json", "text"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_caller_account_region_and_deployment_are_shown_first(
    monkeypatch: pytest.MonkeyPatch, command: list[str], json_flag: list[str]
) -> None:
    """The output starts with them, and with the code versions of function and tool."""
    install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    lines = called(command, *json_flag).stderr.splitlines()
    assert lines[0] == "management account 111122223333 as arn:aws:iam::111122223333:user/me, region eu-west-1"
    assert lines[1] == "  deployment: arn:of:tailpipe-exports, code sha256 0123456789ab, deployed today"
    assert lines[2].startswith("  this command: tailpipe-exports ")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_run_without_a_deployment_needs_the_flag(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """Without the flag, the tool shows the remedy and does nothing; with it, the shell's settings apply."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[])
    monkeypatch.setenv("CALLS_AT_ONCE", "2")
    refused = called(command)
    assert refused.exit_code == 1
    assert "no function is deployed in management account 111122223333, region eu-west-1" in stderr_of(refused)
    assert "set AWS_REGION, AWS_PROFILE" in stderr_of(refused)
    assert "--without-deployment" in stderr_of(refused)
    assert function.requests == []
    allowed = called(command, "--without-deployment")
    assert allowed.exit_code == 0
    assert "nothing is deployed here" in stderr_of(allowed)
    assert function.environments[0]["CALLS_AT_ONCE"] == "2"


def test_flag_is_refused_if_a_function_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings cannot be overridden accidentally."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    result = tailpipe("run", "aws", "--yes", "--without-deployment")
    assert result.exit_code == 1
    assert "tailpipe-exports is deployed here, with settings of its own" in stderr_of(result)
    assert function.requests == []


def test_several_deployments_need_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are listed, and an unknown name is refused."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[FUNCTION, OTHER])
    unclear, wrong = tailpipe("plan", "aws"), tailpipe("plan", "aws", "--function", "third")
    assert (unclear.exit_code, wrong.exit_code) == (1, 1)
    assert "2 functions are deployed here: tailpipe-exports, tailpipe-second" in stderr_of(unclear)
    assert "Choose one of them: --function NAME." in stderr_of(unclear)
    assert "no function third is deployed here" in stderr_of(wrong)
    assert "found: tailpipe-exports, tailpipe-second" in stderr_of(wrong)
    assert function.requests == []
    chosen = tailpipe("plan", "aws", "--function", "tailpipe-second")
    assert chosen.exit_code == 0
    assert "deployment: arn:of:tailpipe-second" in stderr_of(chosen)
    monkeypatch.setenv("TAILPIPE_EXPORTS_FUNCTION_NAME", "tailpipe-second")
    assert "deployment: arn:of:tailpipe-second" in stderr_of(tailpipe("plan", "aws"))


def test_functions_of_one_name_are_selected_by_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """The region precedes the name."""
    found = [Deployed(f"{region}/x", f"of {region}", "deployed today", {}) for region in ("eu-west-1", "eu-north-1")]
    install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=found)
    assert "of eu-north-1" in stderr_of(tailpipe("plan", "aws", "--function", "eu-north-1/x"))
    assert "2 functions are deployed here: eu-north-1/x, eu-west-1/x" in stderr_of(tailpipe("plan", "aws"))


@pytest.mark.parametrize(
    ("settings", "hidden", "said", "remedy"),
    [
        (None, {}, "is listed, and cannot be read: it is being made or deleted", "Wait some minutes"),
        ({}, {}, "has none of the settings of a deployment", "tailpipe-exports deploy aws"),
        ({"LOG_LEVEL": "INFO"}, {}, "has none of the settings of a deployment", "tailpipe-exports deploy aws"),
        ({"EXPORTS": "cur9"}, {}, "EXPORTS: 'cur9' is not one of cur2, focus", "tailpipe-exports deploy aws"),
        ({"EXPORTS": "@vault"}, {"EXPORTS": "it is in secret s"}, "setting EXPORTS", "--settings FILE"),
    ],
    ids=["half-deleted", "empty", "of-something-else", "wrong", "secret"],
)
def test_unusable_settings_are_reported_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str] | None,
    hidden: dict[str, str],
    said: str,
    remedy: str,
) -> None:
    """The function may be partly deleted, without settings, invalid, or refer to secrets."""
    found = Deployed("tailpipe-exports", "arn:x", "deployed today", {}, hidden)
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[found], settings=settings)
    result = tailpipe("run", "aws", "--yes", "--json")
    (failure,) = json.loads(result.stdout)["failures"]
    assert result.exit_code == 1
    assert said in failure["message"]
    assert remedy in failure["remedy"]
    assert function.requests == []


def test_secret_in_another_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function does not read it."""
    found = Deployed("tailpipe-exports", "arn:x", "deployed today", {}, {"SOMETHING_ELSE": "it is in secret s"})
    install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[found])
    assert tailpipe("plan", "aws").exit_code == 0


def test_settings_file_replaces_the_deployments_settings(monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    """The output says that neither deployment nor shell applies."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), settings={"EXPORTS": "cur2"})
    monkeypatch.setenv("EXPORTS", "cur2")
    result = tailpipe("plan", "aws", "--settings", str(settings))
    assert result.exit_code == 0
    assert f"settings: {settings}, whatever is deployed here" in stderr_of(result)
    assert (function.environments[0]["EXPORTS"], function.environments[0]["CALLS_AT_ONCE"]) == ("focus", "4")


def test_all_problems_of_a_settings_file_are_reported_without_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """This covers invalid values, misspelled names and foreign credentials."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    file = tmp_path / "settings.env"
    file.write_text("EXPORTS=cur9\nCALS_AT_ONCE=4\nUNHEARD_OF=1\nAWS_SECRET_ACCESS_KEY=hush\n", encoding="utf-8")
    result = tailpipe("run", "aws", "--yes", "--settings", str(file))
    assert result.exit_code == 1
    assert "nothing was done on AWS · 4 faults" in stderr_of(result)
    assert "EXPORTS: 'cur9' is not one of cur2, focus" in stderr_of(result)
    assert "CALS_AT_ONCE: is not a setting of the function; did you mean CALLS_AT_ONCE?" in stderr_of(result)
    assert "UNHEARD_OF: is not a setting of the function" in stderr_of(result)
    assert "AWS_SECRET_ACCESS_KEY: belongs to your sign-in" in stderr_of(result)
    assert "hush" not in result.output
    assert function.requests == []


def test_all_invalid_lines_of_a_settings_file_are_reported_by_number(tmp_path: Path) -> None:
    """This covers missing names, open quotes and repeated names."""
    file = tmp_path / "settings.env"
    file.write_text("no line of ours\n=hush\nA=1\nA=hush\nB='hush\nC=hush hush\nD=x # why\nE=\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_file(file)
    assert [fault.partition(": ")[0].rpartition(":")[2] for fault in caught.value.problems] == ["1", "2", "4", "5", "6"]
    assert "hush" not in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text"):
        read_file(file)


def test_settings_file_is_parsed_like_a_shell_does(tmp_path: Path) -> None:
    """Quotes, `export` and comments are supported; an empty value is a value."""
    file = tmp_path / "settings.env"
    file.write_text("# c\nexport A='x y'\nB=\"q\"\n  C=1,2  # why\nD=\n", encoding="utf-8")
    assert read_file(file) == {"A": "x y", "B": "q", "C": "1,2", "D": ""}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_settings_are_not_mistaken_for_credentials(cloud: str) -> None:
    """Only variables of the sign-in and the endpoints come from the operator."""
    from cli.settings_source import settings_faults

    entry = CLOUDS[cloud]
    names = settings_faults(entry, {})[1]
    assert {"EXPORTS", "CALL_BUDGET", "MAX_WRITES_PER_RUN", "STALE_MIN_HOURS"} <= names
    own = {name for name in names if entry.own.fullmatch(name)}
    assert all(
        name.startswith(("AWS_", "AZURE_", "ARM_", "BLOB_", "VAULT_", "AUTHORITY_", "GOOGLE_", "GCE_", "CLOUDSDK_"))
        or name.endswith("_EMULATOR_HOST")
        for name in own
    )
    assert not {name for name in names - own if "TOKEN" in name or "SECRET" in name or "ENDPOINT" in name}


@pytest.mark.parametrize(
    "flags",
    [
        ["--settings", "FILE", "--without-deployment"],
        ["--settings", "FILE", "--function", "x"],
        ["--function", "x", "--without-deployment"],
    ],
    ids=" ".join,
)
def test_exclusive_flags_are_a_usage_error(monkeypatch: pytest.MonkeyPatch, settings: Path, flags: list[str]) -> None:
    """The exit code is 1, because 2 means in `plan` that there is something to write."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    result = tailpipe("plan", "aws", *(str(settings) if one == "FILE" else one for one in flags))
    assert result.exit_code == 1
    assert function.requests == []


@pytest.mark.parametrize(("answer", "code", "runs"), [("y", 0, 2), ("n", 1, 1), ("", 1, 1)])
def test_run_needs_confirmation_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, answer: str, code: int, runs: int
) -> None:
    """It shows the writes first; anything but yes exits with 1."""
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    screen = typing(answer)
    assert main(["run", "aws"], standalone_mode=False) == code
    assert [one.dry_run for one in function.requests] == [True, False][:runs]
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert text.index("to create  export") < text.index("Write this to management account 111122223333? [y/N]")
    assert ("declined" in text) is (code == 1)


def test_declined_run_has_a_report(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, the plan and the prompt are on stderr, and the document says that nothing was done."""
    install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    typing("n")
    assert main(["run", "aws", "--json"], standalone_mode=False) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["code"] == "declined"


@pytest.mark.parametrize("json_flag", [["--json"], []], ids=["json", "text"])
def test_run_without_a_terminal_needs_yes(monkeypatch: pytest.MonkeyPatch, json_flag: list[str]) -> None:
    """Nothing is read or written, and the message names the flag."""
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    result = tailpipe("run", "aws", *json_flag)
    assert result.exit_code == 1
    assert "--yes" in stderr_of(result)
    assert function.requests == []
    if json_flag:
        assert json.loads(result.stdout)["status"] == "failed"


def test_failed_plan_has_no_prompt(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cause is shown once, and is in the document."""
    problem = Problem("vanished", "12 of 12 are gone", "Invoke with force.")
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE)], stopped=True, problems=[problem]))
    screen = typing("y")
    assert main(["run", "aws", "--json"], standalone_mode=False) == 1
    assert "[y/N]" not in screen.getvalue()
    assert screen.getvalue().count("12 of 12 are gone") == 1
    assert [one.dry_run for one in function.requests] == [True]
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["code"] == "vanished"


@pytest.mark.parametrize(
    ("cloud", "setting", "remedy"),
    [
        ("aws", "AWS_REGION", "export AWS_REGION=REGION"),
        ("azure", "DESTINATION", "--settings"),
        ("gcp", "GOOGLE_CLOUD_PROJECT", "export GOOGLE_CLOUD_PROJECT=PROJECT"),
    ],
)
def test_missing_setting_has_a_local_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: str, setting: str, remedy: str
) -> None:
    """It names the variable, the command or the flag, and does not refer to the runbook."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "DESTINATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    result = tailpipe("plan", cloud, "--without-deployment", "--json")
    failure = next(one for one in json.loads(result.stdout)["failures"] if one["message"].startswith(f"{setting}:"))
    assert result.exit_code == 1
    assert remedy in failure["remedy"]
    assert "runbook" not in result.output
