"""Removal from AWS besides Terraform: stop, wait, and delete only our resources on request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aws_lambda.state_store import KEY
from cli.deployment.model import OperatorError, Removal
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployment import STACK_SET
from shared.runtime.clock import VirtualClock
from tests.aws_lambda.support import START, run
from tests.cli.support.aws import FUNCTION, account, at, hold, release, sign_in
from tests.localcloud.aws.iam.sessions import client_in

RULE = f"{FUNCTION}-accounts"
OURS = "tailpipe-dataexport"
KEEPING = Removal()
EVERYTHING = Removal(delete_exports=True, delete_data=True)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment in an organization of four accounts, signed in, after one run of the function."""
    with account(accounts=4) as cloud:
        sign_in(cloud, monkeypatch)
        assert run(cloud).report["status"] == "ok"
        yield cloud


def cleared(removal: Removal = KEEPING, sleep: Any = lambda _seconds: None) -> list[str]:
    """Clear, and return the progress messages."""
    operator = at(sleep)
    said: list[str] = []
    operator.clear(removal, said.append)
    return said


def objects(aws: LocalAws) -> list[str]:
    """Return the keys of all versions in the exports' bucket."""
    found = aws.client("s3").list_object_versions(Bucket=aws.deployment.bucket)
    return [one["Key"] for kind in ("Versions", "DeleteMarkers") for one in found.get(kind, [])]


def test_stop_disables_every_trigger(aws: LocalAws) -> None:
    """Schedule and both rules are disabled, and the reserved concurrency is zero; the schedule keeps its target."""
    home = client_in(aws, "events", "us-east-1")
    for client in (aws.client("events"), home):
        client.put_rule(Name=RULE, EventPattern=json.dumps({"source": ["aws.organizations"]}))
    scheduler = aws.client("scheduler")
    before = scheduler.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    operator = at()
    for _ in range(2):
        operator.stop_schedule(lambda _line: None)
        after = scheduler.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
        assert after["State"] == "DISABLED"
        for name in ("ScheduleExpression", "FlexibleTimeWindow"):
            assert after[name] == before[name]
        for name in ("Arn", "RoleArn", "Input"):
            assert after["Target"][name] == before["Target"][name]
        assert [one.describe_rule(Name=RULE)["State"] for one in (aws.client("events"), home)] == ["DISABLED"] * 2
        reserved = aws.client("lambda").get_function_concurrency(FunctionName=FUNCTION)
        assert reserved["ReservedConcurrentExecutions"] == 0
    home.close()


def test_repeated_removal_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """It also succeeds in an empty account."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        sign_in(cloud, monkeypatch)
        operator = at()
        said: list[str] = []
        operator.stop_schedule(said.append)
        operator.clear(EVERYTHING, said.append)
    assert said == []


def test_removal_waits_for_a_running_run(aws: LocalAws) -> None:
    """The message has the lock's expiry; the removal continues once the lock is free."""
    hold(aws, 10)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        assert aws.instances() != {}
        waits.append(seconds)
        if len(waits) == 3:
            release(aws)

    said = cleared(sleep=sleep)
    assert len(waits) == 3
    assert said[0].startswith("a run is in progress; its lock expires at ")
    assert [line for line in said if "in progress" in line] == said[:1]
    assert aws.instances() == {}


@pytest.mark.parametrize("minutes", [-5, 60 * 24 * 365])
def test_expired_or_damaged_lock_does_not_block(aws: LocalAws, minutes: float) -> None:
    """A lock for a year is damaged."""
    hold(aws, minutes)
    waits: list[float] = []
    assert not any("in progress" in line for line in cleared(sleep=waits.append))
    assert waits == []


def test_damaged_state_does_not_block(aws: LocalAws) -> None:
    """It has no lock."""
    for body in (b"not json", b"[]", b'{"running": {"until": 5}}', b'{"running": {"until": "soon"}}'):
        aws.client("s3").put_object(Bucket=aws.deployment.bucket, Key=KEY, Body=body)
        assert not any("in progress" in line for line in cleared(Removal(keep_identity=True)))


def test_member_roles_are_deleted_and_exports_and_data_kept(aws: LocalAws) -> None:
    """By default every instance is deleted, and joining accounts get none."""
    aws.deliver()
    before = objects(aws)
    said = cleared()
    assert f"deleting 3 instances of {STACK_SET} in 3 accounts" in said
    assert said[-1] == f"StackSet {STACK_SET} has no instances"
    aws.join_account(name="late")
    assert aws.instances() == {}
    assert (list(aws.exports()), objects(aws)) == ([OURS], before)


def test_unmarked_stack_set_is_kept(aws: LocalAws) -> None:
    """It may be that of the old scripts, which no deployment adopted."""
    client = aws.client("cloudformation")
    client.update_stack_set(
        StackSetName=STACK_SET,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "ExternalId", "UsePreviousValue": True}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
        Tags=[{"Key": "team", "Value": "finance"}],
    )
    assert cleared() == [f"StackSet {STACK_SET} is not marked as ours and is kept with its instances"]
    assert len(aws.instances()) == 3


def test_keep_identity_keeps_the_member_roles(aws: LocalAws) -> None:
    """Everything else can be removed."""
    cleared(Removal(keep_identity=True, delete_exports=True, delete_data=True))
    assert len(aws.instances()) == 3
    assert (aws.exports(), objects(aws)) == ({}, [])


def test_failed_deletion_of_an_instance_is_reported_and_the_others_deleted(aws: LocalAws) -> None:
    """Account, reason and remedies are shown; the same call later completes the removal."""
    stuck = sorted(aws.instances())[1]
    aws.fail_deployments(stuck, "Role is in use", times=None)
    with pytest.raises(OperatorError) as caught:
        cleared(EVERYTHING)
    assert list(aws.instances()) == [stuck]
    (fault,) = caught.value.problems
    assert fault.what.startswith(f"1 instances of {STACK_SET} could not be deleted ({stuck}): ")
    assert "Role is in use" in fault.what
    assert "RetainStacks" in fault.remedy
    assert list(aws.exports()) == [OURS]


def test_removal_waits_for_a_running_operation_and_shows_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """A StackSet allows one operation at a time; each change is one line."""
    with account(accounts=4, stackset_delay_s=30, clock=VirtualClock(START)) as cloud:
        sign_in(cloud, monkeypatch)
        root = cloud.client("organizations").list_roots()["Roots"][0]["Id"]
        cloud.client("cloudformation").create_stack_instances(
            StackSetName=STACK_SET, DeploymentTargets={"OrganizationalUnitIds": [root]}, Regions=["eu-west-1"]
        )
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            cloud.advance(seconds)

        said = cleared(sleep=sleep)
        assert cloud.instances() == {}
    assert len(waits) >= 12
    assert said[0].startswith("an operation runs: ")
    assert len([line for line in said if line.startswith("an operation runs")]) < len(waits)


def test_only_marked_exports_with_our_name_are_deleted(aws: LocalAws) -> None:
    """An unmarked export with our name is kept and reported; a second call succeeds."""
    client = aws.client("bcm-data-exports")
    arn = client.list_exports()["Exports"][0]["ExportArn"]
    definition = client.get_export(ExportArn=arn)["Export"]
    marks = client.list_tags_for_resource(ResourceArn=arn)["ResourceTags"]
    theirs = {**{name: value for name, value in definition.items() if name != "ExportArn"}, "Name": "finance"}
    client.create_export(Export=theirs, ResourceTags=marks)
    assert f"export {OURS} is deleted" in cleared(Removal(delete_exports=True))
    assert list(aws.exports()) == ["finance"]
    assert not any("finance" in line for line in cleared(Removal(delete_exports=True)))
    client.create_export(Export={**theirs, "Name": OURS})
    said = cleared(Removal(delete_exports=True))
    assert f"export {OURS} is not marked as ours and is kept; delete it manually if it is yours" in said
    assert sorted(aws.exports()) == ["finance", OURS]


def test_failed_removal_of_an_export_continues_with_the_next_call(aws: LocalAws) -> None:
    """AWS's message is shown, and nothing after it was changed."""
    aws.deliver()
    aws.fault("bcm-data-exports", "DeleteExport", "ValidationException", "not now")
    with pytest.raises(OperatorError, match="not now"):
        cleared(EVERYTHING)
    assert objects(aws) != []
    cleared(EVERYTHING)
    assert (aws.exports(), objects(aws)) == ({}, [])


def test_all_versions_of_the_data_are_deleted_in_pages(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes overwritten and deleted objects; the count is shown, and Terraform deletes the bucket."""
    client, bucket = aws.client("s3"), aws.deployment.bucket
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(5):
        for _ in range(2):
            client.put_object(Bucket=bucket, Key=f"dataexport/{number}", Body=b"x")
    client.delete_object(Bucket=bucket, Key="dataexport/0")
    monkeypatch.setattr("cli.deployment.aws.remove.KEYS_A_CALL", 4)
    number = len(objects(aws))
    assert number >= 11
    said = cleared(Removal(delete_exports=True, delete_data=True))
    assert objects(aws) == []
    counted = [line for line in said if "objects of" in line]
    assert counted[0] == f"4 objects of {bucket} are deleted"
    assert counted[-1] == f"{number} objects of {bucket} are deleted"
    assert bucket in [one["Name"] for one in client.list_buckets()["Buckets"]]


def test_data_that_cannot_be_deleted_is_reported(aws: LocalAws) -> None:
    """Each object has its own result; the command fails and says where to look."""
    aws.deliver()
    aws.deny("s3:DeleteObject")
    aws.deny("s3:DeleteObjectVersion")
    with pytest.raises(OperatorError) as caught:
        cleared(EVERYTHING)
    assert aws.deployment.bucket in caught.value.problems[0].what or "DeleteObject" in caught.value.problems[0].what
    assert caught.value.problems[0].remedy
    assert objects(aws) != []


def test_bucket_of_another_account_is_not_emptied(aws: LocalAws) -> None:
    """Every call has the expected owner."""
    other = aws.client("s3", "999988887777")
    other.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": aws.region})
    other.put_object(Bucket="theirs", Key="kept", Body=b"x")
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": aws.deployment.settings() | {"BUCKET_NAME": "theirs"}}
    )
    with pytest.raises(OperatorError):
        cleared(EVERYTHING)
    assert [one["Key"] for one in other.list_objects_v2(Bucket="theirs")["Contents"]] == ["kept"]


def test_kept_resources_have_their_terraform_addresses(aws: LocalAws) -> None:
    """The bucket is kept unless its data is to be deleted, the identity on request."""
    operator = at()
    (data,) = operator.kept(Removal())
    assert (data.addresses, aws.deployment.bucket in data.what) == (("aws_s3_bucket",), True)
    assert "exports continue to be delivered" in data.what
    assert "deliver" not in operator.kept(Removal(delete_exports=True))[0].what
    assert operator.kept(EVERYTHING) == []
    (identity,) = operator.kept(Removal(True, True, True))
    assert "StackSet" in identity.what
    assert set(identity.addresses) == {
        "aws_iam_role.connector",
        "aws_iam_role_policy.connector",
        "aws_iam_role_policies_exclusive.connector",
        "aws_iam_role_policy_attachments_exclusive.connector",
        "aws_cloudformation_stack_set",
    }
