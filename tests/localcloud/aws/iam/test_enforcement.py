"""What a role's session may do, how it is refused, and what the call log proves."""

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
    """The code and message of a refused call."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


def test_a_role_may_do_what_its_policy_allows_and_nothing_else(cloud: LocalAws) -> None:
    """The refusal names the session, the action and the resource, in the service's code."""
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


def test_conditions_decide_and_one_that_is_not_met_refuses_nothing_else(cloud: LocalAws) -> None:
    """Two grants of one action with different conditions both count, as they do on AWS."""
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
def test_statements_are_read_as_iam_reads_them(cloud: LocalAws, statement: dict[str, Any], allowed: bool) -> None:
    """Wildcards, case, the negated elements, variables and the resource's account decide as documented."""
    with Session(cloud, make_role(cloud, "reader", statement)) as role:
        call = role.client("s3").get_bucket_policy
        if allowed:
            call(Bucket=cloud.deployment.bucket)
        else:
            assert "s3:GetBucketPolicy" in refusal(call, Bucket=cloud.deployment.bucket)


def test_a_deny_a_boundary_and_a_sessions_policy_take_rights_away(cloud: LocalAws) -> None:
    """Each says in the refusal that it was the one."""
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


def test_attached_policies_count_in_their_default_version(cloud: LocalAws) -> None:
    """A newer default replaces what the older version allowed."""
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


def test_an_export_needs_its_own_arn_and_its_tables(cloud: LocalAws) -> None:
    """CreateExport is authorized on the export, the table and its billing view, and as a report definition."""
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


def test_stack_instances_need_the_stack_set_its_targets_and_its_types(cloud: LocalAws) -> None:
    """Reads need the StackSet alone; deploying also needs the target and what the template makes."""
    own = f"arn:aws:cloudformation:*:{cloud.account}"
    grant: dict[str, Any] = {"Action": "cloudformation:*", "Resource": [f"{own}:stackset/{STACK_SET}:*"]}
    wanted = {"StackSetName": STACK_SET, "Regions": [cloud.region], "DeploymentTargets": targets(cloud)}
    with Session(cloud, make_role(cloud, "reader", grant)) as role:
        stacks = role.client("cloudformation")
        stacks.list_stack_instances(StackSetName=STACK_SET)
        outcome = refusal(stacks.create_stack_instances, **wanted)
    assert f":stackset-target/{STACK_SET}:" in outcome
    assert outcome.partition(" because ")[0].endswith(root(cloud))
    grant["Resource"] += [
        f"{own}:stackset-target/{STACK_SET}:*",
        "arn:aws:cloudformation:*::type/resource/AWS-IAM-Role",
    ]
    with Session(cloud, make_role(cloud, "writer", grant)) as role:
        role.client("cloudformation").create_stack_instances(**wanted)
    assert set(cloud.instances()) == set(members(cloud))


def test_enforcement_can_be_switched_off_and_never_binds_the_accounts_own_credentials(cloud: LocalAws) -> None:
    """What `environment()` holds may do everything; a role's session is restricted until that is switched off."""
    cloud.client("s3").list_buckets()
    with Session(cloud, make_role(cloud, "nobody")) as role:
        s3 = role.client("s3")
        assert refusal(s3.list_buckets).startswith("AccessDenied")
        cloud.enforce(on=False)
        s3.list_buckets()
        cloud.enforce(on=True)
        assert refusal(s3.list_buckets).startswith("AccessDenied")


def test_who_one_is_may_always_be_asked(cloud: LocalAws) -> None:
    """GetCallerIdentity needs no right, and the log says so."""
    with Session(cloud, make_role(cloud, "nobody")) as role:
        cloud.calls.clear()
        found = role.client("sts").get_caller_identity()
    assert found["Arn"].endswith(":assumed-role/nobody/test")
    assert cloud.calls.select()[-1].needs == ()


def test_the_log_tells_other_processes_who_used_which_right(cloud: LocalAws) -> None:
    """`accesses` holds principal, action and full ARN of everything that was let through, and nothing refused."""
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


def test_a_missing_object_is_hidden_from_who_may_not_list(cloud: LocalAws) -> None:
    """Without s3:ListBucket S3 says forbidden where it would say missing."""
    read = {"Action": "s3:GetObject", "Resource": "*"}
    answers = {}
    for name, grants in {"blind": [read], "seeing": [read, READ_BUCKET]}.items():
        with Session(cloud, make_role(cloud, name, *grants)) as role:
            answers[name] = refusal(role.client("s3").get_object, Bucket=cloud.deployment.bucket, Key="state/none")
    assert answers["blind"].startswith("AccessDenied")
    assert answers["seeing"].startswith("NoSuchKey")


def test_a_bucket_with_a_key_of_ones_own_needs_that_key(cloud: LocalAws) -> None:
    """Writing asks for a data key and reading for its decryption, through S3; other buckets need neither."""
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
