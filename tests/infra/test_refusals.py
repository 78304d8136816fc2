"""Bad input is refused by `terraform plan`, before anything is made, with one error that says what to write instead.

AWS is planned by its own provider against the local AWS, Azure and Google Cloud by a stand-in (see `standin`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from tests.infra import refused_aws, refused_azure, refused_gcp, terraform
from tests.infra.planning import Refusal, Workspace, rules, standing_in

# Terraform plans every case of three modules.
pytestmark = pytest.mark.long
CASES: dict[str, ModuleType] = {"aws": refused_aws, "azure": refused_azure, "gcp": refused_gcp}


@dataclass(frozen=True)
class Planned:
    """What each case of a cloud was refused with, and the rules by which its module refuses."""

    refusals: Mapping[str, list[Refusal]]
    rules: Mapping[tuple[str, int], str]

    def one(self, case: str) -> Refusal:
        """The one error of a case."""
        found = self.refusals.get(case, [])
        assert len(found) == 1, found
        return found[0]


Plans = Callable[[str], Planned]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """Plan all cases of a cloud when the first of them is asked for."""
    known: dict[str, Planned] = {}

    def planned(cloud: str) -> Planned:
        if cloud not in known:
            known[cloud] = _planned(cloud, tmp_path_factory.mktemp(cloud))
        return known[cloud]

    return planned


def _planned(cloud: str, folder: Path) -> Planned:
    workspace = Workspace(folder, cloud)
    if cloud != "aws":
        with standing_in(workspace):
            return _plan(workspace, CASES[cloud], CASES[cloud].ROOT)
    terraform.binary()
    workspace.init_arguments = terraform.plugin_arguments("aws")
    with LocalAws(bare=True) as local:
        local.client("organizations").create_organization(FeatureSet="ALL")
        member = local.join_account(name="member")
        workspace.environment |= local.environment()
        root = refused_aws.root(member)
        planned = _plan(workspace, refused_aws, root)
        assert local.organization
        local.organization.feature_set = "CONSOLIDATED_BILLING"
        good = refused_aws.GOOD | {"package": str(workspace.package)}
        billing = {f"billing_{kind}": good | {"account_kind": kind} for kind in ("management", "standalone")}
        refusals = {**planned.refusals, **workspace.refusals("billing", root, billing)}
        return Planned(refusals, planned.rules)


def _plan(workspace: Workspace, cases: ModuleType, root: dict[str, Any]) -> Planned:
    """Plan as few times as possible: each kind of refusal ends a plan at another point; the first ends it at once."""
    good = cases.GOOD | {"package": str(workspace.package)}
    missing = {f"missing_{name}": {key: good[key] for key in good if key != name} for name in cases.MISSING}
    wrong = {f"wrong_{name}": good | given for name, (given, _) in cases.BY_VARIABLE.items()}
    accepted = {f"good_{name}": good | given for name, given in cases.ACCEPTED.items()}
    clashing = {f"clash_{name}": good | given for name, (given, _) in cases.TOGETHER.items()}
    refusals = workspace.refusals_apart("missing", root, missing)
    refusals |= workspace.refusals("wrong", root, wrong)
    refusals |= workspace.refusals("together", root, accepted | clashing)
    return Planned(refusals, rules(workspace))


# The plans of AWS are made by the real provider, which takes longest; the deployment's own story plans with it too.
MARKS = {"aws": [pytest.mark.slow]}


def every(table: str) -> list[Any]:
    """The cases of one kind in all clouds."""
    return [
        pytest.param(cloud, name, id=f"{cloud}-{name}", marks=MARKS.get(cloud, []))
        for cloud in CASES
        for name in vars(CASES[cloud])[table]
    ]


@pytest.mark.parametrize(("cloud", "name"), every("MISSING"))
def test_what_is_left_out_is_asked_for_by_name(plans: Plans, cloud: str, name: str) -> None:
    """What has no default and is not given ends the plan with one error that names it."""
    assert f'"{name}" is required' in plans(cloud).one(f"missing_{name}").said


@pytest.mark.parametrize(("cloud", "name"), every("BY_VARIABLE"))
def test_a_wrong_value_is_refused_with_what_to_write(plans: Plans, cloud: str, name: str) -> None:
    """A value that its variable does not take ends the plan with one error in the module's own words."""
    assert CASES[cloud].BY_VARIABLE[name][1] in plans(cloud).one(f"wrong_{name}").said


@pytest.mark.parametrize(("cloud", "name"), every("TOGETHER"))
def test_values_that_clash_are_refused_with_what_to_write(plans: Plans, cloud: str, name: str) -> None:
    """Values that are right alone and wrong together end the plan with one error in the module's own words."""
    assert CASES[cloud].TOGETHER[name][1] in plans(cloud).one(f"clash_{name}").said


@pytest.mark.parametrize(("cloud", "name"), every("ACCEPTED"))
def test_good_input_is_planned(plans: Plans, cloud: str, name: str) -> None:
    """No rule refuses valid input, such as the longest name and each optional choice."""
    assert plans(cloud).refusals.get(f"good_{name}", []) == []


@pytest.mark.slow
def test_an_organization_with_consolidated_billing_alone_is_served_without_members(plans: Plans) -> None:
    """Member roles need all features: the plan says so before anything is created, and works without member roles."""
    assert 'Set account_kind = "standalone" to export all costs' in plans("aws").one("billing_management").said
    assert plans("aws").refusals.get("billing_standalone", []) == []


@pytest.mark.parametrize("cloud", [pytest.param(cloud, marks=MARKS.get(cloud, [])) for cloud in CASES])
def test_every_rule_of_a_module_refuses_something_here(plans: Plans, cloud: str) -> None:
    """Each validation and each precondition refuses at least one of the cases."""
    planned = plans(cloud)
    used = {refusal.rule for found in planned.refusals.values() for refusal in found}

    assert {where: what for where, what in planned.rules.items() if where not in used} == {}
