"""Permissions of a role's session, the errors of denied calls, and the call log."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.helpers import STACK_SET, create_export, create_instances, definition, members, root, targets
from tests.localcloud.aws.iam.sessions import Session, document, make_role
from tests.localcloud.control_client import ControlClient

READ_BUCKET = {"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::tailpipe-dataexport-*"}


def refusal(call: Any, **arguments: Any) -> str:
    """Return code and message of a denied call."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def test_role_has_only_the_permissions_of_its_policy(cloud: LocalAws) -> None:
    """The error has the service's code and names session, action and resource."""
    with Session(cloud, make_role(cloud, "reader", READ_BUCKET)) as role:
        s3 = role.client("s3")
        assert s3.list_objects_v2(Bucket=cloud.deployment.bucket)["KeyCount"] == 0
        outcome = refusal(s3.get_object, Bucket=cloud.deployment.bucket, Key="state/x")
        told_exports = refusal(role.client("bcm-data-exports", "us-east-1").list_exports)
    user = f"User: arn:aws:sts::{cloud.account}:assumed-role/reader/test is not authorized to perform"
    where = f"arn:aws:s3:::{cloud.deployment.bucket}/state/x"
    assert outcome.startswith(
        f"AccessDenied: {user}: s3:GetObject on resource: {where} because no identity-based policy"
    )
    assert told_exports.startswith(f"AccessDeniedException: {user}: bcm-data-exports:ListExports on resource: *")


def test_each_grant_is_evaluated_with_its_own_condition(cloud: LocalAws) -> None:
    """Two grants of one action with different conditions both apply, as on AWS."""
    grants = [{**READ_BUCKET, "Condition": {"StringLike": {"s3:prefix": f"{one}/*"}}} for one in ("runs", "state")]
    with Session(cloud, make_role(cloud, "reader", *grants)) as role:
        s3 = role.client("s3")
        for prefix in ("runs/1", "state/2"):
            s3.list_objects_v2(Bucket=cloud.deployment.bucket, Prefix=prefix)
        for options in ({"Prefix": "dataexport/"}, {}):
            assert "s3:ListBucket" in refusal(s3.list_objects_v2, Bucket=cloud.deployment.bucket, **options)


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({"Action": "s3:GetBucket*", "Resource": "*"}, True),
        ({"Action": "S3:getbucketpolicy", "Resource": "*"}, True),
        ({"NotAction": "s3:Put*", "Resource": "*"}, True),
        ({"NotAction": "s3:Get*", "Resource": "*"}, False),
        ({"Action": "s3:*", "NotResource": "arn:aws:s3:::tailpipe-*"}, False),
        ({"Action": "s3:*", "NotResource": "arn:aws:s3:::other-*"}, True),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::tailpipe.dataexport.111122223333"}, False),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::tailpipe?dataexport-${aws:PrincipalAccount}"}, True),
        ({"Action": "s3:*", "Resource": "arn:aws:s3:::tailpipe-dataexport-${aws:NoSuchKey}"}, False),
        (
            {
                "Action": "s3:*",
                "Resource": "*",
                "Condition": {"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}},
            },
            True,
        ),
        (
            {"Action": "s3:*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceAccount": "999999999999"}}},
            False,
        ),
    ],
)
def test_statements_are_evaluated_like_iam(cloud: LocalAws, statement: dict[str, Any], allowed: bool) -> None:
    """This covers wildcards, case, negated elements, variables and the resource's account."""
    with Session(cloud, make_role(cloud, "reader", statement)) as role:
        call = role.client("s3").get_bucket_policy
        if allowed:
            call(Bucket=cloud.deployment.bucket)
        else:
            assert "s3:GetBucketPolicy" in refusal(call, Bucket=cloud.deployment.bucket)


def test_deny_boundary_and_session_policy_limit_permissions(cloud: LocalAws) -> None:
    """The error names which of them denied the call."""
    iam = cloud.client("iam")
    everything = {"Action": "*", "Resource": "*"}
    boundary = iam.create_policy(
        PolicyName="edge", PolicyDocument=document({"Action": "organizations:*", "Resource": "*"})
    )
    bounded = make_role(cloud, "bounded", everything, PermissionsBoundary=boundary["Policy"]["Arn"])
    denied = make_role(cloud, "denied", everything, {"Effect": "Deny", "Action": "s3:List*", "Resource": "*"})
    free = make_role(cloud, "free", everything)
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        (bounded, {}, "no permissions boundary"),
        (denied, {}, "explicit deny in an identity"),
        (free, {"Policy": document({"Action": "iam:*", "Resource": "*"})}, "no session policy"),
    )
    for arn, more, because in cases:
        with Session(cloud, arn, **more) as role:
            assert because in refusal(role.client("s3").list_buckets)
    with Session(cloud, free) as role:
        role.client("s3").list_buckets()


def test_attached_policy_applies_in_its_default_version(cloud: LocalAws) -> None:
    """A new default version replaces the permissions of the old one."""
    iam = cloud.client("iam")
    policy = iam.create_policy(
        PolicyName="p", PolicyDocument=document({"Action": "s3:ListAllMyBuckets", "Resource": "*"})
    )
    arn = policy["Policy"]["Arn"]
    name = make_role(cloud, "attached")
    iam.attach_role_policy(RoleName="attached", PolicyArn=arn)
    with Session(cloud, name) as role:
        s3 = role.client("s3")
        s3.list_buckets()
        nothing = document({"Action": "iam:ListRoles", "Resource": "*"})
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=nothing, SetAsDefault=True)
        assert "s3:ListAllMyBuckets" in refusal(s3.list_buckets)


def test_creating_an_export_needs_permission_on_its_arn_and_table(cloud: LocalAws) -> None:
    """CreateExport is authorized on the export, the table, the billing view and the report definition."""
    home = f"arn:aws:bcm-data-exports:us-east-1:{cloud.account}"
    grants = [
        {"Action": "bcm-data-exports:*", "Resource": f"{home}:export/tailpipe-*"},
        {"Action": "bcm-data-exports:*", "Resource": f"{home}:table/COST_AND_USAGE_REPORT"},
        {"Action": "cur:PutReportDefinition", "Resource": f"arn:aws:cur:us-east-1:{cloud.account}:definition/*"},
        {"Action": "bcm-data-exports:*", "Resource": f"arn:aws:billing::{cloud.account}:billingview/primary"},
    ]
    with Session(cloud, make_role(cloud, "partial", grants[0], grants[2])) as role:
        exports = role.client("bcm-data-exports", "us-east-1")
        outcome = refusal(exports.create_export, Export=definition(cloud))
        assert f"{home}:table/COST_AND_USAGE_REPORT" in outcome
    with Session(cloud, make_role(cloud, "no-view", *grants[:3])) as role:
        exports = role.client("bcm-data-exports", "us-east-1")
        assert "billingview/primary" in refusal(exports.create_export, Export=definition(cloud))
    with Session(cloud, make_role(cloud, "full", *grants)) as role:
        exports = role.client("bcm-data-exports", "us-east-1")
        arn = exports.create_export(Export=definition(cloud))["ExportArn"]
        exports.get_export(ExportArn=arn)
        assert "export/mine" in refusal(exports.create_export, Export=definition(cloud, "mine"))


def test_stack_instances_need_permission_on_stack_set_target_and_type(cloud: LocalAws) -> None:
    """Reads need only the StackSet; deploying also needs the target and the template's resource types."""
    own = f"arn:aws:cloudformation:*:{cloud.account}"
    grant: dict[str, Any] = {"Action": "cloudformation:*", "Resource": [f"{own}:stackset/{STACK_SET}:*"]}
    request = {"StackSetName": STACK_SET, "Regions": [cloud.region], "DeploymentTargets": targets(cloud)}
    with Session(cloud, make_role(cloud, "reader", grant)) as role:
        stacks = role.client("cloudformation")
        stacks.list_stack_instances(StackSetName=STACK_SET)
        outcome = refusal(stacks.create_stack_instances, **request)
    assert f":stackset-target/{STACK_SET}:" in outcome
    assert outcome.partition(" because ")[0].endswith(root(cloud))
    grant["Resource"] += [
        f"{own}:stackset-target/{STACK_SET}:*",
        "arn:aws:cloudformation:*::type/resource/AWS-IAM-Role",
    ]
    with Session(cloud, make_role(cloud, "writer", grant)) as role:
        role.client("cloudformation").create_stack_instances(**request)
    assert set(cloud.instances()) == set(members(cloud))


def test_enforcement_can_be_disabled_and_exempts_account_credentials(cloud: LocalAws) -> None:
    """The credentials of `environment()` may do everything."""
    cloud.client("s3").list_buckets()
    with Session(cloud, make_role(cloud, "empty")) as role:
        s3 = role.client("s3")
        assert refusal(s3.list_buckets).startswith("AccessDenied")
        cloud.enforce(on=False)
        s3.list_buckets()
        cloud.enforce(on=True)
        assert refusal(s3.list_buckets).startswith("AccessDenied")


def test_get_caller_identity_needs_no_permission(cloud: LocalAws) -> None:
    """The call log shows this."""
    with Session(cloud, make_role(cloud, "empty")) as role:
        cloud.calls.clear()
        found = role.client("sts").get_caller_identity()
    assert found["Arn"].endswith(":assumed-role/empty/test")
    assert cloud.calls.select()[-1].needs == ()


def test_accesses_lists_the_used_permissions_over_http(cloud: LocalAws) -> None:
    """`accesses` has principal, action and full ARN of every allowed call, and no denied one."""
    arn = make_role(cloud, "reader", READ_BUCKET)
    remote = ControlClient(cloud.endpoint)
    with Session(cloud, arn) as role:
        cloud.calls.clear()
        s3 = role.client("s3")
        s3.head_bucket(Bucket=cloud.deployment.bucket)
        assert refusal(s3.get_bucket_policy, Bucket=cloud.deployment.bucket)
    create_export(cloud)
    create_instances(cloud)
    used = {"principal": arn, "action": "s3:ListBucket", "resource": f"arn:aws:s3:::{cloud.deployment.bucket}"}
    assert remote.accesses(principal=arn) == [used]
    everything = {(one["action"], one["resource"]) for one in remote.accesses()}
    table = f"arn:aws:bcm-data-exports:us-east-1:{cloud.account}:table/COST_AND_USAGE_REPORT"
    assert ("bcm-data-exports:CreateExport", table) in everything
    logged = [one for one in remote.calls() if one["error"]]
    assert [(one["principal"], one["needs"][0]["action"]) for one in logged] == [(arn, "s3:GetBucketPolicy")]


def test_missing_object_is_403_without_permission_to_list(cloud: LocalAws) -> None:
    """With s3:ListBucket it is 404."""
    read = {"Action": "s3:GetObject", "Resource": "*"}
    answers = {}
    for name, grants in {"blind": [read], "seeing": [read, READ_BUCKET]}.items():
        with Session(cloud, make_role(cloud, name, *grants)) as role:
            answers[name] = refusal(role.client("s3").get_object, Bucket=cloud.deployment.bucket, Key="state/none")
    assert answers["blind"].startswith("AccessDenied")
    assert answers["seeing"].startswith("NoSuchKey")


def test_bucket_with_a_customer_managed_key_needs_permission_on_it(cloud: LocalAws) -> None:
    """Writing needs kms:GenerateDataKey and reading kms:Decrypt, through S3; other buckets need neither."""
    arn = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    bucket = cloud.deployment.bucket
    objects = {"Action": ["s3:PutObject", "s3:GetObject"], "Resource": "*"}
    via = {"Condition": {"StringEquals": {"kms:ViaService": f"s3.{cloud.region}.amazonaws.com"}}}
    keys = {"Action": ["kms:GenerateDataKey", "kms:Decrypt"], "Resource": arn} | via
    with Session(cloud, make_role(cloud, "plain", objects)) as plain:
        plain.client("s3").put_object(Bucket=bucket, Key="before", Body=b"1")
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": arn}}
        cloud.client("s3").put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        assert "kms:GenerateDataKey" in refusal(plain.client("s3").put_object, Bucket=bucket, Key="x", Body=b"2")
        role = make_role(cloud, "keyed", objects, keys)
        with Session(cloud, role) as keyed:
            keyed.client("s3").put_object(Bucket=bucket, Key="x", Body=b"2")
            assert keyed.client("s3").get_object(Bucket=bucket, Key="x")["Body"].read() == b"2"
        assert "kms:Decrypt" in refusal(plain.client("s3").get_object, Bucket=bucket, Key="x")
        assert plain.client("s3").get_object(Bucket=bucket, Key="before")["Body"].read() == b"1"
    used = {(action, resource) for _, action, resource in cloud.calls.accesses(role)}
    assert {("kms:GenerateDataKey", arn), ("kms:Decrypt", arn)} <= used
