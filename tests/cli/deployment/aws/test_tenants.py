"""The tenant port on AWS: registry, discovery, invitations, and the proof that a role lets in only its own tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from aws_lambda.tenants import RULES
from cli.deployment.aws import tenant_role, tenants
from cli.deployment.model import Finding
from localcloud.aws.cloud import LocalAws
from shared.state.store import Conflict
from shared.tenants.registry import Tenant, encode_registry, parse_registry
from tests.aws_lambda.support import Lines, local_aws
from tests.aws_lambda.tenants import Provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Return a deployment without tenants, which announces deliveries."""
    with local_aws(accounts=2, deliveries=True) as cloud:
        yield Provider(cloud)


def tenant(provider: Provider, place: int = 0) -> Tenant:
    """Return a tenant that was added."""
    found = parse_registry(encode_registry(provider.entries), RULES)
    return list(found.tenants.values())[place]


def checked(provider: Provider) -> list[Finding]:
    """Check the first tenant."""
    cloud = provider.cloud
    others = [tenant(provider, place) for place in range(1, len(provider.entries))]
    return tenants.check(tenant(provider), others, cloud.environment(), Lines(), cloud.clock)


def wrong(findings: list[Finding]) -> list[str]:
    """Return what failed."""
    return [f"{one.what}: {one.detail}" for one in findings if one.ok is False]


def test_registry_is_written_by_compare_and_swap(provider: Provider) -> None:
    """An operator who read before another one wrote does not overwrite it."""
    cloud = provider.cloud
    store = tenants.registry_store(cloud.environment(), Lines(), cloud.clock)
    assert store.load(1000).version is None
    version = store.save(b'{"version": 1, "tenants": []}', None)
    assert store.load(1000).data == b'{"version": 1, "tenants": []}'
    store.save(b'{"version": 1, "tenants": [] }', version)
    with pytest.raises(Conflict):
        store.save(b"{}", version)
    assert store.place == f"s3://{provider.bucket}/registry/tenants.json"


def test_template_is_made_from_the_grants(provider: Provider) -> None:
    """The published file is what the grants in rights.yaml say today."""
    assert tenant_role.published() == tenant_role.rendered()


def test_launched_stack_lets_the_deployment_in(provider: Provider) -> None:
    """The role of the template has the rights of a run and no more, for both destinations; the check proves it."""
    own, shared = provider.add("own"), provider.add("shared", shared=True)
    provider.fleet().begin()
    assert wrong(checked(provider)) == []
    provider.cloud.calls.clear()
    for name, payer in (("own", own), ("shared", shared)):
        finished = provider.run(name)
        assert finished.report["failures"] == []
        provider.cloud.deliver(account=payer)
        provider.cloud.advance(600)
        assert provider.run(name).report["status"] == "ok"
        refused = [call for call in provider.cloud.calls if call.account == payer and call.error == "AccessDenied"]
        assert refused == []


def test_each_grant_of_the_template_is_needed(provider: Provider) -> None:
    """A run from nothing to the first delivery and the check use every action of the role, but for rare repairs."""
    payer = provider.add("own", members=True, carbon=True, accounts=3)
    role = provider.entries[0]["entry"]["role_arn"]
    provider.cloud.calls.clear()
    checked(provider)
    provider.run("own")
    provider.cloud.deliver(account=payer)
    provider.cloud.advance(600)
    provider.run("own", scopes=(payer,), verify_all=True)
    used = {action for principal, action, _ in provider.cloud.calls.accesses(role) if principal == role}
    (made,) = tenant_role.template()["Resources"].values()
    statements = made["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    granted = {action for one in statements for action in (one["Fn::If"][1] if "Fn::If" in one else one)["Action"]}
    rare = {
        "billing:GetBillingView",  # of an entry with a billing view
        "cloudformation:DescribeStackSetOperation",  # of one that does not end
        "cloudformation:UpdateStackInstances",  # of an outdated instance
        "bcm-data-exports:ListExecutions",  # of an overdue export
        "bcm-data-exports:ListTagsForResource",  # of an export that the state does not know
        "bcm-data-exports:UpdateExport",
        "organizations:DescribeOrganization",  # of a member account
    }
    assert granted - used <= rare
    assert used <= granted


@pytest.mark.parametrize("condition", ["none", "of another tenant", "everyone"])
def test_role_that_trusts_more_than_its_tenant_is_a_fault(provider: Provider, condition: str) -> None:
    """A role without the condition, with another tenant's External ID, or with the principal * is found."""
    payer = provider.add("acme")
    provider.add("bolt")
    body = json.loads(json.dumps(tenant_role.template()))
    (role,) = body["Resources"].values()
    (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    if condition == "none":
        del statement["Condition"]
    elif condition == "everyone":
        statement["Principal"] = {"AWS": "*"}
    else:
        statement["Condition"] = {"StringLike": {"sts:ExternalId": "external-id-of-*"}}
    given = {"ProviderAccount": provider.cloud.account, "ExternalId": "external-id-of-acme"}
    provider.cloud.delete_stack(account=payer)
    made = provider.cloud.launch_stack(account=payer, template=json.dumps(body), parameters=given)
    provider.entries[0]["entry"]["role_arn"] = made["TailpipeExportsTenantRole"]
    provider.write()
    found = checked(provider)
    expected = {
        "none": "refuses to be assumed without an External ID: it was assumed",
        "of another tenant": "refuses to be assumed with that of tenant bolt: it was assumed",
        "everyone": "trusts account 111122223333 only: it also trusts *",
    }
    assert any(expected[condition] in one for one in wrong(found))
    assert all(one.remedy for one in found if one.ok is False)


def test_external_id_of_two_secrets_is_a_fault(provider: Provider) -> None:
    """The registry sees two secrets; the check compares what they hold, also for tenants whose roles are not tried."""
    provider.add("acme")
    for number in range(12):
        value = "external-id-of-acme" if number == 11 else f"another-external-id-{number}"
        role = f"arn:aws:iam::{number:012d}:role/tailpipe-exports-tenant"
        entry = {"role_arn": role, "external_id": provider.secret(f"other-{number}", value)}
        provider.entries.append({"id": f"other-{number}", "cloud": "aws", "entry": entry})
    found = checked(provider)
    assert wrong(found) == ["no other tenant has the same External ID: that of other-11 is the same"]
    assert "Store another External ID" in next(one for one in found if one.ok is False).remedy


def test_check_of_a_tenant_that_refuses_ends_at_its_entry(provider: Provider) -> None:
    """Nothing else is tried, and the remedy is the invitation."""
    payer = provider.add("acme")
    provider.cloud.delete_stack(account=payer)
    findings = checked(provider)
    assert [one.ok for one in findings] == [False]
    assert "tenants invite" in findings[0].remedy


def test_check_reports_a_missing_grant(provider: Provider) -> None:
    """The shared bucket does not list the payer yet."""
    payer = provider.add("acme", shared=True)
    assert any(f"does not let exports of account {payer} deliver" in one for one in wrong(checked(provider)))


def test_check_writes_nothing(provider: Provider) -> None:
    """Neither in the payer nor in the deployment's account."""
    provider.add("acme")
    provider.cloud.calls.clear()
    checked(provider)
    reads = ("Get", "List", "Describe", "Head", "AssumeRole")
    assert [call.operation for call in provider.cloud.calls if not call.operation.startswith(reads)] == []


def test_invitation_is_a_link_without_a_secret(provider: Provider) -> None:
    """The link prefills everything but the External ID; the template comes along as a file."""
    payer = provider.add("acme")
    provider.cloud.calls.clear()
    found = tenants.invite(tenant(provider), provider.cloud.environment())
    assert not list(provider.cloud.calls)
    assert "external-id-of-acme" not in found.text + found.link + "".join(found.files.values())
    fragment = unquote(urlsplit(found.link).fragment) if "%" not in found.link else urlsplit(found.link).fragment
    given: dict[str, list[str]] = parse_qs(fragment.partition("?")[2])
    assert given["param_ProviderAccount"] == [provider.cloud.account]
    assert given["param_BucketName"] == [f"tailpipe-dataexport-{payer}"]
    assert given["param_ExportCarbon"] == ["false"]
    assert "param_ExternalId" not in given
    assert "registry/tenant-role.yaml" in given["templateURL"][0]
    assert list(found.files) == ["tenant-role.yaml"]


def test_inbound_transfers_are_discovered(provider: Provider) -> None:
    """Each healthy view is a complete entry of the deployment's own account; an unhealthy one is paused."""
    cloud: LocalAws = provider.cloud
    payers = [cloud.add_payer(name=f"customer-{number}") for number in range(3)]
    views = [cloud.transfer_billing(payer=payer, name=f"Customer {n}!") for n, payer in enumerate(payers)]
    cloud.set_billing_view_health(arn=views[1], reasons=["SOURCE_VIEW_NOT_FOUND"])
    cloud.end_billing_transfer(payer=payers[2])
    found = tenants.discover(cloud.environment(), Lines(), cloud.clock)
    assert [(one.id, one.paused) for one in found] == [
        ("customer-0", False),
        ("customer-1", True),
        ("customer-2", True),
    ]
    assert found[1].labels["billing-view"] == "SOURCE_VIEW_NOT_FOUND"
    registry = parse_registry(encode_registry(found), RULES)
    assert registry.refused == {}
    provider.write(*json.loads(encode_registry(found[:1]))["tenants"])
    assert provider.run("customer-0").report["failures"] == []


def test_account_without_an_organization_has_no_transfers() -> None:
    """Only its billing views are asked for."""
    with local_aws(kind="standalone") as cloud:
        assert tenants.discover(cloud.environment(), Lines(), cloud.clock) == []


def test_removal_names_what_stays(provider: Provider) -> None:
    """Exports, data, state, role and secret are never deleted."""
    payer = provider.add("acme")
    stays: Any = " ".join(tenants.remaining(tenant(provider)))
    for part in (payer, "delete-export", "state/tenants/acme/", "delete-secret", f"tailpipe-dataexport-{payer}"):
        assert part in stays
