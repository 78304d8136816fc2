"""What the earlier scripts left in an account is taken over by a deployment, left by a removal, and taken again."""

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
from localcloud.aws.services.export_tables import TABLES
from tests.e2e.aws_deployment import EXTERNAL_ID, REPOSITORY, Deployment, Done, organization, terraform_init
from tests.localcloud.aws.helpers import create_export, members, root
from tests.localcloud.aws.iam.sessions import client_in, document

INIT = terraform_init()
pytestmark = [
    pytest.mark.slow,
    # Terraform's provider waits for S3 and SQS to settle, about a minute and half a minute, in each deployment.
    pytest.mark.long,
]
MEMBERS = 2
CONNECTOR = "tailpipe-connector-role"
MEMBER_ROLE = "tailpipe-child-connector"
SCRIPTS_ROLE = "TailpipeCloudWatchRole"  # the logical id in the earlier scripts' template
WRONG_ID = "external-id-of-someone-else"
METRICS = {"Action": "cloudwatch:GetMetricStatistics", "Resource": "*"}
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
TAILPIPE = "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"


@dataclass
class Story:
    """What each step gave, by its name, and what the account held after it."""

    deployment: Deployment
    steps: dict[str, Done] = field(default_factory=dict)
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    undelivered: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, done: Done) -> None:
        """Keep a step with what the account holds now."""
        self.steps[name] = done
        self.held[name] = held(self.deployment.cloud)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Tell the story once; the tests look at its steps."""
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        organization(cloud, MEMBERS)
        earlier_scripts(cloud)
        told = Story(Deployment(cloud, folder, INIT))
        told.held["before"] = held(cloud)
        deployment, confirmed = told.deployment, ("--confirm", cloud.account)
        deployment.external_id = WRONG_ID
        told.step("wrong-id", deployment.deploy(package, "--yes"))
        deployment.external_id = EXTERNAL_ID
        told.step("dry-run", deployment.deploy(package, "--dry-run"))
        told.step("deploy", deployment.deploy(package, "--yes"))
        told.used = {action for action, _ in deployment.accesses()}
        told.undelivered = lose_event(cloud)
        told.step("destroy", deployment.tailpipe("destroy", "aws", *confirmed))
        told.step("again", deployment.deploy(package, "--yes"))
        everything = ("--delete-exports", "--delete-data")
        told.step("destroy-everything", deployment.tailpipe("destroy", "aws", *everything, *confirmed))
        yield told


def earlier_scripts(cloud: LocalAws) -> None:
    """Make what the scripts made, none of it marked: a bucket, an export with a delivery, a role, and a StackSet."""
    s3, iam, bucket = cloud.client("s3"), cloud.client("iam"), cloud.deployment.bucket
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": cloud.region})
    arn = f"arn:aws:s3:::{bucket}"
    services = {"Service": ["billingreports.amazonaws.com", "bcm-data-exports.amazonaws.com"]}
    allowed = {"Action": ["s3:PutObject", "s3:GetBucketPolicy"], "Resource": [arn, f"{arn}/*"], "Principal": services}
    s3.put_bucket_policy(Bucket=bucket, Policy=document({"Sid": "EnableDataExports", **allowed}))
    asked = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    trust = document({"Principal": {"AWS": TAILPIPE}, "Action": "sts:AssumeRole", "Condition": asked})
    iam.create_role(RoleName=CONNECTOR, AssumeRolePolicyDocument=trust)
    reading = document({"Action": ["s3:ListBucket", "s3:GetObject"], "Resource": [arn, f"{arn}/*"]}, METRICS)
    iam.put_role_policy(RoleName=CONNECTOR, PolicyName="TailpipeReadAccess", PolicyDocument=reading)
    properties = {"TIME_GRANULARITY": "HOURLY", "INCLUDE_RESOURCES": "TRUE"}
    columns = ", ".join(TABLES["COST_AND_USAGE_REPORT"].columns_with(properties))
    create_export(cloud, properties=properties, columns=columns)
    cloud.deliver()
    stack_set(cloud, trust)


def stack_set(cloud: LocalAws, trust: str) -> None:
    """Make the scripts' StackSet and roll it out."""
    client = cloud.client("cloudformation")
    client.activate_organizations_access()
    policies = [{"PolicyName": "CloudWatchReadAccess", "PolicyDocument": json.loads(document(METRICS))}]
    properties = {"RoleName": MEMBER_ROLE, "AssumeRolePolicyDocument": json.loads(trust), "Policies": policies}
    role = {"Type": "AWS::IAM::Role", "Properties": properties}
    client.create_stack_set(
        StackSetName=STACK_SET,
        TemplateBody=json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {SCRIPTS_ROLE: role}}),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
    )
    client.create_stack_instances(
        StackSetName=STACK_SET,
        DeploymentTargets={"OrganizationalUnitIds": [root(cloud)]},
        Regions=[cloud.region],
    )


def lose_event(cloud: LocalAws) -> list[dict[str, Any]]:
    """Have an account's event arrive while it cannot be passed on; return what is in the home region's queue then."""
    cloud.client("iam").delete_role_policy(RoleName="tailpipe-exports-forward", PolicyName="forward")
    home, buses = Where(cloud.account, "us-east-1"), cloud.world.buses
    detail = {"eventSource": "organizations.amazonaws.com", "eventName": "AccountJoinedOrganization"}
    buses.route(home, buses.event(home, "aws.organizations", "AWS Service Event via CloudTrail", detail))
    sqs = client_in(cloud, "sqs", home.region)
    url = sqs.get_queue_url(QueueName="tailpipe-exports-failed")["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url).get("Messages", [])
    sqs.close()
    return [json.loads(one["Body"]) for one in found]


def held(cloud: LocalAws) -> dict[str, Any]:
    """Return what is there of a deployment, by what tells a thing from one that was made anew."""
    s3, iam = cloud.client("s3"), cloud.client("iam")
    buckets = {one["Name"]: one["CreationDate"] for one in s3.list_buckets()["Buckets"]}
    data = s3.list_objects_v2(Bucket=cloud.deployment.bucket) if cloud.deployment.bucket in buckets else {}
    exports = cloud.client("bcm-data-exports").list_exports()["Exports"]
    listed = cloud.client("cloudformation").list_stack_sets(Status="ACTIVE")["Summaries"]
    roles = {one["RoleName"]: one["RoleId"] for one in iam.list_roles()["Roles"]}
    return {
        "buckets": buckets,
        "data": {one["Key"]: one["ETag"] for one in data.get("Contents", []) if one["Key"].startswith("dataexport/")},
        "exports": {one["ExportName"]: one["ExportArn"] for one in exports},
        "connector": roles.get(CONNECTOR),
        "roles": {name for name in roles if name.startswith("tailpipe-")},
        "stack sets": {one["StackSetName"]: one["StackSetId"] for one in listed},
        "instances": cloud.instances() if listed else {},
        "member roles": member_roles(cloud),
        "functions": [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]],
    }


def member_roles(cloud: LocalAws) -> dict[str, str]:
    """Return the unique id of the member role in each account that has it: a role made anew has another."""
    listed = {account: cloud.client("iam", account).list_roles()["Roles"] for account in members(cloud)}
    return {
        account: one["RoleId"] for account, roles in listed.items() for one in roles if one["RoleName"] == MEMBER_ROLE
    }


def test_every_member_role_survives_the_takeover(story: Story) -> None:
    """In each account it is the same role, with the agreed trust and our mark; none was deleted and made anew."""
    before, after = story.held["before"]["member roles"], story.held["deploy"]["member roles"]
    assert len(before) == MEMBERS
    assert after == before
    cloud = story.deployment.cloud
    assert set(story.held["deploy"]["instances"].values()) == {"SUCCEEDED"}
    assert cloud.account not in after


def test_a_takeover_with_the_wrong_external_id_changes_nothing(story: Story) -> None:
    """It would shut Tailpipe out of every account: refused before anything is planned, and neither id is shown."""
    done = story.steps["wrong-id"]
    assert done.code == 1, done
    said = " ".join(done.err.split())
    assert "is another one than the one that was given" in said
    assert WRONG_ID not in done.out + done.err
    assert EXTERNAL_ID not in done.out + done.err
    assert story.held["wrong-id"] == story.held["before"]


def test_a_dry_run_says_what_would_be_adopted_and_touches_nothing(story: Story) -> None:
    """Bucket, role and StackSet are found beforehand and planned to be adopted; the account is as it was."""
    done = story.steps["dry-run"]
    assert done.code == 0, done
    assert "✓ role tailpipe-connector-role · exists, trusts Tailpipe, and is adopted" in done.err
    said = " ".join(done.err.split())
    assert f"aws_s3_bucket.exports ← aws_s3_bucket {story.deployment.cloud.deployment.bucket}" in said
    assert f"aws_iam_role.connector[0] ← aws_iam_role {CONNECTOR}" in said
    assert f"aws_cloudformation_stack_set.members[0] ← aws_cloudformation_stack_set {STACK_SET}" in said
    assert story.held["dry-run"] == story.held["before"]


def test_everything_of_the_scripts_is_adopted_and_nothing_is_there_twice(story: Story) -> None:
    """The same bucket with its data, export, role, StackSet and instances go on; only what was missing is new."""
    done = story.steps["deploy"]
    assert done.code == 0, done
    assert "✗" not in done.err
    before, after = story.held["before"], story.held["deploy"]
    for name in ("exports", "connector", "stack sets", "instances"):
        assert after[name] == before[name], name
    assert before["data"].items() <= after["data"].items()
    bucket = story.deployment.cloud.deployment.bucket
    state = f"tailpipe-terraform-{story.deployment.cloud.account}"
    assert set(after["buckets"]) == {bucket, state}
    assert after["buckets"][bucket] == before["buckets"][bucket]
    assert after["functions"] == ["tailpipe-exports"]
    summary = next(line for line in done.err.splitlines() if " to adopt" in line)
    assert "remove" not in summary
    assert "replace" not in summary


def test_an_event_that_cannot_be_passed_on_is_kept(story: Story) -> None:
    """The rule in the home region has a dead-letter queue there, which takes what the function's region did not get."""
    (event,) = story.undelivered
    assert event["detail"]["eventName"] == "AccountJoinedOrganization"


def test_a_takeover_needs_the_deploy_policy_alone(story: Story) -> None:
    """Bringing what the scripts left into shape uses no action that only the policy for removals grants."""
    source = yaml.safe_load((REPOSITORY / "infra" / "aws" / "operator.yaml").read_text(encoding="utf-8"))
    granted = {action for one in source["deploy"] for action in one["actions"]}
    assert "iam:UpdateRoleDescription" in story.used
    assert story.used - granted == set()


def test_a_removal_by_default_leaves_bucket_exports_and_data(story: Story) -> None:
    """The identity and the function go; what was delivered and goes on to be delivered stays as it was."""
    done = story.steps["destroy"]
    assert done.code == 0, done
    before, after = story.held["deploy"], story.held["destroy"]
    for name in ("buckets", "data", "exports"):
        assert after[name] == before[name], name
    assert (after["roles"], after["functions"], after["stack sets"], after["instances"]) == (set(), [], {}, {})
    assert after["member roles"] == {}
    assert "goes on to deliver" in done.err or "go on to deliver" in done.err


def test_a_second_deployment_adopts_what_the_removal_left(story: Story) -> None:
    """Bucket and export of before are taken up again, and every member gets its role back."""
    done = story.steps["again"]
    assert done.code == 0, done
    before, after = story.held["destroy"], story.held["again"]
    for name in ("buckets", "exports"):
        assert after[name] == before[name], name
    assert before["data"].items() <= after["data"].items()
    assert after["instances"] == story.held["before"]["instances"]
    assert "aws_s3_bucket.exports ←" in " ".join(done.err.split())


def test_a_removal_of_everything_leaves_terraforms_state_alone(story: Story) -> None:
    """With exports and data asked for, what the scripts had made is gone with what the deployments made."""
    done = story.steps["destroy-everything"]
    assert done.code == 0, done
    left = story.held["destroy-everything"]
    assert set(left.pop("buckets")) == {f"tailpipe-terraform-{story.deployment.cloud.account}"}
    assert not any(left.values()), left
