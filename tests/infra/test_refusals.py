"""`terraform plan` refuses invalid input, before anything is created, with one error that contains the remedy.

AWS plans use the real provider against the local AWS; Azure and GCP plans use a stand-in provider (see `standin`).
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
from tests.infra.planning import Refusal, Workspace, rules, stand_in_providers

# Terraform plans all cases of three modules, which takes 20 CPU seconds each and three times as many on AWS.
pytestmark = [pytest.mark.long, pytest.mark.slow]
CASES: dict[str, ModuleType] = {"aws": refused_aws, "azure": refused_azure, "gcp": refused_gcp}


@dataclass(frozen=True)
class Planned:
    """The errors of each case of a cloud, and all rules of its module."""

    refusals: Mapping[str, list[Refusal]]
    rules: Mapping[tuple[str, int], str]

    def one(self, case: str) -> Refusal:
        """Return the only error of a case."""
        found = self.refusals.get(case, [])
        assert len(found) == 1, found
        return found[0]


Plans = Callable[[str], Planned]


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """Return a function that plans all cases of a cloud on first use."""
    known: dict[str, Planned] = {}

    def planned(cloud: str) -> Planned:
        if cloud not in known:
            known[cloud] = _planned(cloud, tmp_path_factory.mktemp(cloud))
        return known[cloud]

    return planned


def _planned(cloud: str, folder: Path) -> Planned:
    workspace = Workspace(folder, cloud)
    if cloud != "aws":
        with stand_in_providers(workspace):
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
    """Plan as few times as possible; cases whose errors stop Terraform at different phases are planned separately."""
    good = cases.GOOD | {"package": str(workspace.package)}
    missing = {f"missing_{name}": {key: good[key] for key in good if key != name} for name in cases.MISSING}
    wrong = {f"wrong_{name}": good | given for name, (given, _) in cases.BY_VARIABLE.items()}
    accepted = {f"good_{name}": good | given for name, given in cases.ACCEPTED.items()}
    clashing = {f"clash_{name}": good | given for name, (given, _) in cases.COMBINATIONS.items()}
    refusals = workspace.refusals_apart("missing", root, missing)
    refusals |= workspace.refusals("wrong", root, wrong)
    refusals |= workspace.refusals("together", root, accepted | clashing)
    return Planned(refusals, rules(workspace))


def cases_of(table: str) -> list[Any]:
    """Return the cases of one table for all clouds."""
    return [pytest.param(cloud, name, id=f"{cloud}-{name}") for cloud in CASES for name in vars(CASES[cloud])[table]]


@pytest.mark.parametrize(("cloud", "name"), cases_of("MISSING"))
def test_missing_variable_is_reported_by_name(plans: Plans, cloud: str, name: str) -> None:
    """The plan fails with one error that names the variable."""
    assert f'"{name}" is required' in plans(cloud).one(f"missing_{name}").message


@pytest.mark.parametrize(("cloud", "name"), cases_of("BY_VARIABLE"))
def test_invalid_value_is_refused_with_a_remedy(plans: Plans, cloud: str, name: str) -> None:
    """The plan fails with one error, whose text is the module's own."""
    assert CASES[cloud].BY_VARIABLE[name][1] in plans(cloud).one(f"wrong_{name}").message


@pytest.mark.parametrize(("cloud", "name"), cases_of("COMBINATIONS"))
def test_conflicting_values_are_refused_with_a_remedy(plans: Plans, cloud: str, name: str) -> None:
    """Values that are each valid but conflict fail the plan with one error, whose text is the module's own."""
    assert CASES[cloud].COMBINATIONS[name][1] in plans(cloud).one(f"clash_{name}").message


@pytest.mark.parametrize(("cloud", "name"), cases_of("ACCEPTED"))
def test_valid_input_is_planned(plans: Plans, cloud: str, name: str) -> None:
    """No rule refuses valid input, such as the longest name and each option."""
    assert plans(cloud).refusals.get(f"good_{name}", []) == []


def test_consolidated_billing_requires_the_standalone_mode(plans: Plans) -> None:
    """Member roles require all features: the plan reports it, and succeeds without member roles."""
    assert 'Set account_kind = "standalone" to export all costs' in plans("aws").one("billing_management").message
    assert plans("aws").refusals.get("billing_standalone", []) == []


@pytest.mark.parametrize("cloud", list(CASES))
def test_every_rule_of_a_module_has_a_case(plans: Plans, cloud: str) -> None:
    """Each validation and each precondition refuses at least one case."""
    planned = plans(cloud)
    used = {refusal.rule for found in planned.refusals.values() for refusal in found}

    assert {line: rule for line, rule in planned.rules.items() if line not in used} == {}
