"""Moves on Azure that have nothing to move; tests/e2e moves a deployment."""

from __future__ import annotations

import os

import pytest

from cli.deployment.azure.existing import existing_names
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.names import names
from cli.deployment.azure.session import open_session
from localcloud.azure.platform.deployment import TAILPIPE_APP
from localcloud.azure.platform.resources_api import keep
from localcloud.azure.services.directory import made_up_id
from shared.runtime.clock import SystemClock
from tests.cli.support.azure import said, sign_in, tailpipe, template_variables, tenant
from tests.cli.support.operating import terraform
from tests.cli.support.terraform_double import TerraformDouble

__all__ = ["terraform"]  # a fixture, which pytest finds by name


@pytest.mark.parametrize(
    ("engine", "what", "remedy"),
    [
        ("native", "nothing is deployed here", "deploy azure --with native"),
        ("terraform", "no launch template is deployed here", "deploy azure"),
    ],
)
def test_move_of_nothing_is_refused(
    terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch, engine: str, what: str, remedy: str
) -> None:
    """It names the command that deploys, and calls Terraform only to validate the values."""
    with tenant(bare=True) as cloud:
        cloud.world.service_principals[TAILPIPE_APP] = made_up_id("Tailpipe")
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        result = tailpipe("migrate", "azure", "--to", engine, *template_variables(terraform.folder), "--yes")
        assert (result.exit_code, what in said(result), remedy in said(result)) == (1, True, True), said(result)
        assert (cloud.world.resources, terraform.calls("apply")) == ({}, [])


def test_template_is_given_every_name_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of roles by title, and of assignments by scope, role and principal: also the policy's, and those elsewhere."""
    policy = "00000000-0000-0000-0000-0000000000b0"
    with tenant() as cloud:
        sign_in(cloud, monkeypatch)
        root = f"/providers/Microsoft.Management/managementGroups/{cloud.tenant}"
        vault = (
            f"/subscriptions/{cloud.subscription_ids[1]}/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/kept"
        )
        secret = f"{vault}/secrets/webhook"
        rights = cloud.world.rights
        role = next(one.id for one in rights.roles.values() if one.name == "Key Vault Secrets User")
        rights.assign(secret, cloud.principal, role, "00000000-0000-0000-0000-0000000000a1")
        rights.assign(root, policy, role, "00000000-0000-0000-0000-0000000000a2")
        where = f"{root}/providers/Microsoft.Authorization/policyAssignments/deploy-cost-export-a"
        keep(cloud.world, where, {"identity": {"type": "SystemAssigned", "principalId": policy}})
        session = open_session({}, dict(os.environ), SystemClock())
        app = deployed(session)
        assert app is not None
        found = existing_names(session, names(session.subscription, {}), app, (), [secret])
    assert found[f"{secret}|{role}|{cloud.principal}"] == "00000000-0000-0000-0000-0000000000a1"
    assert found[f"{root}|{role}|policy"] == found[f"{root}|{role}|{policy}"] == "00000000-0000-0000-0000-0000000000a2"
    own = next(one for one in rights.roles.values() if one.name.startswith("Tailpipe Exports, exports ("))
    assert found[own.name] == own.id
    held = next(one for one in rights.of(cloud.principal) if one.role == own.id)
    assert found[f"{held.scope}|{held.role}|{held.principal}"] == held.id
