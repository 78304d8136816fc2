"""The Azure module, applied with stand-in providers (see `standin` for what that proves)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from azure_function import targets
from azure_function.resources import export_document
from azure_function.settings import read_settings
from shared.model import Key
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tests.infra.refused_azure import ELSEWHERE, GOOD, ROOT
from tests.infra.standin.roots import Applied, apply
from tests.infra.standin.values import PRINCIPAL, SUBSCRIPTION, TENANT
from tests.infra.template_azure import Body, arguments_of, differences, evaluated, parameters_of, read

SUFFIX = SUBSCRIPTION[-6:]
GROUP = "/providers/Microsoft.Management/managementGroups/contoso-root"
NETWORK = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/network/providers/Microsoft.Network"
FUNCTION_SUBNET = f"{NETWORK}/virtualNetworks/hub/subnets/function"
ZONE = f"{NETWORK}/privateDnsZones/privatelink.blob.core.windows.net"
# Options that the examples do not set: a policy that deploys, export identities, a destination in another subscription,
# and closed storage with private endpoints (OWN) or service endpoints (CLOSED).
OWN = {
    "policy": "deploy",
    "export_identity": True,
    "storage_closed": True,
    "function_subnet_id": FUNCTION_SUBNET,
    "private_endpoint_subnet_id": f"{NETWORK}/virtualNetworks/hub/subnets/endpoints",
    "private_dns_zone_id": ZONE,
    "further_destinations": [ELSEWHERE],
    "delivery_events": True,
    "package": "${path.root}/../../../../dist/tailpipe-exports-azure.zip",
    "source": "../..",
}
REGISTRY_WRITER = "00000000-0000-0000-0000-0000000000aa"
FLEET = {
    "fleet": True,
    "registry_writers": [REGISTRY_WRITER],
    "package": OWN["package"],
    "source": OWN["source"],
}
CLOSED = {
    "export_identity": True,
    "storage_closed": True,
    "storage_ip_rules": ["203.0.113.0/24"],
    "function_subnet_id": FUNCTION_SUBNET,
    "package": OWN["package"],
    "source": OWN["source"],
}
ROOTS: dict[str, Any] = {
    "minimal": "minimal",
    "complete": "complete",
    "own": ROOT | {"module": {"tailpipe_exports": GOOD | OWN}},
    "closed": ROOT | {"module": {"tailpipe_exports": GOOD | CLOSED}},
    "fleet": ROOT | {"module": {"tailpipe_exports": GOOD | FLEET}},
}
# The conditions in rights.yaml that hold.
CONDITIONS_MET = {
    "minimal": {"management_group", "export_key", "monitoring"},
    "complete": {"management_group", "export_identity", "monitoring"},
    "own": {
        "management_group",
        "export_identity",
        "monitoring",
        "deliveries",
        "policy_deploy",
        "policy_deploy_identity",
    },
    "closed": {"management_group", "export_identity", "monitoring"},
    "fleet": {"management_group", "export_key", "monitoring", "fleet"},
}
Deployed = Callable[[str], Applied]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Return a function that applies a deployment on first use."""
    known: dict[str, Applied] = {}

    def applied(name: str) -> Applied:
        if name not in known:
            with stand_in_providers(Workspace(tmp_path_factory.mktemp(name), "azure")) as workspace:
                known[name] = apply(workspace, ROOTS[name])
        return known[name]

    return applied


@pytest.mark.parametrize("name", ROOTS)
def test_module_applies_and_a_second_plan_is_empty(deployed: Deployed, name: str) -> None:
    """The module is valid, all values are known in time, and a second plan has no changes."""
    steps = deployed(name).steps

    assert {step: done.code for step, done in steps.items()} == {"validate": 0, "apply": 0, "again": 0}, steps


@pytest.mark.parametrize("name", ROOTS)
def test_function_accepts_its_settings(deployed: Deployed, name: str) -> None:
    """The function reads the settings that the module sets, and the app's template gets the same."""
    applied = deployed(name)
    settings = read_settings(applied.outputs["settings"])
    [template] = applied.of("azurerm_resource_group_template_deployment")
    given = yaml.safe_load(template["parameters_content"])["settings"]["value"]

    assert settings.group == "contoso-root"
    assert [one.name for one in settings.destination] == list(dict.fromkeys(one.name for one in settings.destination))
    assert {one.name for one in settings.destination} == set(applied.outputs["destination"]["accounts"])
    assert {one["name"]: one["value"] for one in given}.items() >= applied.outputs["settings"].items()
    assert "AzureWebJobsStorage" not in {one["name"] for one in given}


@pytest.mark.parametrize("name", ROOTS)
def test_onboarding_document_has_the_keys_that_tailpipe_reads(deployed: Deployed, name: str) -> None:
    """Values that only the command can fill in are empty."""
    document = deployed(name).outputs["onboarding"]

    assert {key: sorted(one) if isinstance(one, dict) else one for key, one in document.items()} == {
        "tenantId": TENANT,
        "tailpipe": ["appId", "servicePrincipalObjectId"],
        "monitoringAccess": ["managementGroupId", "mode", "subscriptions"],
        "storage": [
            "accountName", "accountResourceId", "blobEndpoint", "container", "paths", "resourceGroup", "subscriptionId",
        ],
        "costExports": ["billing", "perSubscription"],
        "automation": ["policyEnabled", "runbookEnabled"],
    }  # fmt: skip
    assert document["monitoringAccess"] == {
        "mode": "managementGroup",
        "managementGroupId": "contoso-root",
        "subscriptions": [],
    }
    assert document["storage"]["paths"] == {"billing": "tailpipe/billing", "subscriptions": []}
    assert document["storage"]["blobEndpoint"] == f"https://tailpipedataexport{SUFFIX}.blob.core.windows.net/"
    assert document["costExports"] == {"billing": None, "perSubscription": []}
    assert document["automation"] == {"policyEnabled": name in ("complete", "own"), "runbookEnabled": False}


@pytest.mark.parametrize("name", ROOTS)
def test_role_assignments_match_rights_yaml(deployed: Deployed, name: str) -> None:
    """Every grant whose condition holds is assigned to its holder at its scope, and no other is."""
    applied = deployed(name)
    roles = {one["role_definition_resource_id"]: one["permissions"][0] for one in applied.of("azurerm_role_definition")}
    tailpipe = applied.outputs["connector"]["object_id"]
    found: set[tuple[str, str, str]] = set()
    for one in applied.of("azurerm_role_assignment"):
        known = {PRINCIPAL: "function", tailpipe: "connector", REGISTRY_WRITER: "registry_writer"}
        holder = known.get(one["principal_id"], "policy")
        role = roles.get(one["role_definition_id"] or "", {})
        names = [*(role.get("actions") or ()), *(role.get("data_actions") or ())] or [one["role_definition_name"]]
        found |= {(holder, one["scope"], right) for right in names}

    assert found == expected(applied, CONDITIONS_MET[name])


def expected(applied: Applied, holds: set[str]) -> set[tuple[str, str, str]]:
    """Return holder, scope and permission of every grant."""
    accounts = list(applied.outputs["destination"]["accounts"].values())
    first = applied.outputs["onboarding"]["storage"]["accountResourceId"]
    places = {
        "management_group": [GROUP],
        "destination_subscription": sorted({f"/subscriptions/{one.split('/')[2]}" for one in accounts}),
        "destination": accounts,
        "destination_container": [f"{one}/blobServices/default/containers/dataexport" for one in accounts],
        "state": [first.rpartition("/")[0] + f"/{applied.outputs['state']['account']}"],
        "telemetry": [applied.outputs["logs"]["application_insights"]],
        "delivery_documents": [f"{first}/blobServices/default/containers/dataexport"],
        "delivery_topic": [one["id"] for one in applied.of("azurerm_eventgrid_topic")],
        "registry": [one["id"] for one in applied.of("azurerm_storage_container") if one["_name"] == "registry"],
    }
    rights = yaml.safe_load((REPOSITORY / "infra/azure/rights.yaml").read_text(encoding="utf-8"))
    return {
        (holder, place, right)
        for holder, grants in rights.items()
        for grant in grants
        if grant.get("when") is None or grant["when"] in holds
        # The policy cannot determine which account has capacity, so it uses only the first.
        for place in ([first] if (holder, grant["scope"]) == ("policy", "destination") else places[grant["scope"]])
        for right in [*grant.get("actions", ()), *grant.get("data_actions", ()), *filter(None, [grant.get("role")])]
    }


@pytest.mark.parametrize("name", ROOTS)
def test_role_assignment_permission_is_limited_to_one_role(deployed: Deployed, name: str) -> None:
    """An identity that can assign roles can assign only Storage Blob Data Contributor to service principals."""
    applied = deployed(name)
    roles = {one["role_definition_resource_id"]: one["permissions"][0] for one in applied.of("azurerm_role_definition")}
    writers = [
        one
        for one in applied.of("azurerm_role_assignment")
        if "Microsoft.Authorization/roleAssignments/write"
        in (roles.get(one["role_definition_id"] or "", {}).get("actions") or ())
    ]

    assert bool(writers) is ("export_identity" in CONDITIONS_MET[name])
    for one in writers:
        assert one["condition"].count("{ba92f5b4-2d11-453d-a403-e96b0029c9fe}") == 2
        assert one["condition"].count("{'ServicePrincipal'}") == 2
        assert one["condition_version"] == "2.0"


def test_policy_creates_the_same_export_as_the_function(deployed: Deployed) -> None:
    """Otherwise each would report the other's exports as drifted."""
    applied = deployed("own")
    settings = read_settings(applied.outputs["settings"])
    [policy] = applied.of("azurerm_policy_definition")
    details = json.loads(policy["policy_rule"])["then"]["details"]
    [resource] = details["deployment"]["properties"]["template"]["resources"]
    subscription = "00000000-0000-0000-0000-000000abcdef"
    written = json.dumps({key: resource[key] for key in ("properties", "identity", "location")})
    for expression, value in {
        "[parameters('from')]": "2026-05-06T00:00:00Z",
        "[parameters('storage')]": settings.destination[0].id,
        "[concat('tailpipe/subscriptions/', subscription().subscriptionId)]": f"tailpipe/subscriptions/{subscription}",
    }.items():
        written = written.replace(expression, value)
    place = targets.placement_of(Key(subscription, "export", "TailpipeDataExport-abcdef"))
    now = datetime(2026, 5, 5, 10, tzinfo=UTC)

    assert json.loads(written) == export_document.document(
        place, export_document.ExportVariant("ActualCost"), settings.destination[0], settings, now, None
    )
    assert details["name"] == "[concat('TailpipeDataExport-', substring(subscription().subscriptionId, 30, 6))]"


def test_package_is_published_unchanged_and_verified(deployed: Deployed) -> None:
    """Basic authentication is disabled, no remote build runs, and the deployed functions are listed."""
    applied = deployed("minimal")
    site = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/tailpipe-dataexport/providers/Microsoft.Web/sites"
    app = f"{site}/tailpipe-exports-{SUFFIX}"
    package = hashlib.sha256(applied.workspace.package.read_bytes()).hexdigest()
    requests = [(one.method, one.path) for one in applied.requests]

    assert requests == [
        ("GET", app),
        ("PUT", f"{app}/basicPublishingCredentialsPolicies/scm"),
        ("PUT", f"{app}/basicPublishingCredentialsPolicies/ftp"),
        ("POST", "/api/publish"),
        ("GET", "/api/deployments/deployment-1"),
        ("GET", f"{app}/functions"),
    ]
    [published] = [one for one in applied.requests if one.path == "/api/publish"]
    assert "RemoteBuild=false" in published.query
    assert published.digest == package


def test_policy_remediates_after_its_first_evaluation(deployed: Deployed) -> None:
    """The compliance state is read before the remediation is created; without a deploying policy, nothing is read."""
    requests = [one for one in deployed("own").requests if one.path.endswith("/summarize")]
    [remediation] = deployed("own").of("azurerm_management_group_policy_remediation")

    assert [one.path for one in requests] == [
        f"{GROUP}/providers/Microsoft.PolicyInsights/policyStates/latest/summarize"
    ]
    assert remediation["policy_assignment_id"] in requests[0].query.replace("%2F", "/")
    assert not [one for one in deployed("complete").requests if one.path.endswith("/summarize")]


def test_stopped_or_foreign_export_is_not_compliant(deployed: Deployed) -> None:
    """A compliant export is active, has our name, and delivers to one of our accounts."""
    applied = deployed("own")
    [policy] = applied.of("azurerm_policy_definition")
    [assignment] = applied.of("azurerm_management_group_policy_assignment")
    status, place = json.loads(policy["policy_rule"])["then"]["details"]["existenceCondition"]["allOf"]

    assert status == {"field": "Microsoft.CostManagement/exports/schedule.status", "equals": "Active"}
    assert place == {
        "field": "Microsoft.CostManagement/exports/deliveryInfo.destination.resourceId",
        "in": "[parameters('accounts')]",
    }
    accounts = json.loads(assignment["parameters"])["accounts"]["value"]
    assert set(accounts) == set(applied.outputs["destination"]["accounts"].values())
    assert set(json.loads(policy["parameters"])) == set(json.loads(assignment["parameters"]))


def test_closed_storage_admits_exports_the_function_and_tailpipe(deployed: Deployed) -> None:
    """Both accounts deny unlisted networks; exports write as a trusted service, from any copy scope."""
    applied = deployed("closed")
    accounts = {one["name"]: one for one in applied.of("azurerm_storage_account")}
    [rules] = accounts[f"tailpipedataexport{SUFFIX}"]["network_rules"]
    [host] = accounts[f"tailpipehost{SUFFIX}"]["network_rules"]
    [template] = applied.of("azurerm_resource_group_template_deployment")

    assert (rules["default_action"], rules["bypass"]) == ("Deny", ["AzureServices"])
    assert (rules["ip_rules"], rules["virtual_network_subnet_ids"]) == (["203.0.113.0/24"], [FUNCTION_SUBNET])
    assert (host["default_action"], host["bypass"]) == ("Deny", ["None"])
    assert (host["ip_rules"] or [], host["virtual_network_subnet_ids"]) == ([], [FUNCTION_SUBNET])
    assert {one["allowed_copy_scope"] for one in accounts.values()} == {None}
    assert {one["shared_access_key_enabled"] for one in accounts.values()} == {False}
    assert json.loads(template["parameters_content"])["subnet"]["value"] == FUNCTION_SUBNET
    assert applied.of("azurerm_private_endpoint") == []


def test_private_endpoints_replace_service_endpoints(deployed: Deployed) -> None:
    """Each account has a blob endpoint in the DNS zone, and its public endpoint admits no subnet."""
    applied = deployed("own")
    endpoints = {one["name"]: one for one in applied.of("azurerm_private_endpoint")}
    accounts = [one["name"] for one in applied.of("azurerm_storage_account")]

    assert set(endpoints) == {f"{one}-blob" for one in accounts}
    for one in endpoints.values():
        assert one["private_service_connection"][0]["subresource_names"] == ["blob"]
        assert one["private_dns_zone_group"][0]["private_dns_zone_ids"] == [ZONE]
    for account in applied.of("azurerm_storage_account"):
        assert account["network_rules"][0]["virtual_network_subnet_ids"] == []


@pytest.mark.parametrize("name", ["minimal", "complete"])
def test_storage_is_open_and_the_function_has_no_network_by_default(deployed: Deployed, name: str) -> None:
    """Exports that use the account key cannot write to closed storage."""
    applied = deployed(name)
    [template] = applied.of("azurerm_resource_group_template_deployment")

    assert {one["network_rules"][0]["default_action"] for one in applied.of("azurerm_storage_account")} == {"Allow"}
    assert json.loads(template["parameters_content"])["subnet"]["value"] == ""
    assert applied.of("azurerm_private_endpoint") == []


def test_no_role_has_the_unpublished_registration_action(deployed: Deployed) -> None:
    """Azure refuses a custom role with an action that it does not publish, and the deployment fails."""
    action = "microsoft.costmanagementexports/register/action"
    for name in ROOTS:
        roles = [one["permissions"][0]["actions"] or [] for one in deployed(name).of("azurerm_role_definition")]
        assert action not in {one.lower() for actions in roles for one in actions}
    operator = json.loads((REPOSITORY / "infra/azure/operator-role.json").read_text(encoding="utf-8"))
    assert action not in {one.lower() for one in operator["Actions"]}


def test_destroy_keeps_the_delivered_data(deployed: Deployed) -> None:
    """Unless `delete_data_on_destroy` was applied before, destroy fails with the remedy and keeps the container."""
    applied = deployed("own")
    with stand_in_providers(applied.workspace) as workspace:
        refused = workspace.terraform(applied.folder, "destroy", "-auto-approve", "-no-color")
        left = workspace.terraform(applied.folder, "state", "list").text

    assert refused.code == 1, refused
    assert "is kept: apply delete_data_on_destroy = true first" in refused.text
    assert f'azurerm_storage_container.destination["tailpipedataexport{SUFFIX}"]' in left


def of_templates(applied: Applied, name: str, old: str = "", new: str = "") -> list[Body]:
    """Return what the templates deploy with a root's arguments, with one text replaced in both."""
    root = ROOTS[name]
    arguments = arguments_of(name) if isinstance(root, str) else root["module"]["tailpipe_exports"]
    one, other = (json.dumps(read(file), indent=2) for file in ("template.json", "management-group.json"))
    assert old in one + other
    if old:
        one, other = one.replace(old, new), other.replace(old, new)
    return evaluated(applied, json.loads(one), json.loads(other), parameters_of(arguments, applied))


@pytest.mark.parametrize("name", ROOTS)
def test_templates_deploy_what_terraform_applies(deployed: Deployed, name: str) -> None:
    """Resource by resource, right by right, setting by setting; what differs is listed with its reason."""
    applied = deployed(name)
    assert differences(applied, of_templates(applied, name)) == []


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ('"Microsoft.CostManagement/exports/run/action"', '"Microsoft.CostManagement/exports/delete"', "permissions"),
        ("'Microsoft.Storage/storageAccounts/read'", "'Microsoft.Storage/storageAccounts/delete'", "permissions"),
        ('"defaultValue": 90,', '"defaultValue": 91,', "rule"),
        ("[string(parameters('callBudget'))]", "[string(1)]", "parameters_content"),
        ('"allowBlobPublicAccess": false', '"allowBlobPublicAccess": true', "allow_nested_items_to_be_public"),
        ("'-no-success')]", "'-no-succes')]", "is not in the templates"),
        ('"supportsHttpsTrafficOnly": true,', '"supportsHttpsTrafficOnly": true, "isHnsEnabled": true,', "nor listed"),
    ],
)
def test_change_of_the_template_alone_is_found(deployed: Deployed, old: str, new: str, difference: str) -> None:
    """Rights, a default, a setting, a property, a resource, and a property that the module does not set."""
    applied = deployed("minimal")
    found = differences(applied, of_templates(applied, "minimal", old, new))
    assert any(difference in one for one in found), found


def test_both_templates_have_the_same_parameters() -> None:
    """The group's passes every parameter on, so the same default applies to both scopes."""
    one, group = read("template.json")["parameters"], read("management-group.json")["parameters"]
    assert {name: group[name] for name in group if name in one} == {
        name: one[name] for name in one if name != "managementGroupId"
    }
    assert set(group) - set(one) == {"subscriptionId", "policy"}


def test_change_of_the_module_alone_is_found(deployed: Deployed) -> None:
    """Of an attribute, of a right, of a setting, and a resource that is gone."""
    applied = deployed("minimal")
    bodies = of_templates(applied, "minimal")
    for kind, change in {
        "azurerm_storage_account": {"min_tls_version": "TLS1_0"},
        "azurerm_monitor_scheduled_query_rules_alert_v2": {"severity": 4},
        "azurerm_role_assignment": {"principal_id": "another"},
        "azurerm_log_analytics_workspace": {"retention_in_days": 31},
    }.items():
        changed = [
            {**one, "values": one["values"] | change} if one["type"] == kind else one for one in applied.resources
        ]
        assert differences(applied, bodies, resources=changed) != [], kind
        gone = [one for one in applied.resources if one["type"] != kind]
        assert any("is not in the module" in one for one in differences(applied, bodies, resources=gone)), kind
