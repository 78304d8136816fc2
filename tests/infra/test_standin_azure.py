"""The Azure module is applied as it is, with a stand-in for its providers (`standin` says what that proves)."""

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
from tests.infra.planning import REPOSITORY, Workspace, standing_in
from tests.infra.refused_azure import ELSEWHERE, GOOD, ROOT
from tests.infra.standin.roots import Applied, apply
from tests.infra.standin.values import PRINCIPAL, SUBSCRIPTION, TENANT

SUFFIX = SUBSCRIPTION[-6:]
GROUP = "/providers/Microsoft.Management/managementGroups/contoso-root"
NETWORK = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/network/providers/Microsoft.Network"
FUNCTION_SUBNET = f"{NETWORK}/virtualNetworks/hub/subnets/function"
ZONE = f"{NETWORK}/privateDnsZones/privatelink.blob.core.windows.net"
# What the examples leave out: the policy that deploys, with identities, and an account in another subscription; storage
# that is closed, by private endpoints and by service endpoints.
OWN = {
    "policy": "deploy",
    "export_identity": True,
    "storage_closed": True,
    "function_subnet_id": FUNCTION_SUBNET,
    "private_endpoint_subnet_id": f"{NETWORK}/virtualNetworks/hub/subnets/endpoints",
    "private_dns_zone_id": ZONE,
    "further_destinations": [ELSEWHERE],
    "package": "${path.root}/../../../../dist/tailpipe-exports-azure.zip",
    "source": "../..",
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
}
# Which of the conditions in rights.yaml hold.
HOLDS = {
    "minimal": {"management_group", "export_key", "monitoring"},
    "complete": {"management_group", "export_identity", "monitoring"},
    "own": {"management_group", "export_identity", "monitoring", "policy_deploy", "policy_deploy_identity"},
    "closed": {"management_group", "export_identity", "monitoring"},
}
Deployed = Callable[[str], Applied]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Apply a deployment when it is first asked for."""
    known: dict[str, Applied] = {}

    def applied(name: str) -> Applied:
        if name not in known:
            with standing_in(Workspace(tmp_path_factory.mktemp(name), "azure")) as workspace:
                known[name] = apply(workspace, ROOTS[name])
        return known[name]

    return applied


@pytest.mark.parametrize("name", ROOTS)
def test_it_is_valid_applies_and_is_then_at_rest(deployed: Deployed, name: str) -> None:
    """Nothing is refused by the schema, everything is known in time, and a second plan has nothing to do."""
    steps = deployed(name).steps

    assert {step: done.code for step, done in steps.items()} == {"validate": 0, "apply": 0, "again": 0}, steps


@pytest.mark.parametrize("name", ROOTS)
def test_the_function_accepts_its_settings(deployed: Deployed, name: str) -> None:
    """What the module puts into the app's environment is what the function reads, and the template gets the same."""
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
def test_onboarding_has_the_keys_that_tailpipe_reads(deployed: Deployed, name: str) -> None:
    """The document has the contract's keys, with what only the command can fill in left empty."""
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
def test_the_assignments_are_the_grants_of_rights_yaml_and_no_more(deployed: Deployed, name: str) -> None:
    """Every grant whose condition holds is in effect at its place for its holder, and nothing else is."""
    applied = deployed(name)
    roles = {one["role_definition_resource_id"]: one["permissions"][0] for one in applied.of("azurerm_role_definition")}
    tailpipe = applied.outputs["connector"]["object_id"]
    found: set[tuple[str, str, str]] = set()
    for one in applied.of("azurerm_role_assignment"):
        holder = {PRINCIPAL: "function", tailpipe: "connector"}.get(one["principal_id"], "policy")
        role = roles.get(one["role_definition_id"] or "", {})
        names = [*(role.get("actions") or ()), *(role.get("data_actions") or ())] or [one["role_definition_name"]]
        found |= {(holder, one["scope"], right) for right in names}

    assert found == expected(applied, HOLDS[name])


def expected(applied: Applied, holds: set[str]) -> set[tuple[str, str, str]]:
    """Holder, place and right of every grant."""
    accounts = list(applied.outputs["destination"]["accounts"].values())
    first = applied.outputs["onboarding"]["storage"]["accountResourceId"]
    places = {
        "management_group": [GROUP],
        "destination_subscription": sorted({f"/subscriptions/{one.split('/')[2]}" for one in accounts}),
        "destination": accounts,
        "destination_container": [f"{one}/blobServices/default/containers/dataexport" for one in accounts],
        "state": [first.rpartition("/")[0] + f"/{applied.outputs['state']['account']}"],
        "telemetry": [applied.outputs["logs"]["application_insights"]],
    }
    rights = yaml.safe_load((REPOSITORY / "infra/azure/rights.yaml").read_text(encoding="utf-8"))
    return {
        (holder, place, right)
        for holder, grants in rights.items()
        for grant in grants
        if grant.get("when") is None or grant["when"] in holds
        # The policy cannot find the account that has room, so it uses the first one only.
        for place in ([first] if (holder, grant["scope"]) == ("policy", "destination") else places[grant["scope"]])
        for right in [*grant.get("actions", ()), *grant.get("data_actions", ()), *filter(None, [grant.get("role")])]
    }


@pytest.mark.parametrize("name", ROOTS)
def test_rights_over_rights_are_bound_to_one_role(deployed: Deployed, name: str) -> None:
    """A role that can assign roles can assign only Storage Blob Data Contributor, and only to service principals."""
    applied = deployed(name)
    roles = {one["role_definition_resource_id"]: one["permissions"][0] for one in applied.of("azurerm_role_definition")}
    writers = [
        one
        for one in applied.of("azurerm_role_assignment")
        if "Microsoft.Authorization/roleAssignments/write"
        in (roles.get(one["role_definition_id"] or "", {}).get("actions") or ())
    ]

    assert bool(writers) is ("export_identity" in HOLDS[name])
    for one in writers:
        assert one["condition"].count("{ba92f5b4-2d11-453d-a403-e96b0029c9fe}") == 2
        assert one["condition"].count("{'ServicePrincipal'}") == 2
        assert one["condition_version"] == "2.0"


def test_the_policy_creates_what_the_function_would(deployed: Deployed) -> None:
    """The export in the policy's template is the function's own, so that neither finds the other's to differ."""
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


def test_the_package_is_published_as_it_was_built_and_proven(deployed: Deployed) -> None:
    """Passwords are switched off, the archive goes up byte for byte without a build, and the functions are listed."""
    applied = deployed("minimal")
    site = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/tailpipe-dataexport/providers/Microsoft.Web/sites"
    app = f"{site}/tailpipe-exports-{SUFFIX}"
    package = hashlib.sha256(applied.workspace.package.read_bytes()).hexdigest()
    asked = [(one.method, one.path) for one in applied.asked]

    assert asked == [
        ("GET", app),
        ("PUT", f"{app}/basicPublishingCredentialsPolicies/scm"),
        ("PUT", f"{app}/basicPublishingCredentialsPolicies/ftp"),
        ("POST", "/api/publish"),
        ("GET", "/api/deployments/deployment-1"),
        ("GET", f"{app}/functions"),
    ]
    [published] = [one for one in applied.asked if one.path == "/api/publish"]
    assert "RemoteBuild=false" in published.query
    assert published.digest == package


def test_the_policy_remediates_after_its_first_evaluation(deployed: Deployed) -> None:
    """The assignment's state is read before the remediation is created; without a policy nothing is read."""
    asked = [one for one in deployed("own").asked if one.path.endswith("/summarize")]
    [remediation] = deployed("own").of("azurerm_management_group_policy_remediation")

    assert [one.path for one in asked] == [f"{GROUP}/providers/Microsoft.PolicyInsights/policyStates/latest/summarize"]
    assert remediation["policy_assignment_id"] in asked[0].query.replace("%2F", "/")
    assert not [one for one in deployed("complete").asked if one.path.endswith("/summarize")]


def test_the_policy_is_not_content_with_a_stopped_or_a_foreign_export(deployed: Deployed) -> None:
    """Compliant is an active export of our name that delivers to any of our accounts."""
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


def test_closed_storage_lets_exports_the_function_and_tailpipe_in(deployed: Deployed) -> None:
    """Both accounts refuse networks that are not listed; exports come as a trusted service, from any copy scope."""
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


def test_private_endpoints_take_the_place_of_service_endpoints(deployed: Deployed) -> None:
    """Each account made here has one for blobs, entered in the zone; no subnet is let in by the public address."""
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
def test_storage_is_open_and_the_function_in_no_network_unless_asked_for(deployed: Deployed, name: str) -> None:
    """Exports that write by key get into no closed account: nothing is closed by default."""
    applied = deployed(name)
    [template] = applied.of("azurerm_resource_group_template_deployment")

    assert {one["network_rules"][0]["default_action"] for one in applied.of("azurerm_storage_account")} == {"Allow"}
    assert json.loads(template["parameters_content"])["subnet"]["value"] == ""
    assert applied.of("azurerm_private_endpoint") == []


def test_no_deployment_needs_the_action_of_the_exports_services_registration(deployed: Deployed) -> None:
    """A custom role with an action that Azure does not publish is refused, and with it the whole deployment."""
    action = "microsoft.costmanagementexports/register/action"
    for name in ROOTS:
        roles = [one["permissions"][0]["actions"] or [] for one in deployed(name).of("azurerm_role_definition")]
        assert action not in {one.lower() for actions in roles for one in actions}
    operator = json.loads((REPOSITORY / "infra/azure/operator-role.json").read_text(encoding="utf-8"))
    assert action not in {one.lower() for one in operator["Actions"]}


def test_destroy_stops_at_the_delivered_data(deployed: Deployed) -> None:
    """Without the word given beforehand no container is deleted, and the message says how to give it."""
    applied = deployed("own")
    with standing_in(applied.workspace) as workspace:
        refused = workspace.terraform(applied.place, "destroy", "-auto-approve", "-no-color")
        left = workspace.terraform(applied.place, "state", "list").text

    assert refused.code == 1, refused
    assert "is kept: apply delete_data_on_destroy = true first" in refused.text
    assert f'azurerm_storage_container.destination["tailpipedataexport{SUFFIX}"]' in left
