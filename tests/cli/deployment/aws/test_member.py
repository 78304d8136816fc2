"""The tool in a member account, which cannot be deployed to as a management account."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from cli.main import main
from localcloud.aws.cloud import LocalAws
from localcloud.aws.services.organization import MANAGEMENT_ACCOUNT


def test_member_account_is_refused_with_the_management_account_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the account to use."""
    with LocalAws(accounts=3, kind="member") as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        as_json = CliRunner().invoke(main, ["run", "aws", "--yes", "--without-deployment", "--json"])
        as_text = CliRunner().invoke(main, ["run", "aws", "--yes", "--without-deployment"])
    report = json.loads(as_json.stdout)
    assert (as_json.exit_code, report["status"]) == (1, "failed")
    assert MANAGEMENT_ACCOUNT in json.dumps(report["failures"])
    assert as_text.exit_code == 1
    assert MANAGEMENT_ACCOUNT in as_text.stderr
    assert as_text.stdout == ""


def test_standalone_member_account_is_planned_and_reconciled(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ACCOUNT_KIND=standalone, the commands serve this account and do not mention the organization."""
    with LocalAws(accounts=3, kind="member") as aws:
        for name, value in {**aws.environment(), "ACCOUNT_KIND": "standalone"}.items():
            monkeypatch.setenv(name, value)
        planned = CliRunner().invoke(main, ["plan", "aws", "--without-deployment"])
        done = CliRunner().invoke(main, ["run", "aws", "--without-deployment", "--yes", "--json"])
        again = CliRunner().invoke(main, ["plan", "aws", "--without-deployment"])
        assert list(aws.exports()) == ["tailpipe-dataexport"]
    assert planned.exit_code == 2, planned.output
    report = json.loads(done.stdout)
    assert (done.exit_code, report["status"]) == (0, "ok")
    assert (report["scopes"]["active"], report["scopes"]["covered"]) == (1, 1)
    assert again.exit_code == 0, again.output
