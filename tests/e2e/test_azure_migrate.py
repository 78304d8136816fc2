"""A deployment that moves from the launch template to Terraform and back, on the local Azure, interrupted on each way.

Terraform is the double: the provider cannot use the local Azure, and docs/testing.md lists what that leaves out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from click.testing import Result

from cli.deployment.azure.rights import ROLE_NAME
from cli.deployment.azure.stack import AzureStack
from cli.deployment.model import OperatorError, Problem
from cli.deployment.terraform.engine import TerraformEngine
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER, TAILPIPE_APP
from tests.cli.support.azure import denied, hold_shipped_role, said, sign_in, tailpipe, template_variables, tenant
from tests.cli.support.terraform_double import TerraformDouble, change

pytestmark = [pytest.mark.long, pytest.mark.slow]
TAILPIPE = "00000000-0000-0000-0000-00000000c0de"
DATA, HOST = "tailpipedataexport00", "tailpipehost"
INTERRUPTED = OperatorError(Problem("interrupted by the test"))
TITLES = {
    "management_group": "exports",
    "destination_subscription": "registration",
    "destination": "destination",
}
OWN_ROLES = {"state": "Storage Blob Data Owner", "telemetry": "Monitoring Metrics Publisher"}


@dataclass
class Scenario:
    """The result of each step by name, and what the cloud contained after it."""

    azure: LocalAzure
    terraform: TerraformDouble
    steps: dict[str, Result] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self, name: str, *arguments: str) -> None:
        """Call the tool, and keep the result and the cloud's content under a name."""
        self.steps[name] = tailpipe(*arguments)
        self.facts[name] = content(self.azure)

    def interrupted(self, name: str, owner: type, method: str, *arguments: str) -> None:
        """Do the same while a step of the move fails."""
        with pytest.MonkeyPatch.context() as failing:
            failing.setattr(owner, method, interrupted)
            self.run(name, *arguments)


def interrupted(*_arguments: Any) -> None:
    """End a step as a failure of the cloud would."""
    raise INTERRUPTED


def content(azure: LocalAzure) -> dict[str, Any]:
    """Return everything that a move has to leave as it is: rights with their names, data, exports, settings, alarms."""
    world = azure.world
    blob = azure.blob_client(DATA).get_blob_client(CONTAINER, "tailpipe/kept")
    return {
        "assignments": {
            one.id: (one.scope.lower(), one.role, one.principal, one.condition)
            for principal in (azure.principal, TAILPIPE)
            for one in world.rights.of(principal)
        },
        "roles": {
            one.id: (one.name, one.actions, one.data_actions, one.scopes)
            for one in world.rights.roles.values()
            if one.custom and one.name != ROLE_NAME
        },
        "settings": dict(azure.site.settings),
        "identity": azure.site.principal,
        "accounts": {name: world.accounts[name].document("") for name in (DATA, HOST)},
        "data": blob.download_blob().readall(),
        "exports": azure.exports(),
        "resources": {
            name: one
            for name, one in world.resources.items()
            if "/deployments/" not in name and not name.endswith("/deployments")
        },
    }


def records(azure: LocalAzure) -> list[str]:
    """Return the names of the records of deployments."""
    found = azure.world.resources.values()
    return sorted(str(one["name"]) for one in found if one["type"] == "Microsoft.Resources/deployments")


def planned(azure: LocalAzure) -> list[dict[str, Any]]:
    """Return Terraform's plan with an empty state for this deployment."""
    site, host, account = azure.site, azure.world.accounts[HOST], azure.world.accounts[DATA]
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    group: dict[str, Any] = {"resource_group_name": site.group}
    container = f"{account.id}/blobServices/default/containers/{CONTAINER}"
    where = {"management_group": root, "destination_subscription": f"/subscriptions/{site.subscription}"}
    insights = f"{site.id.partition('/providers/')[0]}/providers/Microsoft.Insights/components/{site.name}"
    return [
        change("azurerm_resource_group.this", name=site.group, location="westeurope"),
        change("azurerm_storage_account.host", name=host.name, **group),
        change(f'azurerm_storage_account.destination["{DATA}"]', name=DATA, **group),
        change(f'azurerm_storage_container.destination["{DATA}"]', name=CONTAINER),
        change(f'azurerm_storage_management_policy.destination["{DATA}"]'),
        change("azurerm_service_plan.this", name=site.name, **group),
        change("azurerm_application_insights.this", name=site.name, **group),
        change("azurerm_resource_group_template_deployment.function", name=site.name, **group),
        *(
            change(f'azurerm_monitor_scheduled_query_rules_alert_v2.this["{one}"]', name=f"{site.name}-{one}", **group)
            for one in ("no-success", "failed", "missing", "manual", "excluded", "events")
        ),
        change(
            "azurerm_application_insights_workbook.this[0]",
            name=str(uuid5(NAMESPACE_URL, f"{site.subscription}/{site.name}")),
            display_name=f"Tailpipe Exports: {site.name}",
            **group,
        ),
        *(
            change(
                f'azurerm_role_definition.function["{at}"]',
                name=f"Tailpipe Exports, {title} ({site.name})",
                scope=where.get(at, site.id.partition("/providers/")[0]),
            )
            for at, title in TITLES.items()
        ),
        *(change(f'azurerm_role_assignment.function["{at}/one"]', scope=where.get(at, account.id)) for at in TITLES),
        *(
            change(
                f'azurerm_role_assignment.function_data["{at}"]',
                scope={"state": host.id, "telemetry": insights}[at],
                role_definition_name=role,
            )
            for at, role in OWN_ROLES.items()
        ),
        change(
            f'azurerm_role_assignment.connector["ReadExports/{DATA}"]',
            scope=container,
            role_definition_name="Storage Blob Data Reader",
        ),
        change(
            f'azurerm_role_assignment.connector["ReadMetrics/{azure.tenant}"]',
            scope=root,
            role_definition_name="Monitoring Reader",
        ),
        change("terraform_data.identity"),
        change("terraform_data.package"),
    ]


def rename_as_terraform(azure: LocalAzure) -> None:
    """Give roles, assignments and the workbook other GUIDs, as Terraform does when it creates them."""
    rights, resources = azure.world.rights, azure.world.resources
    renamed = {
        one.id: str(uuid5(NAMESPACE_URL, one.id))
        for one in rights.roles.values()
        if one.custom and one.name != ROLE_NAME
    }
    held = list(rights.assignments.values())
    for one in held:
        rights.remove(one.id)
    for old, new in renamed.items():
        rights.roles[new] = replace(rights.roles.pop(old), id=new)
    for one in held:
        ours = one.principal in (azure.principal, TAILPIPE)
        name = str(uuid5(NAMESPACE_URL, one.id)) if ours else one.id
        role = renamed.get(one.role, one.role)
        rights.assign(one.scope, one.principal, role, name, one.since, one.kind, one.condition)
    [workbook] = [name for name in resources if "/workbooks/" in name]
    document = resources.pop(workbook)
    name = str(uuid5(NAMESPACE_URL, str(document["name"])))
    where = f"{str(document['id']).rpartition('/')[0]}/{name}"
    resources[where.lower()] = {**document, "id": where, "name": name}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Play both moves once; the tests check their steps."""
    folder = tmp_path_factory.mktemp("moves")
    double = TerraformDouble(folder / "bin")
    with tenant(bare=True) as azure, pytest.MonkeyPatch.context() as patch:
        azure.world.service_principals[TAILPIPE_APP] = TAILPIPE
        sign_in(azure, patch)
        hold_shipped_role(azure)
        patch.delenv("DESTINATION", raising=False)
        patch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[0])
        patch.setenv("PATH", double.path)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        given = (*template_variables(folder), "--yes")
        made = Scenario(azure, double)
        assert tailpipe("deploy", "azure", "--with", "native", *given).exit_code == 0
        azure.blob_client(DATA).get_blob_client(CONTAINER, "tailpipe/kept").upload_blob(b"cost data")
        to_terraform(made, *given)
        rename_as_terraform(azure)
        to_native(made, *given)
        yield made


def to_terraform(made: Scenario, *given: str) -> None:
    """Move to Terraform, with each step refused or interrupted once."""
    azure, move = made.azure, ("migrate", "azure", "--to", "terraform", *given)
    plan = planned(azure)
    made.facts["native"] = content(azure)
    made.run("native already", "migrate", "azure", "--to", "native", *given)
    made.terraform.plan([*plan, change("azurerm_storage_account.other", ("delete", "create"), name="other")])
    made.run("replaced", *move)
    made.terraform.plan([*plan, change("azurerm_monitor_action_group.gone", name="gone", resource_group_name="gone")])
    made.run("partial template", *move)
    made.facts["held before"] = made.terraform.held()
    made.terraform.plan(plan)
    made.terraform.break_at("azurerm_service_plan.this")
    made.run("import interrupted", *move)
    made.terraform.break_at("")
    made.run("terraform over native", "deploy", "azure", *given)
    made.interrupted("records interrupted", AzureStack, "disband", *move)
    azure.fault("Microsoft.Resources/deployments/delete", "Odd", "not now", status=400)
    made.run("first record interrupted", *move)
    made.run("to terraform", *move)
    made.facts["records of terraform"] = records(azure)
    made.facts["held by terraform"] = made.terraform.held()
    made.run("terraform already", *move)
    made.run("doctor of terraform", "doctor", "azure")
    made.run("native over terraform", "deploy", "azure", "--with", "native", *given)


def to_native(made: Scenario, *given: str) -> None:
    """Move back to the template, with each step refused or interrupted once."""
    azure, move = made.azure, ("migrate", "azure", "--to", "native", *given)
    made.facts["terraform"] = content(azure)
    made.run("other settings", *move, "--var", "call_budget=7")
    made.run("other names", *move, "--var", "function_name=another")
    alarm = next(one for one in azure.world.resources if one.endswith("-no-success"))
    document = azure.world.resources.pop(alarm)
    made.run("partial terraform", *move)
    azure.world.resources[alarm] = document
    made.facts["records before"] = records(azure)
    made.interrupted("template interrupted", AzureStack, "_deploy", *move)
    azure.fault("Microsoft.Insights/workbooks/write", "Odd", "not now", status=400)
    made.run("template failed", *move)
    made.interrupted("package interrupted", AzureStack, "_publish", *move)
    made.interrupted("state interrupted", TerraformEngine, "forget", *move)
    made.facts["held when interrupted"] = made.terraform.held()
    made.run("to native", *move)
    made.facts["held at last"] = made.terraform.held()
    made.run("native again", *move)
    made.run("deploy native", "deploy", "azure", "--with", "native", *given)
    made.run("doctor", "doctor", "azure")
    made.run("invoke", "invoke", "azure")
    made.steps["destroy"] = tailpipe("destroy", "azure", "--confirm", azure.tenant)
    world = azure.world
    made.facts["left"] = (world.sites, records(azure), world.rights.of(azure.principal), len(azure.exports()))


def unchanged(scenario: Scenario, before: str, *steps: str) -> Mapping[str, Any]:
    """Return the steps after which the cloud's content was not what it was, with what differs."""
    wanted = scenario.facts[before]
    return {
        step: {
            name: (value, scenario.facts[step][name])
            for name, value in wanted.items()
            if scenario.facts[step][name] != value
        }
        for step in steps
        if scenario.facts[step] != wanted
    }


def test_move_to_terraform_is_refused_where_it_would_change_a_resource(scenario: Scenario) -> None:
    """A replacement, and a resource that the template did not make: nothing is imported, and the remedy is named."""
    for step, touched, remedy in (
        ("replaced", "azurerm_storage_account.other", "Give the values that are deployed"),
        ("partial template", "azurerm_monitor_action_group.gone", "deploy azure --with native"),
    ):
        result = scenario.steps[step]
        assert (result.exit_code, touched in said(result), remedy in said(result)) == (1, True, True)
    assert scenario.facts["held before"] == []
    assert unchanged(scenario, "native", "replaced", "partial template") == {}


def test_move_to_terraform_continues_after_each_interruption(scenario: Scenario) -> None:
    """Until the last record is gone the template holds the deployment, and Terraform alone is refused."""
    steps = ("import interrupted", "terraform over native", "records interrupted", "first record interrupted")
    assert [scenario.steps[one].exit_code for one in steps] == [1, 1, 1, 1]
    assert "migrate azure --to terraform" in said(scenario.steps["terraform over native"])
    moved = scenario.steps["to terraform"]
    assert moved.exit_code == 0, moved.stderr
    assert unchanged(scenario, "native", *steps, "to terraform") == {}
    assert len(scenario.facts["records of terraform"]) == 1


def test_terraform_holds_every_resource_that_the_template_made(scenario: Scenario) -> None:
    """Each is imported under the name that it has; then the deployment counts as Terraform's."""
    imports: dict[str, str] = {}
    for one in scenario.terraform.calls("plan"):
        imports |= one.imports
    assert set(imports) == {one for one in scenario.facts["held by terraform"] if not one.startswith("terraform_data")}
    held = scenario.facts["native"]
    assigned = {one.rsplit("/", 1)[-1] for address, one in imports.items() if "role_assignment" in address}
    assert assigned == set(held["assignments"])
    assert {
        one.partition("|")[0].rsplit("/", 1)[-1] for name, one in imports.items() if "role_definition" in name
    } == set(held["roles"])
    [workbook] = [one for one in held["resources"] if "/workbooks/" in one]
    assert imports["azurerm_application_insights_workbook.this[0]"].lower() == workbook
    already = scenario.steps["terraform already"]
    assert (already.exit_code, "is managed by Terraform already" in said(already)) == (0, True)
    assert "migrate azure --to native" in said(scenario.steps["native over terraform"])
    assert scenario.steps["doctor of terraform"].exit_code == 0


def test_move_to_the_template_is_refused_for_a_foreign_or_partial_deployment(scenario: Scenario) -> None:
    """Other settings, other names, and a missing alarm: nothing is deployed, and what would change is named."""
    for step, touched in (
        ("other settings", "Microsoft.Web/sites tailpipe-exports-"),
        ("other names", "another-"),
        ("partial terraform", "Microsoft.Insights/scheduledQueryRules Tailpipe Exports: no run"),
    ):
        result = scenario.steps[step]
        assert (result.exit_code, touched in said(result)) == (1, True), result.stderr
        assert "so nothing was moved" in said(result)
    assert unchanged(scenario, "terraform", "other settings", "other names") == {}
    assert scenario.facts["records before"] == scenario.facts["records of terraform"]


def test_move_to_the_template_continues_after_each_interruption(scenario: Scenario) -> None:
    """Names of roles and assignments, data, exports and settings are those that Terraform made, after every step."""
    steps = ("template interrupted", "template failed", "package interrupted", "state interrupted")
    assert [scenario.steps[one].exit_code for one in steps] == [1, 1, 1, 1]
    assert scenario.facts["held when interrupted"] == scenario.facts["held by terraform"]
    moved = scenario.steps["to native"]
    assert moved.exit_code == 0, moved.stderr
    assert "Terraform's state is empty; earlier versions of it stay in container tfstate" in said(moved)
    assert scenario.facts["held at last"] == []
    assert unchanged(scenario, "terraform", *steps, "to native") == {}


@pytest.mark.parametrize("step", ["native already", "native again"])
def test_second_move_to_the_template_changes_nothing(scenario: Scenario, step: str) -> None:
    """It says in one sentence that the deployment is there already."""
    again = scenario.steps[step]
    assert (again.exit_code, "is managed by Azure Resource Manager already" in said(again)) == (0, True)


def test_moved_deployment_is_updated_checked_called_and_removed(scenario: Scenario) -> None:
    """The next deployment finds nothing to change, and the removal leaves data and exports, but no right."""
    for step in ("deploy native", "doctor", "invoke", "destroy"):
        assert scenario.steps[step].exit_code == 0, scenario.steps[step].stderr
    assert "nothing to change" in said(scenario.steps["deploy native"])
    assert scenario.facts["left"] == ({}, [], (), len(scenario.azure.subscription_ids))


def test_operator_needs_no_right_beyond_the_shipped_role(scenario: Scenario) -> None:
    """The whole story is played with it alone, and Azure refuses no call."""
    assert denied(scenario.azure) == []
