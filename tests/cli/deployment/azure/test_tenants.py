"""The tenant port on Azure: the registry, invitations, checks and proposals, against a local Azure of three tenants."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from azure_function.clients import drop_clients
from azure_function.tenants import RULES
from cli import clouds
from cli.deployment.azure import tenants
from cli.deployment.azure.tenant_roles import roles_of
from cli.deployment.model import Finding
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.customers import APPLICATION
from localcloud.azure.iam.grants import conditions_of, read_grants
from localcloud.azure.iam.rights import OWNER
from shared.runtime.clock import VirtualClock
from shared.state.store import Conflict
from shared.tenants.registry import MAX_BYTES, Tenant, encode_registry, parse_registry


def silent(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Log nothing."""


@pytest.fixture(scope="module")
def opened() -> Iterator[LocalAzure]:
    """Return a provider's tenant with two customers' tenants, whose deliveries may be announced."""
    with LocalAzure(subscriptions=1, customers=2, clock=VirtualClock(), deliveries=True) as cloud:
        yield cloud


@pytest.fixture
def cloud(opened: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return the tenants of the module, with the identity of the function in the environment."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, opened.environment()[name])
    for world in (opened.world, *(one.world for one in opened.customers)):
        world.calls.clear()
    yield opened
    drop_clients()


def listed(cloud: LocalAzure) -> list[Tenant]:
    """Return the customers as tenants of a registry."""
    data = json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode()
    return list(parse_registry(data, RULES).tenants.values())


def checked(cloud: LocalAzure, **environment: str) -> dict[str, Finding]:
    """Return the findings of the first customer's check by the first words of what they say."""
    first, second = listed(cloud)
    found = tenants.check(first, [second], {**cloud.environment(), **environment}, silent, cloud.clock)
    return {one.what.split(":")[0] + ":" + one.what.split(":")[1][:22]: one for one in found}


def test_the_command_finds_the_port() -> None:
    """It has a function of each name of the port."""
    port = clouds.CLOUDS["azure"].tenants
    assert port is not None
    for name in ("RULES", "registry_store", "documents", "check", "invite", "remaining", "discover"):
        assert hasattr(port(), name)


def test_the_registry_is_written_by_compare_and_swap(cloud: LocalAzure) -> None:
    """Two operators who edit at once do not lose an entry; the container is created by the first write."""
    store = tenants.registry_store(cloud.environment(), silent, cloud.clock)
    assert store.place.endswith("/tailpipedataexport00/tailpipe-registry/tenants.json")
    assert store.load(MAX_BYTES).version is None
    version = store.save(encode_registry(listed(cloud)), None)
    blob = store.load(MAX_BYTES)
    assert (blob.version, len(parse_registry(blob.data, RULES).tenants)) == (version, 2)
    with pytest.raises(Conflict):
        store.save(b"{}", None)
    with pytest.raises(Conflict):
        store.save(b"{}", '"0x0"')


def test_rows_are_read_with_the_operators_sign_in(cloud: LocalAzure) -> None:
    """Before the first round there are none."""
    found = tenants.documents(cloud.environment(), silent, cloud.clock)
    assert list(found.names("rows/")) == []
    found.put("rows/customer-000.json", b"{}", "application/json")
    found.put("rounds/one.json", b"{}", "application/json")
    assert [name for name, _ in found.names("rows/")] == ["rows/customer-000.json"]
    assert [name for name, _ in found.names("rounds/")] == ["rounds/one.json"]


def test_an_invitation_has_the_consent_link_and_the_least_roles(cloud: LocalAzure) -> None:
    """The roles are those that the function has in its own tenant, in the scopes of the entry."""
    first = listed(cloud)[0]
    invitation = tenants.invite(first, cloud.environment())
    entra = cloud.customers[0].id
    assert invitation.link == f"https://login.microsoftonline.com/{entra}/adminconsent?client_id={APPLICATION}"
    granted = {
        action
        for one in read_grants("function", conditions_of(identity_exports=False))
        if one.place in ("management_group", "destination_subscription", "destination")
        for action in (*one.actions, *one.data_actions)
    }
    roles = [json.loads(text) for name, text in invitation.files.items() if name.endswith(".json")]
    assert {action for one in roles for action in (*one["Actions"], *one["DataActions"])} == granted
    scopes = {one.scope for one in roles_of(first)}
    account = cloud.customers[0].account
    root = f"/providers/Microsoft.Management/managementGroups/{entra}"
    assert scopes == {root, f"/subscriptions/{account.subscription}", account.id}
    # Azure refuses a role with data actions that can be assigned at a management group.
    assert all(not one["DataActions"] or one["AssignableScopes"][0].startswith("/subscriptions/") for one in roles)


def test_an_invitation_for_exports_with_an_identity_limits_what_may_be_assigned(cloud: LocalAzure) -> None:
    """The condition is that of the module; a management group of the entry's settings takes the root group's place."""
    data = [
        {**one, "settings": {"EXPORT_IDENTITY": "system", "MANAGEMENT_GROUP": "production"}}
        for one in cloud.tenant_entries()
    ]
    registry = parse_registry(json.dumps({"version": 1, "tenants": data}).encode(), RULES)
    invitation = tenants.invite(registry.tenants["customer-000"], cloud.environment())
    script = invitation.files["admit.sh"]
    assert "--condition-version 2.0" in script
    assert "GuidEquals {ba92f5b4-2d11-453d-a403-e96b0029c9fe}" in script
    assert "managementGroups/production" in script
    assert "storageAccounts/write" not in json.dumps(invitation.files)


def test_tenant_whose_deliveries_are_announced_has_one_role_more(cloud: LocalAzure) -> None:
    """It may write the two folders of the documents in the export container, and the check looks for it there."""
    first, second = listed(cloud)
    announced = msgspec.structs.replace(first, settings={"DELTAS": "1"})
    (more,) = set(roles_of(announced)) - set(roles_of(first))
    assert more.scope.endswith(
        f"/storageAccounts/{cloud.customers[0].account.name}/blobServices/default/containers/dataexport"
    )
    script = tenants.invite(announced, cloud.environment()).files["admit.sh"]
    assert f"--scope '{more.scope}'" in script
    assert shlex.quote(more.condition) in script
    assert "deltas/*" in more.condition
    found = tenants.check(announced, [second], cloud.environment(), silent, cloud.clock)
    assert [one for one in found if one.ok is not True] == []
    assert len([one for one in found if one.what.startswith("rights")]) == 4
    customer = cloud.customers[0]
    held = next(one for one in customer.world.rights.of(customer.principal) if one.scope == more.scope)
    customer.world.rights.remove(held.id)
    found = tenants.check(announced, [second], cloud.environment(), silent, cloud.clock)
    cloud.consent_tenant(customer.name)
    lost = [one for one in found if one.ok is False]
    assert [more.name in one.what for one in lost] == [True]


def test_the_script_of_an_invitation_runs(cloud: LocalAzure, tmp_path: Path) -> None:
    """Each role is created from its file and assigned to the principal that consent made, then the provider."""
    invitation = tenants.invite(listed(cloud)[0], cloud.environment())
    for name, text in invitation.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    az = tmp_path / "az"
    az.write_text('#!/bin/sh\necho "$@" >> calls\ncase "$*" in *"sp show"*) echo the-principal;; esac\n')
    az.chmod(0o755)
    ended = subprocess.run(
        ["bash", "admit.sh"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert sum("role assignment create --assignee-object-id the-principal" in one for one in calls) == 3
    assert calls[-1].startswith("provider register --namespace Microsoft.CostManagementExports")
    used = {word[1:] for one in calls for word in one.split() if word.startswith("@")}
    assert used == {name for name in invitation.files if name.endswith(".json")}


def test_a_tenant_that_was_onboarded_passes_every_check(cloud: LocalAzure) -> None:
    """Its own token is used for everything but the one question with another tenant's."""
    found = checked(cloud)
    assert [one for one in found.values() if one.ok is not True] == []
    assert len([one for one in found.values() if one.what.startswith("rights")]) == 3
    deputies = [one for one in found.values() if one.what.startswith("confused deputy")]
    assert len(deputies) == 2
    assert "InvalidAuthenticationTokenTenant" in deputies[0].detail
    assert "AADSTS700213" in deputies[1].detail
    first, second = cloud.customers
    strangers = [one for one in first.world.calls if one.app != first.principal]
    assert {(one.resource, one.status) for one in strangers} == {(f"/subscriptions/{first.subscription_ids[0]}", 401)}
    assert len(second.world.calls) == 0


def test_a_check_names_what_is_missing(cloud: LocalAzure) -> None:
    """Revoked consent ends it; lost rights, and rights beyond the invitation, are findings of their own."""
    customer = cloud.customers[0]
    cloud.revoke_consent(customer.name)
    (entry,) = checked(cloud).values()
    assert (entry.ok, "AADSTS7000229" in entry.detail) == (False, True)
    assert "accept the link" in entry.remedy
    cloud.consent_tenant(customer.name, roles=False)
    found = checked(cloud)
    assert not any(one.ok for one in found.values() if one.what.startswith("rights"))
    cloud.revoke_consent(customer.name)
    principal = cloud.consent_tenant(customer.name)
    owner = customer.world.rights.assign(f"/subscriptions/{customer.subscription_ids[0]}", principal, OWNER, "too-much")
    found = checked(cloud)
    excess = [one for one in found.values() if one.ok is False]
    assert excess
    assert all("could do more than keep exports" in one.detail for one in excess)
    customer.world.rights.remove(owner.id)
    customer.actions.deny("Microsoft.CostManagement/exports/write", principal)
    lost = [one for one in checked(cloud).values() if one.ok is False]
    assert ["missing Microsoft.CostManagement/exports/write" in one.detail for one in lost] == [True]
    customer.actions.allow(principal)


def test_an_application_that_trusts_another_identity_is_reported(cloud: LocalAzure) -> None:
    """Whoever runs code in the function app could otherwise enter with less."""
    from localcloud.azure.iam.entra import LOGIN, FederatedCredential

    federated = cloud.world.entra.applications[APPLICATION].federated
    federated.append(FederatedCredential(f"{LOGIN}/{cloud.tenant}/v2.0", cloud.principal))
    found = [one for one in checked(cloud).values() if one.ok is False]
    federated.pop()
    assert ["another identity" in one.what for one in found] == [True]
    assert "Keep one federated credential" in found[0].remedy


def test_where_the_identity_is_not_nothing_is_claimed(cloud: LocalAzure) -> None:
    """A check on an operator's machine says that it could not be made, and where it can."""
    calls = len(cloud.calls)
    (entry,) = checked(cloud, IDENTITY_ENDPOINT="").values()
    assert entry.ok is None
    assert "invoke azure --tenant" in entry.remedy
    assert len(cloud.calls) == calls


def test_customers_of_a_partner_are_proposed(cloud: LocalAzure) -> None:
    """Other billing accounts have no customers; equal names get different ids."""
    cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": cloud.subscription_ids})
    one, other = cloud.customers
    cloud.add_billing_account(
        "partner", "MicrosoftPartnerAgreement", customers={one.id: "Acme GmbH & Co.", other.id: "Acme GmbH, Co"}
    )
    assert tenants.discover(cloud.environment(), silent, cloud.clock) == []
    cloud.grant_billing()
    found = tenants.discover(cloud.environment(), silent, cloud.clock)
    assert [(tenant.id, tenant.name, tenant.entry) for tenant in found] == [
        ("acme-gmbh-co", "Acme GmbH & Co.", {"tenant_id": one.id}),
        (f"acme-gmbh-co-{other.id[:8]}", "Acme GmbH, Co", {"tenant_id": other.id}),
    ]


def test_what_stays_after_a_tenant_is_removed_is_named(cloud: LocalAzure) -> None:
    """Exports are never deleted; each line says how to end it."""
    text = "\n".join(tenants.remaining(listed(cloud)[0]))
    for word in ("az costmanagement export delete", "az ad sp delete", "tenants/customer-000/"):
        assert word in text
