"""Resources of the earlier scripts are adopted by a deployment, kept by destroy, and adopted again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from cli.packaging import Target, build
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.e2e.aws_deployment import REPOSITORY, CommandResult, Deployment, organization, terraform_init
from tests.e2e.earlier_scripts import CONNECTOR, STACK_SET, earlier_scripts, resources
from tests.localcloud.aws.iam.sessions import client_in

INIT = terraform_init()
pytestmark = [
    pytest.mark.slow,
    # In each deployment, Terraform's provider waits about 60 s for S3 and 30 s for SQS to become consistent.
    pytest.mark.long,
]
MEMBERS = 2
WRONG_ID = "external-id-of-someone-else"


@dataclass
class Scenario:
    """The result of each step by name, and what the account contained afterwards."""

    deployment: Deployment
    steps: dict[str, CommandResult] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    undelivered: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, done: CommandResult) -> None:
        """Record a step's result and the account's resources."""
        self.steps[name] = done
        self.resources[name] = resources(self.deployment.cloud)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Run the scenario once; the tests check its steps."""
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        organization(cloud, MEMBERS)
        earlier_scripts(cloud)
        result = Scenario(Deployment(cloud, folder, INIT))
        result.resources["before"] = resources(cloud)
        deployment, confirmed = result.deployment, ("--confirm", cloud.account)
        deployment.external_id = WRONG_ID
        result.step("wrong-id", deployment.deploy(package, "--yes"))
        deployment.external_id = EXTERNAL_ID
        result.step("dry-run", deployment.deploy(package, "--dry-run"))
        result.step("deploy", deployment.deploy(package, "--yes"))
        result.used = {action for action, _ in deployment.accesses()}
        result.undelivered = lose_event(cloud)
        result.step("destroy", deployment.tailpipe("destroy", "aws", *confirmed))
        result.step("again", deployment.deploy(package, "--yes"))
        everything = ("--delete-exports", "--delete-data")
        result.step("destroy-everything", deployment.tailpipe("destroy", "aws", *everything, *confirmed))
        yield result


def lose_event(cloud: LocalAws) -> list[dict[str, Any]]:
    """Send an account event that cannot be forwarded; return the messages in the home region's dead-letter queue."""
    cloud.client("iam").delete_role_policy(RoleName="tailpipe-exports-forward", PolicyName="forward")
    home, buses = Where(cloud.account, "us-east-1"), cloud.world.buses
    detail = {"eventSource": "organizations.amazonaws.com", "eventName": "AccountJoinedOrganization"}
    buses.route(home, buses.event(home, "aws.organizations", "AWS Service Event via CloudTrail", detail))
    sqs = client_in(cloud, "sqs", home.region)
    url = sqs.get_queue_url(QueueName="tailpipe-exports-failed")["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url).get("Messages", [])
    sqs.close()
    return [json.loads(one["Body"]) for one in found]


def test_adoption_keeps_every_member_role(scenario: Scenario) -> None:
    """Each account keeps its role. The trust policy is updated and our mark is added; no role is re-created."""
    before, after = scenario.resources["before"]["member roles"], scenario.resources["deploy"]["member roles"]
    assert len(before) == MEMBERS
    assert after == before
    cloud = scenario.deployment.cloud
    assert set(scenario.resources["deploy"]["instances"].values()) == {"SUCCEEDED"}
    assert cloud.account not in after


def test_adoption_with_a_wrong_external_id_is_refused(scenario: Scenario) -> None:
    """It would lock Tailpipe out of every account. The refusal precedes the plan and shows neither id."""
    done = scenario.steps["wrong-id"]
    assert done.code == 1, done
    message = " ".join(done.err.split())
    assert "differs from the given one" in message
    assert WRONG_ID not in done.out + done.err
    assert EXTERNAL_ID not in done.out + done.err
    assert scenario.resources["wrong-id"] == scenario.resources["before"]


def test_dry_run_lists_adopted_resources_and_changes_nothing(scenario: Scenario) -> None:
    """Bucket, role and StackSet are planned as imports, and the account does not change."""
    done = scenario.steps["dry-run"]
    assert done.code == 0, done
    assert "✓ role tailpipe-connector-role · exists, trusts Tailpipe, and is adopted" in done.err
    message = " ".join(done.err.split())
    assert f"aws_s3_bucket.exports ← aws_s3_bucket {scenario.deployment.cloud.deployment.bucket}" in message
    assert f"aws_iam_role.connector[0] ← aws_iam_role {CONNECTOR}" in message
    assert f"aws_cloudformation_stack_set.members[0] ← aws_cloudformation_stack_set {STACK_SET}" in message
    assert scenario.resources["dry-run"] == scenario.resources["before"]


def test_all_resources_of_the_scripts_are_adopted(scenario: Scenario) -> None:
    """Bucket, data, export, role, StackSet and instances are kept. Only missing resources are created."""
    done = scenario.steps["deploy"]
    assert done.code == 0, done
    assert "✗" not in done.err
    before, after = scenario.resources["before"], scenario.resources["deploy"]
    for name in ("exports", "connector", "stack sets", "instances"):
        assert after[name] == before[name], name
    assert before["data"].items() <= after["data"].items()
    bucket = scenario.deployment.cloud.deployment.bucket
    state = f"tailpipe-terraform-{scenario.deployment.cloud.account}"
    assert set(after["buckets"]) == {bucket, state}
    assert after["buckets"][bucket] == before["buckets"][bucket]
    assert after["functions"] == ["tailpipe-exports", "tailpipe-exports-events"]
    summary = next(line for line in done.err.splitlines() if " to adopt" in line)
    assert "remove" not in summary
    assert "replace" not in summary


def test_event_that_cannot_be_forwarded_is_kept_in_a_dead_letter_queue(scenario: Scenario) -> None:
    """The home region's rule has its own queue for events that do not reach the function's region."""
    (event,) = scenario.undelivered
    assert event["detail"]["eventName"] == "AccountJoinedOrganization"


def test_adoption_requires_only_the_deploy_policy(scenario: Scenario) -> None:
    """Adopting the scripts' resources uses no action that only the destroy policy grants."""
    source = yaml.safe_load((REPOSITORY / "infra" / "aws" / "operator.yaml").read_text(encoding="utf-8"))
    granted = {action for one in source["deploy"] for action in one["actions"]}
    assert "iam:UpdateRoleDescription" in scenario.used
    assert scenario.used - granted == set()


def test_destroy_keeps_bucket_exports_and_data_by_default(scenario: Scenario) -> None:
    """Roles and function are deleted. Exports and their data stay unchanged, and deliveries continue."""
    done = scenario.steps["destroy"]
    assert done.code == 0, done
    before, after = scenario.resources["deploy"], scenario.resources["destroy"]
    for name in ("buckets", "data", "exports"):
        assert after[name] == before[name], name
    assert (after["roles"], after["functions"], after["stack sets"], after["instances"]) == (set(), [], {}, {})
    assert after["member roles"] == {}
    assert "exports continue to be delivered" in done.err


def test_second_deployment_adopts_what_destroy_kept(scenario: Scenario) -> None:
    """Bucket and export are imported, and every member account gets its role again."""
    done = scenario.steps["again"]
    assert done.code == 0, done
    before, after = scenario.resources["destroy"], scenario.resources["again"]
    for name in ("buckets", "exports"):
        assert after[name] == before[name], name
    assert before["data"].items() <= after["data"].items()
    assert after["instances"] == scenario.resources["before"]["instances"]
    assert "aws_s3_bucket.exports ←" in " ".join(done.err.split())


def test_destroy_with_data_keeps_only_the_terraform_state(scenario: Scenario) -> None:
    """Resources of the scripts are deleted together with those of the deployments."""
    done = scenario.steps["destroy-everything"]
    assert done.code == 0, done
    left = scenario.resources["destroy-everything"]
    assert set(left.pop("buckets")) == {f"tailpipe-terraform-{scenario.deployment.cloud.account}"}
    assert not any(left.values()), left
