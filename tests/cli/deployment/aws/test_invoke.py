"""`tailpipe-exports invoke aws` with the deployed function in the real runtime client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import FUNCTION, account, sign_in, stderr_of, tailpipe

pytestmark = pytest.mark.long


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment in an organization of three accounts, signed in."""
    with account(accounts=3) as cloud:
        sign_in(cloud, monkeypatch)
        yield cloud


def test_invoke_covers_everything_and_shows_the_report(aws: LocalAws) -> None:
    """It creates the export and the members' roles; standard output stays empty."""
    result = tailpipe("invoke", "aws")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "ok 1 of 3 active accounts covered (2 pending)" in stderr_of(result)
    assert list(aws.exports()) == ["tailpipe-dataexport"]
    assert len(aws.instances()) == 2


def test_report_of_many_accounts_is_complete(aws: LocalAws) -> None:
    """Lambda's response has at most fifty actions; the document has all of them, from the stored report."""
    for number in range(60):
        aws.join_account(name=f"more-{number}")
    report = json.loads(tailpipe("invoke", "aws", "--json").stdout)
    accounts = set(aws.accounts())
    assert {one["scope"] for one in report["actions"]} == accounts
    assert len(report["actions"]) == sum(sum(one.values()) for one in report["outcomes"].values())


def test_dry_run_writes_nothing(aws: LocalAws) -> None:
    """Afterwards there is no export, instance or state."""
    result = tailpipe("invoke", "aws", "--dry-run", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["dry_run"], report["outcomes"]["CREATE"] != {}) == (0, True, True)
    assert (aws.exports(), aws.instances()) == ({}, {})
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=aws.deployment.bucket)


def test_scope_limits_the_run_to_its_accounts(aws: LocalAws) -> None:
    """One member gets its role, and the others are left for another run."""
    members = sorted(set(aws.accounts()) - {aws.account})
    result = tailpipe("invoke", "aws", "--scope", members[1], "--json")
    assert (result.exit_code, list(aws.instances())) == (0, [members[1]]), result.output


def test_failed_run_shows_its_stored_report_and_force_continues(aws: LocalAws) -> None:
    """All roles vanish: the guard refuses, and --force recreates them.

    Lambda's response to a failed run has only one line, so the command reads the report from the bucket.
    """
    for number in range(10):
        aws.join_account(name=f"more-{number}")
    assert tailpipe("invoke", "aws").exit_code == 0
    for member in list(aws.instances()):
        aws.remove_instance(member)
    refused = tailpipe("invoke", "aws", "--json")
    assert refused.exit_code == 1
    report = json.loads(refused.stdout)
    assert (report["status"], report["failures"][0]["code"]) == ("failed", "vanished")
    shown = tailpipe("invoke", "aws")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "failed vanished" in stderr_of(shown)
    assert aws.instances() == {}
    forced = tailpipe("invoke", "aws", "--force")
    assert forced.exit_code == 0, forced.stderr
    assert len(aws.instances()) == 12


def test_degraded_run_exits_with_3(aws: LocalAws) -> None:
    """The members cannot be listed: the export is created, and the missing permission is named."""
    aws.deny("organizations:ListAccounts")
    result = tailpipe("invoke", "aws")
    assert result.exit_code == 3, result.stderr
    assert "degraded 1 of 1 active accounts covered" in stderr_of(result)
    assert "Grant organizations:ListAccounts" in stderr_of(result)
    assert list(aws.exports()) == ["tailpipe-dataexport"]


def test_crashed_function_is_reported_with_its_log_group(aws: LocalAws) -> None:
    """There is no report, so Lambda's message and the log group are shown."""
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": aws.deployment.settings() | {"EXPORTS": "nonsense"}}
    )
    result = tailpipe("invoke", "aws")
    assert result.exit_code == 1
    assert "SettingsError" in stderr_of(result)
    assert f"/aws/lambda/{FUNCTION}" in stderr_of(result)
    assert aws.deployment.external_id not in result.output


def test_run_that_could_not_start_has_reason_and_remedy(aws: LocalAws) -> None:
    """An unknown account ends the run before it stores a report."""
    result = tailpipe("invoke", "aws", "--scope", "999999999999")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "account 999999999999 was not found in this organization. Check the id" in stderr_of(result)
    assert "gave no report" in stderr_of(result)
    assert "was not run" not in stderr_of(result)
