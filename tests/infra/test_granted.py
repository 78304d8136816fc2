"""The output `granted` lists exactly the grants in a plan; `deploy` shows them before it applies.

On AWS, the policies are generated from the same list, which `tests/e2e/test_aws_deploy.py` reads from a plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cli.clouds import CLOUDS
from cli.deployment.grants import grants
from cli.deployment.terraform.binary import granted_in, types_of
from tests.infra import refused_azure, refused_gcp
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tools import modules

# Two accepted cases for each cloud, with few and with many options.
CASES = {
    "azure": {"few": {"monitoring_access": "none"}, "many": refused_azure.ACCEPTED["policy"]},
    "gcp": {"few": refused_gcp.ACCEPTED["no_copies"], "many": refused_gcp.ACCEPTED["accounts"]},
}
GOOD = {"azure": refused_azure.GOOD, "gcp": refused_gcp.GOOD}
Planned = Mapping[str, Any]  # a plan in Terraform's JSON form


@pytest.fixture(scope="module", params=["azure", "gcp"])
def plans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Planned]]:
    """Yield a cloud and Terraform's plan of both cases."""
    cloud = request.param
    workspace = Workspace(tmp_path_factory.mktemp(cloud), cloud)
    with stand_in_providers(workspace):
        root = {"azure": refused_azure.ROOT, "gcp": refused_gcp.ROOT}[cloud]
        yield cloud, _planned(workspace, root, CASES[cloud], GOOD[cloud])


def _planned(
    workspace: Workspace, root: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]], good: Mapping[str, Any]
) -> Planned:
    folder = workspace.folder / "root"
    folder.mkdir()
    given = {**good, "package": str(workspace.package)}
    calls = {case: {"source": str(workspace.module), **given, **values} for case, values in cases.items()}
    outputs = {case: {"value": f"${{module.{case}.granted}}"} for case in cases}
    document = {**root, "module": calls, "output": outputs}
    (folder / "main.tf.json").write_text(json.dumps(document), encoding="utf-8")
    workspace.init(folder)
    done = workspace.terraform(folder, "plan", "-refresh=false", "-lock=false", "-out=plan.bin", "-no-color")
    assert done.code == 0, done
    shown = workspace.terraform(folder, "show", "-json", "plan.bin")
    assert shown.code == 0, shown
    found: Planned = json.loads(shown.text.splitlines()[-1])
    return found


def _of(plan: Planned, case: str, type_: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the address and the planned values of each resource of a type."""
    for one in plan["resource_changes"]:
        if one["type"] == type_ and one["address"].startswith(f"module.{case}."):
            yield one["address"].partition(f"{type_}.")[2], one["change"]["after"]


def _made_on_gcp(plan: Planned, case: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"function": set(), "connector": set()}
    for scope in (
        "project",
        "organization",
        "billing_account",
        "bigquery_dataset",
        "pubsub_subscription",
        "pubsub_topic",
    ):
        for address, _ in _of(plan, case, f"google_{scope}_iam_member"):
            # this["function/RunJobs"], this["function/SeeBillingAccounts/012345-6789AB-CDEF01"]
            if address.startswith('this["'):
                holder, grant = address.removeprefix('this["').rstrip('"]').split("/")[:2]
                found[holder].add(grant)
    return found


def _actions(cloud: str, holder: str, ids: list[str]) -> set[str]:
    return {
        action
        for grant in grants(cloud)[holder]
        if grant["id"] in ids
        for action in (*grant.get("actions", ()), *grant.get("data_actions", ()))
    }


@pytest.mark.parametrize("case", ["few", "many"])
def test_output_lists_the_grants_of_the_plan(plans: tuple[str, Planned], case: str) -> None:
    """The bindings and role definitions in the plan are exactly those of the listed grants."""
    cloud, plan = plans
    granted = granted_in(plan, case)
    assert granted is not None
    if cloud == "azure":
        roles = [after["permissions"] for _, after in _of(plan, case, "azurerm_role_definition")]
        made = {
            action
            for role in roles
            for one in role
            for action in (*(one["actions"] or ()), *(one["data_actions"] or ()))
        }
        named = _actions(cloud, "function", granted["function"]) | _actions(cloud, "policy", granted["policy"])
        assert made == named
        assert ("DeployExport" in granted["policy"]) == (case == "many")
        return
    assert {who: set(ids) for who, ids in granted.items()} == _made_on_gcp(plan, case)


def test_alarms_of_a_plan_are_counted_by_type(plans: tuple[str, Planned]) -> None:
    """Each of the two module calls has the number of alarms in `local.alarms`."""
    cloud, plan = plans
    counted = list(types_of(plan)).count(CLOUDS[cloud].operator().alarm)
    assert counted == 2 * len(modules.read(REPOSITORY / "infra" / cloud).locals["alarms"])
