"""The Azure module is applied as it is, with a stand-in for its providers (`standin` says what that proves)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from azure_function import shape, targets
from azure_function.settings import read_settings
from shared.model import Key
from tests.infra.planning import REPOSITORY, Workspace, standing_in
from tests.infra.refused_azure import ELSEWHERE, GOOD, ROOT
from tests.infra.standin.roots import Applied, apply
from tests.infra.standin.values import PRINCIPAL, SUBSCRIPTION, TENANT

SUFFIX = SUBSCRIPTION[-6:]
GROUP = "/providers/Microsoft.Management/managementGroups/contoso-root"
# What the examples leave out: the policy that deploys, with identities, and an account in another subscription.
OWN = {
    "policy": "deploy",
    "export_identity": True,
    "further_destinations": [ELSEWHERE],
    "package": "${path.root}/../../../../dist/tailpipe-exports-azure.zip",
    "source": "../..",
}
ROOTS: dict[str, Any] = {
    "minimal": "minimal",
    "complete": "complete",
    "own": ROOT | {"module": {"tailpipe_exports": GOOD | OWN}},
}
# Which of the conditions in rights.yaml hold.
HOLDS = {
    "minimal": {"management_group", "export_key", "monitoring"},
    "complete": {"management_group", "export_identity", "monitoring"},
    "own": {"management_group", "export_identity", "monitoring", "policy_deploy", "policy_deploy_identity"},
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
    told = deployed(name).outputs["onboarding"]

    assert {key: sorted(one) if isinstance(one, dict) else one for key, one in told.items()} == {
        "tenantId": TENANT,
        "tailpipe": ["appId", "servicePrincipalObjectId"],
        "monitoringAccess": ["managementGroupId", "mode", "subscriptions"],
        "storage": [
            "accountName", "accountResourceId", "blobEndpoint", "container", "paths", "resourceGroup", "subscriptionId",
        ],
        "costExports": ["billing", "perSubscription"],
        "automation": ["policyEnabled", "runbookEnabled"],
    }  # fmt: skip
    assert told["monitoringAccess"] == {
        "mode": "managementGroup",
        "managementGroupId": "contoso-root",
        "subscriptions": [],
    }
    assert told["storage"]["paths"] == {"billing": "tailpipe/billing", "subscriptions": []}
    assert told["storage"]["blobEndpoint"] == f"https://tailpipedataexport{SUFFIX}.blob.core.windows.net/"
    assert told["costExports"] == {"billing": None, "perSubscription": []}
    assert told["automation"] == {"policyEnabled": name != "minimal", "runbookEnabled": False}


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
        # The policy cannot tell which account has room, so it knows the first one only.
        for place in ([first] if (holder, grant["scope"]) == ("policy", "destination") else places[grant["scope"]])
        for right in [*grant.get("actions", ()), *grant.get("data_actions", ()), *filter(None, [grant.get("role")])]
    }


@pytest.mark.parametrize("name", ROOTS)
def test_rights_over_rights_are_bound_to_one_role(deployed: Deployed, name: str) -> None:
    """Whoever may assign roles may assign Storage Blob Data Contributor to service principals, and nothing else."""
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
    place = targets.place_of(Key(subscription, "export", "TailpipeDataExport-abcdef"))
    now = datetime(2026, 5, 5, 10, tzinfo=UTC)

    assert json.loads(written) == shape.document(
        place, shape.Wanted("ActualCost"), settings.destination[0], settings, now, None
    )
    assert details["name"] == "[concat('TailpipeDataExport-', substring(subscription().subscriptionId, 30, 6))]"


def test_the_package_is_published_by_the_azure_cli(deployed: Deployed) -> None:
    """Signing in by password is switched off, and then the zip goes to the app of this deployment, once."""
    applied = deployed("minimal")
    calls = [" ".join(call) for call in applied.published()]
    name = f"tailpipe-exports-{SUFFIX}"

    assert [call.split("--name ")[1].split()[0] for call in calls] == ["scm", "ftp", name]
    assert all("properties.allow=false" in call and f"sites/{name}" in call for call in calls[:2])
    assert "deployment source config-zip" in calls[2]
    assert str(applied.workspace.package.name) in calls[2]


def test_destroy_stops_at_the_delivered_data(deployed: Deployed) -> None:
    """Without the word given beforehand no container is deleted, and the message says how to give it."""
    applied = deployed("own")
    with standing_in(applied.workspace) as workspace:
        refused = workspace.terraform(applied.place, "destroy", "-auto-approve", "-no-color")
        left = workspace.terraform(applied.place, "state", "list").text

    assert refused.code == 1, refused
    assert "is kept: apply delete_data_on_destroy = true first" in refused.text
    assert f'azurerm_storage_container.destination["tailpipedataexport{SUFFIX}"]' in left
