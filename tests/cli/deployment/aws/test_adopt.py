"""Remaining resources of the old scripts are found and adopted; missing ones are created."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest

from cli.deployment.model import Change
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_rounds import make_rounds
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import account, at, sign_in
from tests.localcloud.aws.iam.sessions import document

BUCKET, CONNECTOR, STACK_SET = "bucket", "connector role", "StackSet"
TAILPIPE = {"AWS": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return an organization without a deployment, signed in to its management account."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        cloud.join_account(name="member")
        sign_in(cloud, monkeypatch)
        yield cloud


def trust() -> str:
    """Return the principal that the scripts' roles trust."""
    asked = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
    return document({"Principal": TAILPIPE, "Action": "sts:AssumeRole", "Condition": asked})


def make_bucket(cloud: LocalAws) -> None:
    """Create the scripts' bucket without its policy and other settings."""
    where = {"LocationConstraint": cloud.region}
    cloud.client("s3").create_bucket(Bucket=cloud.deployment.bucket, CreateBucketConfiguration=where)


def make_connector(cloud: LocalAws) -> None:
    """Create the scripts' role without its policy."""
    cloud.client("iam").create_role(RoleName="tailpipe-connector-role", AssumeRolePolicyDocument=trust())


def make_stack_set(cloud: LocalAws) -> None:
    """Create the scripts' StackSet without its instances."""
    client = cloud.client("cloudformation")
    client.activate_organizations_access()
    properties = {"RoleName": "tailpipe-child-connector", "AssumeRolePolicyDocument": json.loads(trust())}
    role = {"Type": "AWS::IAM::Role", "Properties": properties}
    client.create_stack_set(
        StackSetName="Tailpipe-CloudWatch-Child-StackSet",
        TemplateBody=json.dumps({"Resources": {"TailpipeCloudWatchRole": role}}),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
    )


PARTS: dict[str, Callable[[LocalAws], None]] = {
    BUCKET: make_bucket,
    CONNECTOR: make_connector,
    STACK_SET: make_stack_set,
}


def planned(cloud: LocalAws) -> dict[str, Change]:
    """Return Terraform's creations with an empty state."""

    def created(kind: str, label: str, **after: str) -> Change:
        return Change(f"module.tailpipe.{kind}.{label}", kind, ("create",), after)

    return {
        BUCKET: created("aws_s3_bucket", "exports", bucket=cloud.deployment.bucket),
        CONNECTOR: created("aws_iam_role", "connector[0]", name="tailpipe-connector-role"),
        STACK_SET: created("aws_cloudformation_stack_set", "members[0]", name="Tailpipe-CloudWatch-Child-StackSet"),
    }


@pytest.mark.parametrize(
    "left", [parts for number in range(len(PARTS) + 1) for parts in combinations(PARTS, number)], ids=" and ".join
)
def test_remaining_resources_of_the_old_scripts_are_adopted(bare: LocalAws, left: tuple[str, ...]) -> None:
    """Whichever resources were deleted, the deployment succeeds and adopts exactly the others."""
    for part in left:
        PARTS[part](bare)
    operator = at()
    given = {"external_id": EXTERNAL_ID, "account_kind": "management"}
    assert [one for one in operator.preflight(given) if one.ok is not True] == []
    changes = planned(bare)
    adopted = {one.address for one in operator.adoptions(list(changes.values()), lambda _line: None)}
    assert adopted == {changes[part].address for part in left}


def test_dashboard_is_adopted_by_its_name(bare: LocalAws) -> None:
    """A dashboard missing from Terraform's state is imported if it exists, and created otherwise."""
    bare.client("cloudwatch").put_dashboard(DashboardName="tailpipe-exports", DashboardBody="{}")
    changes = [
        Change(name, "aws_cloudwatch_dashboard", ("create",), {"dashboard_name": name})
        for name in ("tailpipe-exports", "tailpipe-other")
    ]
    adopted = [(one.address, one.id) for one in at().adoptions(changes, lambda _line: None)]
    assert adopted == [("tailpipe-exports", "tailpipe-exports")]


def test_state_machine_and_template_of_tenants_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its import id; what does not exist is created."""
    with account(bare=True, fleet=True) as cloud:
        sign_in(cloud, monkeypatch)
        make_bucket(cloud)
        make_rounds(cloud.deployment, cloud.client)
        template = {"bucket": cloud.deployment.bucket, "key": "registry/tenant-role.yaml"}
        cloud.client("s3").put_object(Bucket=template["bucket"], Key=template["key"], Body=b"{}")
        wanted = {
            "machine": ("aws_sfn_state_machine", {"name": "tailpipe-exports-rounds"}),
            "no machine": ("aws_sfn_state_machine", {"name": "tailpipe-other-rounds"}),
            "template": ("aws_s3_object", template),
            "no template": ("aws_s3_object", {**template, "key": "registry/other.yaml"}),
            "template of a new bucket": ("aws_s3_object", {"key": "registry/tenant-role.yaml"}),
        }
        changes = [Change(address, kind, ("create",), after) for address, (kind, after) in wanted.items()]
        assert {one.address: one.id for one in at().adoptions(changes, lambda _line: None)} == {
            "machine": f"arn:aws:states:{cloud.region}:{cloud.account}:stateMachine:tailpipe-exports-rounds",
            "template": f"{template['bucket']}/{template['key']}",
        }
