"""The connector's AWS permissions: Tailpipe's reader uses everything that the shipped files grant, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam import grants
from tests.aws_lambda.support import local_aws, members, run
from tests.e2e.aws_rights import ALL, KEY, Use, beyond, changed, missing, superfluous
from tests.e2e.test_aws_reader import HOUR, onboarding, other_role
from tests.readers.aws import TAILPIPE_ACCOUNT, TAILPIPE_ROLE, Reader, assumed, client

TEMPLATE = grants.RIGHTS.with_name("child-connector.yaml")
CONNECTOR, MEMBER = "tailpipe-connector-role", "tailpipe-child-connector"
PRINCIPAL = f"arn:aws:iam::{TAILPIPE_ACCOUNT}:role/{TAILPIPE_ROLE}"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    """Return an organization with the shipped member role and one delivery encrypted with a customer's key."""
    with local_aws() as cloud:
        policy = grants.policy("connector", cloud.deployment.names(KEY), ALL)
        iam = cloud.client("iam")
        iam.put_role_policy(RoleName=CONNECTOR, PolicyName="tailpipe-read", PolicyDocument=policy)
        given = {"ExternalId": cloud.deployment.external_id, "PrincipalArn": PRINCIPAL}
        cloud.client("cloudformation").update_stack_set(
            StackSetName=cloud.deployment.names()["stackset_name"],
            TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        run(cloud)
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
        cloud.client("s3").put_bucket_encryption(
            Bucket=cloud.deployment.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
        )
        cloud.deliver()
        yield cloud


@pytest.fixture(scope="module")
def tailpipe(aws: LocalAws) -> dict[str, str]:
    """Return the credentials of Tailpipe's own role."""
    return other_role(aws, TAILPIPE_ACCOUNT, TAILPIPE_ROLE)


@pytest.fixture(scope="module")
def used(aws: LocalAws, tailpipe: dict[str, str]) -> set[Use]:
    """Return the permissions that the connector used to read everything it needs."""
    reader = Reader(aws.endpoint, tailpipe, onboarding(aws))
    assert list(reader.rows())
    assert reader.metrics(aws.clock.now()) == []
    return uses(aws, f"arn:aws:iam::{aws.account}:role/{CONNECTOR}")


def uses(aws: LocalAws, role: str) -> set[Use]:
    """Return the permissions that a role used."""
    return {(one["action"], one["resource"]) for one in aws.accesses(role)}


def test_connector_is_granted_exactly_the_permissions_it_uses(used: set[Use]) -> None:
    """Outside the deployment's own resources, the connector can only read metrics."""
    assert superfluous(used, holder="connector") == []
    assert missing(used, holder="connector") == []
    assert beyond(holder="connector") == {"ReadMetrics: on *"}


def test_unused_permission_is_reported(used: set[Use], tmp_path: Path) -> None:
    """An action that the reader does not use is reported when it is added to a copy of the file."""

    def add(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == "ReadExports")["actions"].append("s3:GetObjectVersion")

    assert superfluous(used, changed(tmp_path, add, "connector"), "connector") == ["ReadExports: s3:GetObjectVersion"]


def test_key_can_be_used_through_s3_only(aws: LocalAws, tailpipe: dict[str, str]) -> None:
    """The grant on a customer's key does not allow the connector to call KMS directly."""
    kms = Reader(aws.endpoint, tailpipe, onboarding(aws)).client("kms")
    with pytest.raises(kms.exceptions.ClientError, match="AccessDenied"):
        kms.decrypt(KeyId=KEY, CiphertextBlob=b"x")


def test_member_role_is_granted_exactly_the_permissions_it_uses(aws: LocalAws, tailpipe: dict[str, str]) -> None:
    """The role of the shipped template has one statement, and reading metrics uses all of it."""
    member = members(aws)[0]
    role, iam = f"arn:aws:iam::{member}:role/{MEMBER}", aws.client("iam", member)
    session = assumed(aws.endpoint, aws.region, tailpipe, role, aws.deployment.external_id)
    metric = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "Period": 300, "Statistics": ["Average"]}
    now = aws.clock.now()
    metrics = client(aws.endpoint, aws.region, "cloudwatch", session)
    assert metrics.get_metric_statistics(StartTime=now - HOUR, EndTime=now, **metric)["Datapoints"] == []
    (name,) = iam.list_role_policies(RoleName=MEMBER)["PolicyNames"]
    assert iam.list_attached_role_policies(RoleName=MEMBER)["AttachedPolicies"] == []
    (held,) = iam.get_role_policy(RoleName=MEMBER, PolicyName=name)["PolicyDocument"]["Statement"]
    assert held["Sid"] == "ReadMetrics"  # from the shipped template, not from the local cloud's own
    assert {(held["Action"], held["Resource"])} == uses(aws, role)
