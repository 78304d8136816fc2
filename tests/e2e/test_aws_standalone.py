"""A member account that exports its own costs alone, deployed for real, and what becomes of it with an organization."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from cli.packaging import Target, build
from localcloud.aws.cloud import LocalAws
from tests.e2e.aws_deployment import Deployment, Done, status_of, terraform_init
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
    # Terraform's provider waits for S3 and SQS to settle, about a minute and half a minute, in each deployment.
    pytest.mark.long,
]
MEMBERS = 2
ROLE = "tailpipe-exports"
ALONE = frozenset({"connector"})  # the grants of a standalone deployment


@dataclass
class Story:
    """What each step gave, by its name, and what the account held after it."""

    deployment: Deployment
    steps: dict[str, Done] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Tell the story once; the tests look at its steps."""
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        join_another_organization(cloud)
        told = Story(Deployment(cloud, folder, INIT))
        deployment, steps, facts = told.deployment, told.steps, told.facts
        steps["unasked"] = deployment.deploy(package, "--yes")
        facts["made-unasked"] = made(cloud)
        steps["deploy"] = deployment.deploy(package, "--yes", "--var", "account_kind=standalone")
        facts["fired"] = cloud.fire_schedule(name="tailpipe-exports", group="tailpipe-exports")
        steps["plan"] = deployment.laptop("plan", "aws", "--json")
        steps["doctor"] = deployment.laptop("doctor", "aws", "--json")
        facts["made"] = made(cloud)
        facts["granted"] = granted(cloud)
        facts["used"] = {(one["action"], one["resource"]) for one in cloud.accesses(function_role(cloud))}
        manage_another_organization(cloud, MEMBERS)
        steps["invoke-alone"] = deployment.tailpipe("invoke", "aws", "--json")
        steps["deploy-all"] = deployment.deploy(package, "--yes")
        steps["plan-all"] = deployment.laptop("plan", "aws", "--json")
        facts["instances"], facts["members"] = sorted(cloud.instances()), sorted(members(cloud))
        everything = ("--delete-exports", "--delete-data", "--confirm", cloud.account)
        steps["destroy"] = deployment.tailpipe("destroy", "aws", *everything)
        facts["left"] = made(cloud)
        yield told


def function_role(cloud: LocalAws) -> str:
    """Return the ARN of the function's role."""
    return f"arn:aws:iam::{cloud.account}:role/{ROLE}"


def made(cloud: LocalAws) -> dict[str, list[str]]:
    """Return the names of what a deployment makes."""
    roles = [one["RoleName"] for one in cloud.client("iam").list_roles()["Roles"]]
    return {
        "buckets": [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]],
        "roles": sorted(one for one in roles if one.startswith("tailpipe-")),
        "functions": [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]],
        "stack sets": [name for _, _, name in cloud.world.stacks.stack_sets],
        "rules": [one["Name"] for one in cloud.client("events").list_rules()["Rules"]],
        "exports": list(cloud.exports()),
    }


def granted(cloud: LocalAws) -> set[str]:
    """Return the actions that the function's role allows."""
    answer = cloud.client("iam").get_role_policy(RoleName=ROLE, PolicyName="reconcile")
    return {action for one in answer["PolicyDocument"]["Statement"] for action in one["Action"]}


def test_a_member_account_is_not_deployed_to_unasked(story: Story) -> None:
    """The refusal names the management account and the one variable that decides; nothing is made."""
    done = story.steps["unasked"]
    assert done.code == 1, done
    said = " ".join(done.err.split())
    assert f"management account {OTHER_MANAGEMENT}" in said
    assert "--var account_kind=standalone" in said
    assert not any(story.facts["made-unasked"].values())


def test_a_member_account_alone_is_deployed_and_exports_its_own_costs(story: Story) -> None:
    """Function, export, bucket and connector role are there, and nothing that reaches into other accounts."""
    done = story.steps["deploy"]
    assert done.code == 0, done
    assert "✗" not in done.err
    document = json.loads(done.out)
    assert document["isManagementAccount"] is False
    assert document["childAccounts"]["configured"] is False
    assert status_of(story.facts["fired"]["run"]["payload"]) == ("ok", 1)
    held = story.facts["made"]
    assert (held["functions"], held["exports"]) == (["tailpipe-exports"], ["tailpipe-dataexport"])
    assert held["roles"] == ["tailpipe-connector-role", "tailpipe-exports", "tailpipe-exports-schedule"]
    assert (held["stack sets"], held["rules"]) == ([], [])


def test_a_standalone_function_holds_no_right_in_an_organization(story: Story) -> None:
    """What Terraform granted has nothing of Organizations and StackSets, and everything that the runs used."""
    assert not [one for one in story.facts["granted"] if one.startswith(("organizations:", "cloudformation:"))]
    account = story.deployment.cloud.account
    assert account == "111122223333"
    assert missing(story.facts["used"], conditions=ALONE) == []


def test_a_laptop_and_doctor_agree_with_a_standalone_function(story: Story) -> None:
    """The deployed settings are enough to plan nothing for one account, and doctor finds the function in its place."""
    plan, doctor = story.steps["plan"], story.steps["doctor"]
    assert plan.code == 0, plan
    assert status_of(json.loads(plan.out)) == ("ok", 1)
    assert doctor.code == 0, doctor
    assert [one["ok"] for one in json.loads(doctor.out)["surroundings"]] == [True]


def test_with_an_organization_of_its_own_it_goes_on_alone_until_it_is_deployed_again(story: Story) -> None:
    """The function serves its account as before; deployed without the setting, every member gets its role."""
    alone, deployed, planned = (story.steps[name] for name in ("invoke-alone", "deploy-all", "plan-all"))
    assert status_of(json.loads(alone.out)) == ("ok", 1)
    assert deployed.code == 0, deployed
    summary = next(line for line in deployed.err.splitlines() if " to change" in line)
    assert "replace" not in summary
    assert story.facts["instances"] == story.facts["members"]
    assert planned.code == 0, planned
    assert status_of(json.loads(planned.out)) == ("ok", MEMBERS + 1)


def test_a_removal_leaves_terraforms_state_alone(story: Story) -> None:
    """With exports and data asked for, nothing of either deployment is left."""
    done = story.steps["destroy"]
    assert done.code == 0, done
    left = story.facts["left"]
    assert left.pop("buckets") == [f"tailpipe-terraform-{story.deployment.cloud.account}"]
    assert not any(left.values()), left
