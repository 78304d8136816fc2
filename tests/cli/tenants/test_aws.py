"""The commands for tenants against the local AWS: its registry, roles and rows are real documents and calls."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from tests.aws_lambda.tenants import Provider
from tests.cli.support.aws import account, sign_in


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Return a deployment that serves one tenant, with the operator signed in."""
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        found = Provider(cloud)
        found.add("acme")
        yield found


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def test_second_tenant_is_added_checked_run_and_shown(provider: Provider) -> None:
    """The entry that `tenants add` writes is the one that is entered; its row is in the view of all."""
    payer = provider.add("globex")
    given = provider.entries.pop()["entry"]
    provider.write()
    entry = [part for name, value in given.items() for part in ("--entry", f"{name}={value}")]
    added = called("tenants", "add", "aws", "globex", *entry, "--label", "group=south")
    assert added.exit_code == 0, added.output
    checked = called("tenants", "check", "aws", "globex")
    assert checked.exit_code == 0, checked.output
    assert "the role refuses to be assumed with that of tenant acme" in checked.output
    ran = called("run", "aws", "--tenant", "globex", "--yes", "--json")
    assert ran.exit_code == 0, ran.output
    assert provider.cloud.exports(account=payer) == {"tailpipe-dataexport": "HEALTHY"}
    assert "2 of 2 covered" in called("status", "aws", "--tenant", "globex").output
    document = json.loads(called("status", "aws", "--all-tenants", "--json").stdout)["clouds"][0]
    assert {one["id"]: one["status"] for one in document["list"]} == {"acme": "not_run", "globex": "ok"}


def test_concurrent_edits_meet_the_storage_of_the_deployment(provider: Provider) -> None:
    """A pause while another operator removes the tenant is refused, with nothing written."""
    assert called("tenants", "pause", "aws", "acme").exit_code == 0
    stored = json.loads(
        provider.cloud.client("s3").get_object(Bucket=provider.bucket, Key="registry/tenants.json")["Body"].read()
    )
    assert [one.get("paused") for one in stored["tenants"]] == [True]
    assert called("run", "aws", "--tenant", "acme", "--yes").exit_code == 1
    removed = called("tenants", "remove", "aws", "acme", "--yes")
    assert removed.exit_code == 0
    assert "delete-export" in removed.stderr
    assert "no tenant of AWS" in called("tenants", "list", "aws").stdout


def test_role_that_was_withdrawn_fails_the_check(provider: Provider) -> None:
    """The finding has a remedy, and the run's row says unreachable."""
    payer = provider.entries[0]["entry"]["role_arn"].split(":")[4]
    provider.cloud.delete_stack(account=payer)
    checked = called("tenants", "check", "aws", "acme", "--json")
    assert checked.exit_code == 1
    findings = json.loads(checked.stdout)["tenants"][0]["findings"]
    assert any(one["ok"] is False and one["remedy"] for one in findings)
    assert called("run", "aws", "--tenant", "acme", "--yes").exit_code == 1
    assert "unreachable" in called("tenants", "list", "aws").stdout
