"""Where `plan` and `run` take the settings from: the deployed function, a file, or, where nothing is deployed, here."""

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

__all__ = ["typing"]  # a fixture, found by its name
COMMANDS = [["plan"], ["run", "--yes"], ["run", "--dry-run"]]
OTHER = Deployed("tailpipe-second", "arn:of:tailpipe-second", "code sha256 ba9876543210, deployed before", {})


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def called(command: Sequence[str], *arguments: str) -> Result:
    """Run `plan` or `run` on AWS."""
    return tailpipe(command[0], "aws", *command[1:], *arguments)


def stderr_of(result: Result) -> str:
    """Return what the tool said to people, in one line."""
    return " ".join(result.stderr.split())


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Return a file of settings."""
    file = tmp_path / "settings.env"
    file.write_text("# how it is to be\n\nexport EXPORTS='focus'\nCALLS_AT_ONCE=4\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_deployed_functions_settings_count_and_not_the_shells(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """What the deployed function was given reaches the reconcile; what the shell says of a setting does not."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), settings={"EXPORTS": "focus"})
    monkeypatch.setenv("EXPORTS", "cur2")
    monkeypatch.setenv("CALLS_AT_ONCE", "2")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert called(command).exit_code == 0
    environment = function.environments[-1]
    assert environment["EXPORTS"] == "focus"
    assert "CALLS_AT_ONCE" not in environment
    assert environment["AWS_PROFILE"] == "mine"


def test_the_deployments_credentials_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the function signs in with, a laptop uses its own sign-in; what the platform sets still applies."""
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
def test_who_where_and_which_deployment_come_first(
    monkeypatch: pytest.MonkeyPatch, command: list[str], json_flag: list[str]
) -> None:
    """Before anything of the run: the caller, the account, the region, the function, its code and this tool's."""
    install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    lines = called(command, *json_flag).stderr.splitlines()
    assert lines[0] == "management account 111122223333 as arn:aws:iam::111122223333:user/me, region eu-west-1"
    assert lines[1] == "  deployment: arn:of:tailpipe-exports, code sha256 0123456789ab, deployed today"
    assert lines[2].startswith("  this command: tailpipe-exports ")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_where_nothing_is_deployed_the_flag_is_needed(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """Without a deployment the tool says so and how to go on, and does nothing; with the flag the shell's settings
    count.
    """
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


def test_the_flag_does_not_pass_over_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a function is deployed, its settings are not replaced by chance: the flag is refused."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    result = tailpipe("run", "aws", "--yes", "--without-deployment")
    assert result.exit_code == 1
    assert "tailpipe-exports is deployed here, with settings of its own" in stderr_of(result)
    assert function.requests == []


def test_of_several_deployments_one_is_chosen_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two functions in one place are named, and none is taken by chance; a name that is not there is refused."""
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


def test_of_one_name_in_two_regions_one_is_chosen_by_its_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region before the name chooses among functions of one name."""
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
def test_settings_that_cannot_be_used_end_it_with_what_helps(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str] | None,
    hidden: dict[str, str],
    said: str,
    remedy: str,
) -> None:
    """A function that is half deleted, empty or wrong, or whose settings are secrets, is reported and left alone."""
    found = Deployed("tailpipe-exports", "arn:x", "deployed today", {}, hidden)
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[found], settings=settings)
    result = tailpipe("run", "aws", "--yes", "--json")
    (failure,) = json.loads(result.stdout)["failures"]
    assert result.exit_code == 1
    assert said in failure["message"]
    assert remedy in failure["remedy"]
    assert function.requests == []


def test_a_secret_that_is_no_setting_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the function does not read may refer to any secret."""
    found = Deployed("tailpipe-exports", "arn:x", "deployed today", {}, {"SOMETHING_ELSE": "it is in secret s"})
    install(monkeypatch, FakeFunction([action(Verb.KEEP)]), found=[found])
    assert tailpipe("plan", "aws").exit_code == 0


def test_a_file_of_settings_replaces_the_deployments(monkeypatch: pytest.MonkeyPatch, settings: Path) -> None:
    """With --settings the file counts, the deployment and the shell do not, and that is said."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]), settings={"EXPORTS": "cur2"})
    monkeypatch.setenv("EXPORTS", "cur2")
    result = tailpipe("plan", "aws", "--settings", str(settings))
    assert result.exit_code == 0
    assert f"settings: {settings}, whatever is deployed here" in stderr_of(result)
    assert (function.environments[0]["EXPORTS"], function.environments[0]["CALLS_AT_ONCE"]) == ("focus", "4")


def test_every_fault_of_a_file_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Wrong values, misspelled names and foreign credentials are reported together, without any of their values."""
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


def test_every_line_of_a_file_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    """Lines without a name or with open quotes, and repeated names, are reported by their numbers, without values."""
    file = tmp_path / "settings.env"
    file.write_text("no line of ours\n=hush\nA=1\nA=hush\nB='hush\nC=hush hush\nD=x # why\nE=\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_file(file)
    assert [fault.partition(": ")[0].rpartition(":")[2] for fault in caught.value.problems] == ["1", "2", "4", "5", "6"]
    assert "hush" not in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not text"):
        read_file(file)


def test_a_file_is_read_as_a_shell_reads_it(tmp_path: Path) -> None:
    """Quotes, `export` and comments are understood; an empty value is one."""
    file = tmp_path / "settings.env"
    file.write_text("# c\nexport A='x y'\nB=\"q\"\n  C=1,2  # why\nD=\n", encoding="utf-8")
    assert read_file(file) == {"A": "x y", "B": "q", "C": "1,2", "D": ""}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_no_setting_of_a_function_is_taken_for_a_sign_in(cloud: str) -> None:
    """What a function reads besides its way to the cloud and its sign-in is never the operator's own variable."""
    from cli.settings_source import settings_faults

    entry = CLOUDS[cloud]
    names = settings_faults(entry, {})[1]
    assert {"EXPORTS", "CALL_BUDGET", "MAX_WRITES_PER_RUN", "STALE_MIN_HOURS"} <= names
    own = {name for name in names if entry.own.fullmatch(name)}
    assert all(
        name.startswith(("AWS_", "AZURE_", "ARM_", "BLOB_", "VAULT_", "GOOGLE_", "GCE_", "CLOUDSDK_"))
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
def test_flags_that_exclude_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: Path, flags: list[str]
) -> None:
    """Two sources of settings at once are a fault of use, whose end is 1: in `plan`, 2 means something to write."""
    function = install(monkeypatch, FakeFunction([action(Verb.KEEP)]))
    result = tailpipe("plan", "aws", *(str(settings) if one == "FILE" else one for one in flags))
    assert result.exit_code == 1
    assert function.requests == []


@pytest.mark.parametrize(("answer", "code", "runs"), [("y", 0, 2), ("n", 1, 1), ("", 1, 1)])
def test_run_asks_before_it_writes(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, answer: str, code: int, runs: int
) -> None:
    """On a terminal `run` shows what it would write, asks, and writes only for a yes; declined ends with 1."""
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    screen = typing(answer)
    assert main(["run", "aws"], standalone_mode=False) == code
    assert [one.dry_run for one in function.requests] == [True, False][:runs]
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert text.index("to create  export") < text.index("Write this to management account 111122223333? [y/N]")
    assert ("declined" in text) is (code == 1)


def test_a_declined_run_is_a_report_too(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json the plan and the question are for people, and the document says that nothing was done."""
    install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    typing("n")
    assert main(["run", "aws", "--json"], standalone_mode=False) == 1
    (failure,) = json.loads(capsys.readouterr().out)["failures"]
    assert failure["code"] == "declined"


@pytest.mark.parametrize("json_flag", [["--json"], []], ids=["json", "text"])
def test_without_a_terminal_run_needs_yes(monkeypatch: pytest.MonkeyPatch, json_flag: list[str]) -> None:
    """Without a terminal nothing is read or written, and the flag that answers is named."""
    function = install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    result = tailpipe("run", "aws", *json_flag)
    assert result.exit_code == 1
    assert "--yes" in stderr_of(result)
    assert function.requests == []
    if json_flag:
        assert json.loads(result.stdout)["status"] == "failed"


def test_a_plan_that_fails_is_not_asked_about(
    monkeypatch: pytest.MonkeyPatch, typing: Typing, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the plan fails there is no prompt: its cause is shown once, and is in the document."""
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
def test_a_setting_that_is_missing_here_has_a_remedy_for_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: str, setting: str, remedy: str
) -> None:
    """The remedy names the variable, the command or the flag, and never sends to the runbook."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "DESTINATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    result = tailpipe("plan", cloud, "--without-deployment", "--json")
    failure = next(one for one in json.loads(result.stdout)["failures"] if one["message"].startswith(f"{setting}:"))
    assert result.exit_code == 1
    assert remedy in failure["remedy"]
    assert "runbook" not in result.output
