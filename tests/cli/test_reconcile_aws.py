"""`plan` and `run` with the real function and a local AWS in this process: each error has one clear outcome."""

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
    """Return a local organization of four accounts, with a function that has not run."""
    with LocalAws(accounts=4, package=lambda: b"") as cloud:
        yield cloud


@pytest.fixture
def operator(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set the operator's variables, and restore after the test what it damaged."""
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
    """Return the document on stdout; fail the test if there is other output."""
    return json.loads(result.stdout)


def test_plan_announces_the_run_and_the_next_plan_is_empty(operator: pytest.MonkeyPatch) -> None:
    """Plan and run have the same hash."""
    planned, ran, after = (
        tailpipe("plan", "aws", "--json"),
        tailpipe("run", "aws", "--yes", "--json"),
        tailpipe("plan", "aws"),
    )
    assert (planned.exit_code, ran.exit_code, after.exit_code) == (2, 0, 0)
    assert reported(planned)["plan_hash"] == reported(ran)["plan_hash"] != ""
    assert "nothing to write" in after.stdout


def test_dry_run_writes_nothing(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """`run --dry-run` has the exit code of a run, and leaves state and lock unchanged."""
    aws.calls.clear()
    result = tailpipe("run", "aws", "--dry-run", "--json")
    assert (result.exit_code, reported(result)["dry_run"]) == (0, True)
    writing = ("Create", "Put", "Update", "Delete", "Tag")
    assert [call.operation for call in aws.calls.select() if call.operation.startswith(writing)] == []


def test_scope_limits_the_plan(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """Only the account given by --scope is planned."""
    member = next(account for account in aws.accounts() if account != aws.account)
    report = reported(tailpipe("plan", "aws", "--scope", member, "--json"))
    assert report["scopes"]["total"] == 1


def test_partly_failed_run_exits_with_3(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """One permission is missing: the rest is done, and the failure has its message."""
    aws.deny("bcm-data-exports:CreateExport")
    as_json, as_text = tailpipe("run", "aws", "--yes", "--json"), tailpipe("run", "aws", "--yes", "--force")
    report = reported(as_json)
    assert (as_json.exit_code, report["status"]) == (3, "degraded")
    assert [failure["scope"] for failure in report["failures"]] == [aws.account]
    assert as_text.exit_code == 3
    assert "CreateExport" in as_text.stdout


def test_all_invalid_settings_are_reported_before_any_call(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """One message lists them all."""
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


def test_missing_credentials_are_reported_as_one_failure(operator: pytest.MonkeyPatch) -> None:
    """Text and report have it, without a traceback."""
    operator.delenv("AWS_ACCESS_KEY_ID")
    operator.delenv("AWS_SECRET_ACCESS_KEY")
    result = tailpipe("plan", "aws", "--json")
    report = reported(result)
    assert (result.exit_code, report["status"]) == (1, "failed")
    assert "redentials" in json.dumps(report["failures"])
    assert "Traceback" not in result.output


def test_concurrent_run_is_reported_with_id_and_expiry(operator: pytest.MonkeyPatch, aws: LocalAws) -> None:
    """A plan ignores the lock."""
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


def test_region_can_come_from_the_operators_profile(
    operator: pytest.MonkeyPatch, aws: LocalAws, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The environment has no region."""
    file = tmp_path_factory.mktemp("aws") / "config"
    file.write_text(f"[default]\nregion = {aws.region}\n", encoding="utf-8")
    operator.setenv("AWS_CONFIG_FILE", str(file))
    operator.delenv("AWS_REGION")
    operator.delenv("AWS_DEFAULT_REGION")
    assert tailpipe("plan", "aws").exit_code == 2


def test_unknown_profile_is_reported(operator: pytest.MonkeyPatch) -> None:
    """No dependent error hides it."""
    operator.setenv("AWS_PROFILE", "misspelt")
    result = tailpipe("plan", "aws")
    assert result.exit_code == 1
    assert "AWS_PROFILE" in result.stderr
    assert "misspelt" in result.stderr
    assert "AWS_REGION" not in result.stderr
