"""deploy and destroy on Azure, with a Terraform double: inputs, adoption, removal, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from azure.storage.blob import BlobServiceClient

from azure_function.targets import DESCRIPTION
from cli.deployment.azure.preflight import PROVIDERS
from cli.deployment.azure.verify import TIMER
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.iam.rights import BLOB_DATA_READER, MONITORING_READER, role_id
from localcloud.azure.platform.deployment import CONTAINER, TAGS
from localcloud.azure.platform.resources_api import keep
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.storage import StorageAccount
from tests.cli.support.azure import denied, hold_shipped_role, sign_in, tailpipe, tenant
from tests.cli.support.operating import package, terraform
from tests.cli.support.terraform_double import MODULE, TerraformDouble, change

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name
READS = {"GET", "HEAD"}
# POST requests that only read: names, settings and keys.
READING = (
    "checknameavailability/read",
    "config/list/action",
    "functions/listkeys/action",
    "microsoft.resourcegraph/resources/read",
)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a tenant without a deployment, signed in."""
    with tenant(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        yield cloud


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a deployed tenant, signed in."""
    with tenant() as cloud:
        sign_in(cloud, monkeypatch)
        yield cloud


def writes(azure: LocalAzure) -> list[str]:
    """Return the operator's writes by action."""
    return [
        one.action
        for one in azure.calls
        if one.app == OPERATOR and one.method not in READS and not one.action.lower().endswith(READING)
    ]


def workbook(azure: LocalAzure) -> str:
    """Return the name of the workbook, as dashboard.tf makes it."""
    return str(uuid5(NAMESPACE_URL, f"{azure.subscription_ids[0]}/{azure.site.name}"))


def deployed_plan(azure: LocalAzure) -> list[dict[str, Any]]:
    """Return Terraform's plan with an empty state for an existing deployment."""
    site, host, account = azure.site, azure.host_account, azure.destinations[0]
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    group: dict[str, Any] = {"resource_group_name": site.group}
    hosted = {"storage_account_id": host.id}
    container = f"{account.id}/blobServices/default/containers/{CONTAINER}"
    title = f"Tailpipe Exports, exports ({site.name})"
    return [
        change("azurerm_resource_group.this", name=site.group, location="westeurope"),
        change("azurerm_storage_account.host", name=host.name, **group),
        change(f'azurerm_storage_account.destination["{account.name}"]', name=account.name, **group),
        change(f'azurerm_storage_container.destination["{account.name}"]', name=CONTAINER),
        change('azurerm_storage_container.host["tailpipe-state"]', later=hosted, name="tailpipe-state"),
        change('azurerm_storage_container.host["app-package"]', later=hosted, name="app-package"),
        change("azurerm_storage_management_policy.host", later=hosted),
        change("azurerm_service_plan.this", name=site.name, **group),
        change("azurerm_resource_group_template_deployment.function", name=site.name, **group),
        change('azurerm_monitor_scheduled_query_rules_alert_v2.this["failed"]', name=f"{site.name}-failed", **group),
        change("azurerm_application_insights_workbook.this[0]", name=workbook(azure), **group),
        change("azurerm_application_insights_workbook.other[0]", name=azure.tenant, **group),
        change('azurerm_role_definition.function["management_group"]', name=title, scope=root),
        change(f'azurerm_role_assignment.function["management_group/{azure.tenant}"]', scope=root),
        change(
            f'azurerm_role_assignment.connector["ReadExports/{account.name}"]',
            scope=container,
            role_definition_name="Storage Blob Data Reader",
        ),
        change(
            f'azurerm_role_assignment.connector["ReadMetrics/{azure.tenant}"]',
            scope=root,
            role_definition_name="Monitoring Reader",
        ),
        change("terraform_data.identity"),
    ]


def test_dry_run_passes_all_values_to_terraform_and_creates_nothing(
    bare: LocalAzure, terraform: TerraformDouble, package: str
) -> None:
    """In an empty subscription it plans the complete root module; neither Azure nor the disk is changed."""
    alarms = [change(f'azurerm_monitor_scheduled_query_rules_alert_v2.this["{one}"]', name=one) for one in ("a", "b")]
    terraform.plan([change("azurerm_resource_group.this", name="tailpipe-dataexport"), *alarms])
    given = ("--var", "environment=prod", "--var", "location=westeurope", "--var", package)
    result = tailpipe("deploy", "azure", "--dry-run", *given)
    assert result.exit_code == 0, result.stderr
    assert (writes(bare), terraform.calls("apply")) == ([], [])
    planned = terraform.calls("plan")[-1]
    root = planned.root
    azurerm = root["provider"]["azurerm"]
    assert (azurerm["subscription_id"], azurerm["tenant_id"]) == (bare.subscription_ids[0], bare.tenant)
    assert (azurerm["storage_use_azuread"], azurerm["resource_provider_registrations"]) == (True, "none")
    assert azurerm["resource_providers_to_register"] == list(PROVIDERS)
    assert list(root["terraform"]["backend"]) == ["local"]
    assert planned.values == {
        "environment": "prod",
        "location": "westeurope",
        "management_group_id": bare.tenant,
        "package": "tailpipe-exports-azure.zip",
    }
    assert "Storage Blob Data Reader" in result.stderr
    assert "Warning: the 2 alarms of this deployment notify no one." in " ".join(result.stderr.split())


def test_secrets_are_in_no_argument_file_or_output(bare: LocalAzure, terraform: TerraformDouble, package: str) -> None:
    """This covers the tokens and keys of the sign-in."""
    given = ("--var", "environment=uat", "--var", "location=westeurope", "--var", package)
    result = tailpipe("deploy", "azure", "--dry-run", *given)
    seen = json.dumps([[one.argv, one.files] for one in terraform.calls()]) + result.output
    assert terraform.calls("plan")
    for secret in ("ARM_OPERATOR_TOKEN", "ARM_TOKEN", "BLOB_KEY", "IDENTITY_HEADER"):
        assert bare.environment()[secret] not in seen


def test_missing_permissions_and_variables_are_reported_before_the_plan(
    bare: LocalAzure, terraform: TerraformDouble, package: str
) -> None:
    """Each has its remedy."""
    result = tailpipe("deploy", "azure", "--dry-run", "--var", package)
    assert (result.exit_code, terraform.calls("plan")) == (1, [])
    assert "--var environment=VALUE" in result.stderr
    assert "--var location=VALUE" in result.stderr
    bare.deny("Microsoft.Authorization/roleAssignments/write")
    given = ("--var", "environment=prod", "--var", "location=westeurope", "--var", package)
    result = tailpipe("deploy", "azure", "--yes", *given)
    assert (result.exit_code, terraform.calls("plan"), writes(bare)) == (1, [], [])
    assert "az role assignment create" in result.stderr


def test_failed_apply_is_reported_and_can_be_continued(
    bare: LocalAzure, terraform: TerraformDouble, package: str
) -> None:
    """The backend is created first; the next call uses the same state."""
    name = "tailpipe-dataexport"
    group = change("azurerm_resource_group.this", name=name)
    terraform.plan([group, change("azurerm_service_plan.this", name="tailpipe-exports", resource_group_name=name)])
    terraform.break_at("azurerm_service_plan.this", "quota reached")
    given = ("--yes", "--var", "environment=prod", "--var", "location=westeurope", "--var", package)
    result = tailpipe("deploy", "azure", *given)
    assert result.exit_code == 1
    assert "quota reached" in result.stderr
    assert "was interrupted: 1 resources" in result.stderr
    backend = terraform.calls("plan")[-1].root["terraform"]["backend"]["azurerm"]
    assert (backend["use_azuread_auth"], backend["container_name"]) == (True, "tfstate")
    made: StorageAccount = bare.world.accounts[backend["storage_account_name"]]
    assert (made.shared_key, made.containers) == (False, {"tfstate"})
    bare.calls.clear()
    assert tailpipe("deploy", "azure", *given).exit_code == 1
    assert writes(bare) == []
    assert terraform.calls("plan")[-1].root["terraform"]["backend"]["azurerm"] == backend


def test_existing_resources_are_adopted_and_the_deployment_verified(
    azure: LocalAzure, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """With a lost state, they are imported by id; then the function runs, and the onboarding document is printed."""
    terraform.plan(deployed_plan(azure))
    given = ("--var", "environment=prod", "--var", package, "--local-state", str(tmp_path / "state"))
    names = ("--var", f"storage_account_name={azure.destinations[0].name}")
    azure.host_account.tags = {}
    hosted = ("--var", f"host_storage_account_name={azure.host_account.name}")
    result = tailpipe("deploy", "azure", "--yes", *given, *names, *hosted)
    assert result.exit_code == 0, result.stderr
    imports = terraform.calls("plan")[-1].imports
    site, host, account = azure.site, azure.host_account, azure.destinations[0]
    group = site.id.partition("/providers/")[0]
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    tailpipe_id = azure.world.service_principals[next(iter(azure.world.service_principals))]
    held = {one.role: one for one in azure.world.rights.of(tailpipe_id)}
    own = next(one for one in azure.world.rights.of(azure.principal) if one.scope == root)

    def assignment(scope: str, name: str) -> str:
        return f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"

    reader, monitor = held[BLOB_DATA_READER], held[MONITORING_READER]
    container = f"{account.id}/blobServices/default/containers/{CONTAINER}"
    assert imports == {
        "azurerm_resource_group.this": group,
        "azurerm_storage_account.host": host.id,
        f'azurerm_storage_account.destination["{account.name}"]': account.id,
        f'azurerm_storage_container.destination["{account.name}"]': container,
        'azurerm_storage_container.host["tailpipe-state"]': f"{host.id}/blobServices/default/containers/tailpipe-state",
        "azurerm_storage_management_policy.host": f"{host.id}/managementPolicies/default",
        "azurerm_service_plan.this": f"{group}/providers/Microsoft.Web/serverFarms/{site.name}",
        "azurerm_resource_group_template_deployment.function": (
            f"{group}/providers/Microsoft.Resources/deployments/{site.name}"
        ),
        'azurerm_monitor_scheduled_query_rules_alert_v2.this["failed"]': (
            f"{group}/providers/Microsoft.Insights/scheduledQueryRules/{site.name}-failed"
        ),
        "azurerm_application_insights_workbook.this[0]": (
            f"{group}/providers/Microsoft.Insights/workbooks/{workbook(azure)}"
        ),
        'azurerm_role_definition.function["management_group"]': f"{role_id(own.role)}|{root}",
        f'azurerm_role_assignment.function["management_group/{azure.tenant}"]': assignment(root, own.id),
        f'azurerm_role_assignment.connector["ReadExports/{account.name}"]': assignment(reader.scope, reader.id),
        f'azurerm_role_assignment.connector["ReadMetrics/{azure.tenant}"]': assignment(root, monitor.id),
    }
    assert terraform.calls("apply")[0].monotonic < min(one.at for one in azure.calls.select("*exports/write"))
    assert len(azure.exports()) == 3
    assert json.loads(result.stdout)["storage"]["accountName"] == account.name


def test_resources_beside_the_group_are_adopted(azure: LocalAzure, terraform: TerraformDouble, package: str) -> None:
    """A workbook of a launch template has a GUID of its own, and a secret may be in another subscription."""
    world, group = azure.world, azure.site.id.partition("/providers/")[0]
    vault = f"/subscriptions/{azure.subscription_ids[1]}/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/kept"
    secret, name = f"{vault}/secrets/webhook", made_up_id("assignment of the secret")
    [reader] = [one.id for one in world.rights.roles.values() if one.name == "Key Vault Secrets User"]
    world.rights.assign(secret, azure.principal, reader, name)
    title, guid = f"Tailpipe Exports: {azure.site.name}", made_up_id("workbook of the template")
    tagged = {"tags": dict(TAGS), "properties": {"displayName": title}}
    endpoint = f"{group}/providers/Microsoft.Network/privateEndpoints/host-blob"
    keep(world, f"{group}/providers/Microsoft.Insights/workbooks/{guid}", tagged)
    keep(world, endpoint, {"tags": dict(TAGS)})
    inside: dict[str, Any] = {"resource_group_name": azure.site.group}
    terraform.plan(
        [
            change("azurerm_application_insights_workbook.this[0]", name=azure.tenant, display_name=title, **inside),
            change('azurerm_private_endpoint.storage["host"]', name="host-blob", **inside),
            change(
                'azurerm_role_assignment.function_data["ReadSecret"]',
                scope=secret,
                role_definition_name="Key Vault Secrets User",
            ),
        ]
    )
    result = tailpipe("deploy", "azure", "--yes", "--var", "environment=prod", "--var", package)
    assert terraform.calls("plan")[-1].imports == {
        "azurerm_application_insights_workbook.this[0]": f"{group}/providers/Microsoft.Insights/workbooks/{guid}",
        'azurerm_private_endpoint.storage["host"]': endpoint,
        'azurerm_role_assignment.function_data["ReadSecret"]': (
            f"{secret}/providers/Microsoft.Authorization/roleAssignments/{name}"
        ),
    }, result.stderr


def test_destroy_stops_the_timer_first_and_keeps_exports_and_data(
    azure: LocalAzure, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """Kept resources are removed from the state after the timer is stopped and before the apply."""
    assert tailpipe("invoke", "azure").exit_code == 0
    account = azure.destinations[0].name
    stays = [
        "azurerm_resource_group.this",
        f'azurerm_storage_account.destination["{account}"]',
        f'azurerm_storage_container.destination["{account}"]',
        f'terraform_data.kept_data["{account}"]',
        'azurerm_resource_provider_registration.this["Microsoft.Storage"]',
    ]
    goes = [
        "azurerm_storage_account.host",
        'azuread_service_principal.tailpipe["tailpipe"]',
    ]
    terraform.hold([*stays, *goes])
    state = ("--local-state", str(tmp_path / "state"))
    azure.calls.clear()
    shown = tailpipe("destroy", "azure", "--dry-run", *state)
    assert (shown.exit_code, terraform.held(), writes(azure)) == (2, [*stays, *goes], []), shown.stderr
    assert "2 to remove" in shown.stderr
    assert "to be kept: every export, left delivering" in shown.stderr
    refused = tailpipe("destroy", "azure", "--confirm", azure.subscription_ids[0], *state)
    assert (refused.exit_code, terraform.calls("state", "rm"), azure.site.disabled(TIMER)) == (1, [], False)
    azure.calls.clear()
    result = tailpipe("destroy", "azure", "--confirm", azure.tenant, *state)
    assert result.exit_code == 0, result.stderr
    (removed,), (applied,) = terraform.calls("state", "rm"), terraform.calls("apply")
    stopped = azure.calls.select("Microsoft.Web/sites/config/write")[0].at
    assert stopped < removed.monotonic < applied.monotonic
    assert sorted(removed.argv[3:]) == sorted(f"{MODULE}{one}" for one in stays)
    assert (list(applied.applied), terraform.held()) == ([f"{MODULE}{one}" for one in goes], [])
    # Azure creates an alert rule and an action group, which would keep the resource group from being deleted.
    assert [action.lower() for action in writes(azure)] == [
        "microsoft.web/sites/config/write",
        "microsoft.alertsmanagement/smartdetectoralertrules/delete",
        "microsoft.insights/actiongroups/delete",
    ]
    assert any(one["name"] == azure.site.name for one in azure.world.resources.values() if "actionGroups" in one["id"])
    assert (azure.site.disabled(TIMER), azure.tick()) == (True, False)
    assert (len(azure.exports()), "module" in terraform.calls("plan")[-1].root) == (3, False)
    assert azure.site.key not in result.output


def test_destroy_deletes_our_exports_and_data_on_request(
    azure: LocalAzure, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """A failure does not stop the others, and the next call continues."""
    assert tailpipe("invoke", "azure").exit_code == 0
    azure.deliver()
    first, second, third = azure.subscription_ids
    azure.create_exports([second], name="Finance")
    _make_export_of_another_deployment(azure, third)
    terraform.hold(["azurerm_storage_account.host", 'azurerm_role_assignment.connector["a"]'])
    azure.fault("Microsoft.CostManagement/exports/delete", "Odd", "not now", status=400, resource=f"*{first}*")
    asked = ("--delete-exports", "--delete-data", "--keep-identity", "--confirm", azure.tenant)
    state = ("--local-state", str(tmp_path / "state"))
    shown = tailpipe("destroy", "azure", *asked, "--dry-run", *state)
    assert (shown.exit_code, len(azure.exports())) == (2, 5)
    assert "to be removed: 3 exports: " in shown.stderr
    assert f"TailpipeDataExport-{first[-6:]} of {first}" in " ".join(shown.stderr.split())
    assert f"all data in container {CONTAINER} of {azure.destinations[0].name}" in " ".join(shown.stderr.split())
    result = tailpipe("destroy", "azure", *asked, *state)
    assert (result.exit_code, terraform.calls("apply")) == (1, [])
    assert "not now" in result.stderr
    left = {"Finance", "TailpipeDataExport-other", f"TailpipeDataExport-{first[-6:]}"}
    assert {one["name"] for one in azure.exports()} == left
    result = tailpipe("destroy", "azure", *asked, *state)
    assert result.exit_code == 0, result.stderr
    assert {one["name"] for one in azure.exports()} == {"Finance", "TailpipeDataExport-other"}
    with azure.blob_client() as storage:
        assert not _there(storage)
    assert list(terraform.calls("apply")[0].applied) == [f"{MODULE}azurerm_storage_account.host"]


def test_deployment_without_its_function_can_be_removed(
    azure: LocalAzure, terraform: TerraformDouble, tmp_path: Path
) -> None:
    """Its exports have our mark and destination, so they are still shown and deleted."""
    azure.create_exports([azure.subscription_ids[0]], name="Finance", container="finance")
    assert tailpipe("invoke", "azure").exit_code == 0
    azure.world.sites.clear()
    terraform.hold(["azurerm_storage_account.host"])
    asked = ("destroy", "azure", "--delete-exports", "--local-state", str(tmp_path / "state"))
    shown = tailpipe(*asked, "--dry-run")
    assert (shown.exit_code, len(azure.exports())) == (2, 4), shown.stderr
    assert "to be removed: 3 exports" in " ".join(shown.stderr.split())
    result = tailpipe(*asked, "--confirm", azure.tenant)
    assert result.exit_code == 0, result.stderr
    assert [one["name"] for one in azure.exports()] == ["Finance"]
    assert terraform.held() == []


def test_shipped_role_is_sufficient_for_every_command(
    azure: LocalAzure, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """The custom role at the management group replaces Owner."""
    hold_shipped_role(azure)
    terraform.plan(deployed_plan(azure))
    given = ("--var", "environment=prod", "--var", package)
    names = ("--var", f"storage_account_name={azure.destinations[0].name}")
    hosted = ("--var", f"host_storage_account_name={azure.host_account.name}")
    for command in (
        ("doctor", "azure"),
        ("deploy", "azure", "--yes", *given, *names, *hosted),
        ("invoke", "azure"),
        ("onboarding", "azure"),
        ("destroy", "azure", "--delete-exports", "--delete-data", "--confirm", azure.tenant),
    ):
        result = tailpipe(*command)
        assert result.exit_code == 0, f"{command[0]}: {result.stderr}"
        assert "could not be" not in result.stderr, f"{command[0]}: {result.stderr}"
    assert (azure.exports(), denied(azure)) == ([], [])


def _make_export_of_another_deployment(azure: LocalAzure, subscription: str) -> None:
    """Create an export with our mark and a destination in another subscription."""
    azure.create_exports([subscription], name="TailpipeDataExport-other")
    (export,) = [one for one in azure.world.exports.at(f"/subscriptions/{subscription}") if one.name.endswith("-other")]
    body = export.body()
    body["properties"]["exportDescription"] = DESCRIPTION
    elsewhere = azure.destinations[0].id.replace(azure.subscription_ids[0], subscription)
    body["properties"]["deliveryInfo"]["destination"]["resourceId"] = elsewhere
    export.stored = json.dumps(body).encode()


def _there(storage: BlobServiceClient) -> bool:
    return storage.get_container_client(CONTAINER).exists()
