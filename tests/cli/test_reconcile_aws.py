"""`plan` and `run` with the real function against a local AWS in this process: one clear outcome for each error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from localcloud.aws.cloud import LocalAws

STATE = "state/known_accounts.json"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Return a local organization of four accounts, with a function that is deployed and never called."""
    with LocalAws(accounts=4, package=lambda: b"") as cloud:
        yield cloud


@pytest.fixture
def operator(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Give the test the operator's variables; what a test broke is restored after it."""
    for name, value in aws.environment().items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    aws.clear_faults()
    aws.client("s3").delete_object(Bucket=aws.deployment.bucket, Key=STATE)
    for name in aws.exports():
        aws.delete_export(name)


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def reported(result: Result) -> Any:
    """Return the document on stdout; the test fails if there is anything else."""
    return json.loads(result.stdout)


def test_plan_run_and_plan_again(operator: pytest.MonkeyPatch) -> None:
    """A plan announces what a run then does, with the same hash of the plan, and the next plan is empty."""
    planned, ran, after = (
        tailpipe("plan", "aws", "--json"),
        tailpipe("run", "aws", "--yes", "--json"),
        tailpipe("plan", "aws"),
    )
    assert (planned.exit_code, ran.exit_code, after.exit_code) == (2, 0, 0)
    assert reported(planned)["plan_hash"] == reported(ran)["plan_hash"] != ""
    assert "nothing to write" in after.stdout


def test_dry_run_writes_nothing(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """`run --dry-run` has the exit code of a run and leaves the cloud as it was, state and lock included."""
    aws.calls.clear()
    result = tailpipe("run", "aws", "--dry-run", "--json")
    assert (result.exit_code, reported(result)["dry_run"]) == (0, True)
    writing = ("Create", "Put", "Update", "Delete", "Tag")
    assert [call.operation for call in aws.calls.select() if call.operation.startswith(writing)] == []


def test_one_scope_is_enough(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """With --scope only that account is planned for."""
    member = next(account for account in aws.accounts() if account != aws.account)
    report = reported(tailpipe("plan", "aws", "--scope", member, "--json"))
    assert report["scopes"]["total"] == 1


def test_partly_failed_run_ends_with_3(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """Where one right is missing the rest is done, the failure has its message, and the exit code says degraded."""
    aws.deny("bcm-data-exports:CreateExport")
    as_json, as_text = tailpipe("run", "aws", "--yes", "--json"), tailpipe("run", "aws", "--yes", "--force")
    report = reported(as_json)
    assert (as_json.exit_code, report["status"]) == (3, "degraded")
    assert [failure["scope"] for failure in report["failures"]] == [aws.account]
    assert as_text.exit_code == 3
    assert "CreateExport" in as_text.stdout


def test_settings_are_all_refused_at_once(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """Every wrong setting is named before any call is made."""
    operator.setenv("EXPORTS", "cur3")
    operator.setenv("EXPORT_PREFIX", "state")
    operator.setenv("CALLS_AT_ONCE", "many")
    aws.calls.clear()
    result = tailpipe("run", "aws", "--yes", "--without-deployment", "--json")
    assert result.exit_code == 1
    messages = [failure["message"] for failure in reported(result)["failures"]]
    assert {message.partition(":")[0] for message in messages} == {"EXPORTS", "EXPORT_PREFIX", "CALLS_AT_ONCE"}
    assert all(message in result.stderr for message in messages)
    assert aws.calls.count() == 0


def test_missing_credentials_are_one_clear_failure(operator: pytest.MonkeyPatch) -> None:
    """Without credentials the tool says so, as text and as a report, and not by a trace."""
    operator.delenv("AWS_ACCESS_KEY_ID")
    operator.delenv("AWS_SECRET_ACCESS_KEY")
    result = tailpipe("plan", "aws", "--json")
    report = reported(result)
    assert (result.exit_code, report["status"]) == (1, "failed")
    assert "redentials" in json.dumps(report["failures"])
    assert "Traceback" not in result.output


def test_another_run_is_named(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """While another run holds the lock, a run reports its id and until when; a plan ignores the lock."""
    now = datetime.now(UTC)
    running = {"run_id": "r-of-another", "since": now.isoformat(), "until": (now + timedelta(minutes=5)).isoformat()}
    document = {"version": 2, "cloud": "aws", "running": running}
    aws.client("s3").put_object(Bucket=aws.deployment.bucket, Key=STATE, Body=json.dumps(document).encode())
    result = tailpipe("run", "aws", "--yes", "--json")
    (failure,) = reported(result)["failures"]
    assert (result.exit_code, failure["code"]) == (1, "another-run")
    assert "r-of-another" in failure["message"]
    assert "r-of-another" in result.stderr
    assert tailpipe("plan", "aws").exit_code == 2


def test_region_may_come_from_the_operators_profile(
    operator: pytest.MonkeyPatch, aws: LocalAws, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where the environment names no region, the one of the AWS configuration file is taken."""
    file = tmp_path_factory.mktemp("aws") / "config"
    file.write_text(f"[default]\nregion = {aws.region}\n", encoding="utf-8")
    operator.setenv("AWS_CONFIG_FILE", str(file))
    operator.delenv("AWS_REGION")
    operator.delenv("AWS_DEFAULT_REGION")
    assert tailpipe("plan", "aws").exit_code == 2


def test_profile_that_does_not_exist_is_named(operator: pytest.MonkeyPatch) -> None:
    """A misspelt AWS_PROFILE is the fault that is reported, whatever else depends on it."""
    operator.setenv("AWS_PROFILE", "misspelt")
    result = tailpipe("plan", "aws")
    assert result.exit_code == 1
    assert "AWS_PROFILE" in result.stderr
    assert "misspelt" in result.stderr
    assert "AWS_REGION" not in result.stderr
