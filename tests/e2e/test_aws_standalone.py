"""A standalone deployment in a member account, and its upgrade once the account has its own organization."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from cli.packaging import Target, build
from localcloud.aws.cloud import LocalAws
from tests.e2e.aws_deployment import CommandResult, Deployment, status_of, terraform_init
from tests.e2e.aws_rights import missing
from tests.localcloud.aws.helpers import (
    OTHER_MANAGEMENT,
    join_another_organization,
    manage_another_organization,
    members,
)

INIT = terraform_init()
pytestmark = [
    pytest.mark.slow,
    # In each deployment, Terraform's provider waits about 60 s for S3 and 30 s for SQS to become consistent.
    pytest.mark.long,
]
MEMBERS = 2
ROLE = "tailpipe-exports"
ALONE = frozenset({"connector"})  # the grants of a standalone deployment


@dataclass
class Scenario:
    """The result of each step by name, and what the account contained afterwards."""

    deployment: Deployment
    steps: dict[str, CommandResult] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Run the scenario once; the tests check its steps."""
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        join_another_organization(cloud)
        result = Scenario(Deployment(cloud, folder, INIT))
        deployment, steps, facts = result.deployment, result.steps, result.facts
        steps["without-setting"] = deployment.deploy(package, "--yes")
        facts["resources-before"] = deployed_resources(cloud)
        steps["deploy"] = deployment.deploy(package, "--yes", "--var", "account_kind=standalone")
        facts["fired"] = cloud.fire_schedule(name="tailpipe-exports", group="tailpipe-exports")
        steps["plan"] = deployment.laptop("plan", "aws", "--json")
        steps["doctor"] = deployment.laptop("doctor", "aws", "--json")
        facts["resources"] = deployed_resources(cloud)
        facts["granted"] = granted_actions(cloud)
        facts["used"] = {(one["action"], one["resource"]) for one in cloud.accesses(function_role(cloud))}
        manage_another_organization(cloud, MEMBERS)
        steps["invoke-alone"] = deployment.tailpipe("invoke", "aws", "--json")
        steps["deploy-all"] = deployment.deploy(package, "--yes")
        steps["plan-all"] = deployment.laptop("plan", "aws", "--json")
        facts["instances"], facts["members"] = sorted(cloud.instances()), sorted(members(cloud))
        everything = ("--delete-exports", "--delete-data", "--confirm", cloud.account)
        steps["destroy"] = deployment.tailpipe("destroy", "aws", *everything)
        facts["left"] = deployed_resources(cloud)
        yield result


def function_role(cloud: LocalAws) -> str:
    """Return the ARN of the function's role."""
    return f"arn:aws:iam::{cloud.account}:role/{ROLE}"


def deployed_resources(cloud: LocalAws) -> dict[str, list[str]]:
    """Return the names of the resources that a deployment creates."""
    roles = [one["RoleName"] for one in cloud.client("iam").list_roles()["Roles"]]
    return {
        "buckets": [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]],
        "roles": sorted(one for one in roles if one.startswith("tailpipe-")),
        "functions": [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]],
        "stack sets": [name for _, _, name in cloud.world.stacks.stack_sets],
        "rules": [one["Name"] for one in cloud.client("events").list_rules()["Rules"]],
        "exports": list(cloud.exports()),
    }


def granted_actions(cloud: LocalAws) -> set[str]:
    """Return the actions that the function's role allows."""
    answer = cloud.client("iam").get_role_policy(RoleName=ROLE, PolicyName="reconcile")
    return {action for one in answer["PolicyDocument"]["Statement"] for action in one["Action"]}


def test_deployment_in_a_member_account_requires_the_standalone_setting(scenario: Scenario) -> None:
    """The refusal names the management account and the variable to set. Nothing is created."""
    done = scenario.steps["without-setting"]
    assert done.code == 1, done
    message = " ".join(done.err.split())
    assert f"management account {OTHER_MANAGEMENT}" in message
    assert "--var account_kind=standalone" in message
    assert not any(scenario.facts["resources-before"].values())


def test_standalone_deployment_exports_the_accounts_own_costs(scenario: Scenario) -> None:
    """Function, export, bucket and connector role exist, and nothing that reaches other accounts."""
    done = scenario.steps["deploy"]
    assert done.code == 0, done
    assert "✗" not in done.err
    document = json.loads(done.out)
    assert document["isManagementAccount"] is False
    assert document["childAccounts"]["configured"] is False
    assert status_of(scenario.facts["fired"]["run"]["payload"]) == ("ok", 1)
    held = scenario.facts["resources"]
    functions = ["tailpipe-exports", "tailpipe-exports-events"]
    assert (held["functions"], held["exports"]) == (functions, ["tailpipe-dataexport"])
    assert held["roles"] == [
        "tailpipe-connector-role",
        *functions,
        "tailpipe-exports-forward",
        "tailpipe-exports-schedule",
    ]
    assert held["stack sets"] == []
    assert sorted(held["rules"]) == [
        f"tailpipe-exports-{name}" for name in ("bucket", "connector", "deliveries", "exports")
    ]


def test_standalone_function_has_no_organization_permissions(scenario: Scenario) -> None:
    """Terraform grants nothing for Organizations or StackSets, but everything that the runs used."""
    assert not [one for one in scenario.facts["granted"] if one.startswith(("organizations:", "cloudformation:"))]
    account = scenario.deployment.cloud.account
    assert account == "111122223333"
    assert missing(scenario.facts["used"], conditions=ALONE) == []


def test_local_plan_and_doctor_use_the_standalone_settings(scenario: Scenario) -> None:
    """With the deployed settings, a local plan finds no changes and doctor finds the function where it belongs."""
    plan, doctor = scenario.steps["plan"], scenario.steps["doctor"]
    assert plan.code == 0, plan
    assert status_of(json.loads(plan.out)) == ("ok", 1)
    assert doctor.code == 0, doctor
    assert [one["ok"] for one in json.loads(doctor.out)["surroundings"]] == [True]


def test_standalone_function_covers_its_new_organization_after_a_redeployment(scenario: Scenario) -> None:
    """Until then it serves its own account only. Redeployed without the setting, it gives each member its role."""
    alone, deployed, planned = (scenario.steps[name] for name in ("invoke-alone", "deploy-all", "plan-all"))
    assert status_of(json.loads(alone.out)) == ("ok", 1)
    assert deployed.code == 0, deployed
    summary = next(line for line in deployed.err.splitlines() if " to change" in line)
    assert "replace" not in summary
    assert scenario.facts["instances"] == scenario.facts["members"]
    assert planned.code == 0, planned
    assert status_of(json.loads(planned.out)) == ("ok", MEMBERS + 1)


def test_destroy_with_data_keeps_only_the_terraform_state(scenario: Scenario) -> None:
    """With exports and data included, nothing else of either deployment remains."""
    done = scenario.steps["destroy"]
    assert done.code == 0, done
    left = scenario.facts["left"]
    assert left.pop("buckets") == [f"tailpipe-terraform-{scenario.deployment.cloud.account}"]
    assert not any(left.values()), left
