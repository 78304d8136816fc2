"""The commands for tenants against the local AWS: its registry, roles and rows are real documents and calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.deployment.aws import tenant_role, tenants
from cli.main import main
from tests.aws_lambda.tenants import Provider
from tests.cli.support.aws import account, sign_in
from tests.limits import HANG_S


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


def proposed(*more: str) -> list[dict[str, Any]]:
    """Return what `tenants list --discovered` proposes."""
    found = called("tenants", "list", "aws", "--discovered", "--json", *more)
    assert found.exit_code == 0, found.output
    listed: list[dict[str, Any]] = json.loads(found.stdout)["tenants"]
    return listed


def test_registered_transfer_is_not_proposed_again(provider: Provider) -> None:
    """It is known by its view, by its payer, which an entry may also enter by a role, or by its transfer."""
    cloud = provider.cloud
    cloud.transfer_billing(payer=provider.payer("acme"), name="Acme")
    names = ("hold", "base", "wing")
    views = [cloud.transfer_billing(payer=cloud.add_payer(name=name), name=name) for name in names]
    assert [one["id"] for one in proposed()] == ["hold", "base", "wing"]
    by_view = {"billing_view": views[0], "bucket_owner": cloud.account}
    base = next(one for one in proposed() if one["id"] == "base")
    provider.entries += [
        {"id": "renamed", "cloud": "aws", "destination": by_view},
        # Invalid: no round serves it, but it is registered.
        {"id": "other-name", "cloud": "aws", "labels": {"transfer": base["labels"]["transfer"]}},
    ]
    provider.write()
    assert [one["id"] for one in proposed()] == ["wing"]
    provider.write(*provider.entries, *proposed())
    assert proposed() == []


def test_published_link_opens_the_template_of_the_role(provider: Provider) -> None:
    """CloudFormation reads the template by the signed address, and the link sets parameters that it declares."""
    published = tenant_role.published()
    provider.cloud.client("s3").put_object(Bucket=provider.bucket, Key=tenants.TEMPLATE_KEY, Body=published)
    payer = provider.add("globex", shared=True, carbon=True)
    (link,) = [word for word in called("tenants", "invite", "aws", "globex").stdout.split() if "quickcreate" in word]
    query = parse_qs(urlsplit(link).fragment.partition("?")[2], keep_blank_values=True, strict_parsing=True)
    with urlopen(query["templateURL"][0], timeout=HANG_S) as answer:  # noqa: S310 - the address of the local S3
        text = answer.read().decode()
    assert text == published
    given = {name.removeprefix("param_"): value for name, (value,) in query.items() if name.startswith("param_")}
    declared = yaml.safe_load(text)["Parameters"]
    assert given.keys() == declared.keys() - {"ExternalId"}
    for name, value in given.items():
        assert re.fullmatch(declared[name].get("AllowedPattern", ".*"), value), name
        assert value in declared[name].get("AllowedValues", [value]), name
    assert (given["ProviderAccount"], given["BucketName"], given["ExportCarbon"]) == (
        provider.cloud.account,
        "",
        "true",
    )
    # What the link sets, and the External ID, is all that the stack needs.
    made = provider.cloud.launch_stack(account=payer, template=text, parameters={**given, "ExternalId": "x" * 24})
    assert f"arn:aws:iam::{payer}:role/{given['RoleName']}" in made.values()
