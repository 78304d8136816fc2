"""`tailpipe-exports invoke aws`: the deployed function, in the real runtime client, called by a person."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import FUNCTION, account, sign_in, stderr_of, tailpipe


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment in an organization of three accounts, signed in to."""
    with account(accounts=3) as cloud:
        sign_in(cloud, monkeypatch)
        yield cloud


def test_a_call_covers_everything_and_shows_its_report(aws: LocalAws) -> None:
    """After a deployment one call makes the export and the members' roles; the report is said, stdout stays empty."""
    result = tailpipe("invoke", "aws")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert "ok 1 of 3 active accounts covered (2 pending)" in stderr_of(result)
    assert list(aws.exports()) == ["tailpipe-dataexport"]
    assert len(aws.instances()) == 2


def test_the_report_of_many_accounts_is_whole(aws: LocalAws) -> None:
    """Lambda's answer leaves actions out beyond fifty; the document has them all, from the stored report."""
    for number in range(60):
        aws.join_account(name=f"more-{number}")
    report = json.loads(tailpipe("invoke", "aws", "--json").stdout)
    accounts = set(aws.accounts())
    assert {one["scope"] for one in report["actions"]} == accounts
    assert len(report["actions"]) == sum(sum(one.values()) for one in report["outcomes"].values())


def test_a_dry_run_writes_nothing(aws: LocalAws) -> None:
    """The function plans and reports; neither export nor instance nor state is there afterwards."""
    result = tailpipe("invoke", "aws", "--dry-run", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["dry_run"], report["outcomes"]["CREATE"] != {}) == (0, True, True)
    assert (aws.exports(), aws.instances()) == ({}, {})
    assert "Contents" not in aws.client("s3").list_objects_v2(Bucket=aws.deployment.bucket)


def test_scope_names_the_only_accounts_that_are_touched(aws: LocalAws) -> None:
    """With --scope one member gets its role and the others are left for another run."""
    members = sorted(set(aws.accounts()) - {aws.account})
    result = tailpipe("invoke", "aws", "--scope", members[1], "--json")
    assert (result.exit_code, list(aws.instances())) == (0, [members[1]]), result.output


def test_a_failed_run_shows_its_stored_report_and_force_goes_on(aws: LocalAws) -> None:
    """All roles vanish at once: the guard refuses, the report is read from the bucket, and --force brings them back.

    Lambda's answer to a failed run is an error with one line; the report has everything.
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


def test_a_degraded_run_ends_with_3(aws: LocalAws) -> None:
    """The members cannot be listed: the export is made all the same, the right is named, the exit code says so."""
    aws.deny("organizations:ListAccounts")
    result = tailpipe("invoke", "aws")
    assert result.exit_code == 3, result.stderr
    assert "degraded 1 of 1 active accounts covered" in stderr_of(result)
    assert "Grant organizations:ListAccounts" in stderr_of(result)
    assert list(aws.exports()) == ["tailpipe-dataexport"]


def test_a_function_that_breaks_is_reported_with_its_log_group(aws: LocalAws) -> None:
    """No report was written: what Lambda says is said, and where to read on."""
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": aws.deployment.settings() | {"EXPORTS": "nonsense"}}
    )
    result = tailpipe("invoke", "aws")
    assert result.exit_code == 1
    assert "SettingsError" in stderr_of(result)
    assert f"/aws/lambda/{FUNCTION}" in stderr_of(result)
    assert aws.deployment.external_id not in result.output


def test_a_run_that_could_not_begin_reports_its_reason_and_its_remedy(aws: LocalAws) -> None:
    """An unknown account ends the run before it has a report to store; the run is not denied."""
    result = tailpipe("invoke", "aws", "--scope", "999999999999")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "account 999999999999 was not found in this organization. Check the id" in stderr_of(result)
    assert "gave no report" in stderr_of(result)
    assert "was not run" not in stderr_of(result)
