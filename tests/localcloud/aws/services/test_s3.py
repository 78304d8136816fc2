"""S3 where it differs from moto."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, members


def code(caught: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    """Return the error's code and HTTP status."""
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_deployed_bucket_is_private_encrypted_and_has_lifecycle_rules(cloud: LocalAws) -> None:
    """Its policy has both statements, and exports move to cheaper storage classes."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    sids = [one["Sid"] for one in json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]]
    assert sids == ["TailpipeTlsOnly", "TailpipeDataExports"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rules[0]["Transitions"][0]["StorageClass"] == "STANDARD_IA"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == cloud.region


def test_wrong_expected_owner_is_403(cloud: LocalAws) -> None:
    """This holds for reads and writes."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", ExpectedBucketOwner=cloud.account)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", ExpectedBucketOwner="999999999999")
    assert code(caught) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="999999999999")
    assert code(caught) == ("403", 403)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_bucket_is_denied_to_other_accounts(cloud: LocalAws) -> None:
    """Only its policy can allow them."""
    other = cloud.client("s3", members(cloud)[0])
    with pytest.raises(ClientError) as caught:
        other.list_objects_v2(Bucket=cloud.deployment.bucket)
    assert code(caught) == ("AccessDenied", 403)


def test_deny_policy_blocks_reads_but_not_the_policy(cloud: LocalAws) -> None:
    """The owner can still replace the policy."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    policy = cloud.deployment.bucket_policy()
    del policy["Statement"][0]["Condition"]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert code(caught) == ("AccessDenied", 403)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")


def test_conditional_write_is_412_if_the_object_differs(cloud: LocalAws) -> None:
    """This covers If-None-Match and If-Match."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfNoneMatch="*")
    assert code(caught) == ("PreconditionFailed", 412)
    s3.put_object(Bucket=bucket, Key="a", Body=b"2", IfMatch=etag)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"3", IfMatch=etag)
    assert code(caught) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="missing", Body=b"3", IfMatch=etag)
    assert code(caught) == ("NoSuchKey", 404)


def test_one_of_many_concurrent_conditional_writes_succeeds(cloud: LocalAws) -> None:
    """Of eight writes with If-None-Match, seven are refused."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket

    def write(number: int) -> int:
        try:
            s3.put_object(Bucket=bucket, Key="a", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [200] + [412] * 7


def test_conditional_write_can_fail_with_a_conflict(cloud: LocalAws) -> None:
    """The fault is 409 ConditionalRequestConflict, for conditional writes only, and nothing is written."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    cloud.conflict_conditional_writes(times=1)
    s3.put_object(Bucket=bucket, Key="plain", Body=b"1")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")
    assert code(caught) == ("ConditionalRequestConflict", 409)
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")


def test_page_size_and_last_modified_follow_the_settings() -> None:
    """LastModified is the virtual clock's time."""
    with LocalAws(accounts=1, clock=VirtualClock(START), page_size=2) as cloud:
        s3, bucket = cloud.client("s3"), cloud.deployment.bucket
        for number in range(5):
            s3.put_object(Bucket=bucket, Key=f"key-{number}", Body=b"1")
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
        assert [len(page["Contents"]) for page in pages] == [2, 2, 1]
        assert {one["LastModified"] for page in pages for one in page["Contents"]} == {START}


def _statement(**changes: Any) -> str:
    """Return a valid policy of one statement, with changes."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::210000000000:root"},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::tailpipe-dataexport-111122223333/*",
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize(
    ("policy", "code", "words"),
    [
        (_statement(Principal={"AWS": "AIDACKCEVSQ6C2EXAMPLE"}), "MalformedPolicy", "Invalid principal"),
        (
            _statement(Principal={"AWS": "arn:aws:iam::111122223333:role/no-such"}),
            "MalformedPolicy",
            "Invalid principal",
        ),
        (_statement(Principal={"Service": "no service"}), "MalformedPolicy", "Invalid principal"),
        (_statement(Resource="arn:aws:s3:::other/*"), "MalformedPolicy", "invalid resource"),
        (_statement(Effect="Maybe"), "MalformedPolicy", "syntax"),
        (_statement(Sid="x" * 20_480), "MalformedPolicy", "maximum allowed"),
        (_statement(Principal="*"), "AccessDenied", "BlockPublicPolicy"),
        ("no json", "MalformedPolicy", "valid JSON"),
    ],
)
def test_invalid_policy_is_refused_and_changes_nothing(cloud: LocalAws, policy: str, code: str, words: str) -> None:
    """This covers missing principals, foreign resources, more than 20 KB, and public access to a blocked bucket."""
    before = cloud.bucket_policy()
    with pytest.raises(ClientError, match=words) as caught:
        cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy=policy)
    assert caught.value.response["Error"]["Code"] == code
    assert cloud.bucket_policy() == before


@pytest.mark.parametrize(
    "principal",
    [
        {"AWS": "arn:aws:iam::111122223333:role/tailpipe-connector-role"},
        {"AWS": ["210000000000", "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"]},
        {"Service": "logging.s3.amazonaws.com"},
    ],
)
def test_policy_with_existing_principals_is_accepted(cloud: LocalAws, principal: Any) -> None:
    """This covers roles of this cloud, whole accounts, foreign roles and services."""
    cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy=_statement(Principal=principal))
    assert cloud.bucket_policy()["Statement"][0]["Principal"] == principal


@pytest.mark.parametrize(("storage", "days", "taken"), [("STANDARD_IA", 29, False), ("STANDARD_IA", 30, True)])
def test_transition_to_infrequent_access_needs_thirty_days(
    cloud: LocalAws, storage: Any, days: int, taken: bool
) -> None:
    """A shorter time is refused with S3's message."""
    s3, where = cloud.client("s3"), {"Bucket": cloud.deployment.bucket}
    moves = [{"Days": days, "StorageClass": storage}]
    rules: Any = {"Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Transitions": moves}]}
    if taken:
        s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration=rules)
        return
    with pytest.raises(ClientError, match="must be greater than or equal to 30 for storageClass 'STANDARD_IA'"):
        s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration=rules)


def test_object_lock_configuration_of_a_bucket(cloud: LocalAws) -> None:
    """Without Object Lock it is 404; with it, the default retention is optional."""
    s3, where = cloud.client("s3"), {"Bucket": cloud.deployment.bucket}
    with pytest.raises(ClientError, match="ObjectLockConfigurationNotFoundError"):
        s3.get_object_lock_configuration(**where)
    cloud.retain_bucket(days=7, mode="COMPLIANCE")
    found = s3.get_object_lock_configuration(**where)["ObjectLockConfiguration"]
    assert found["ObjectLockEnabled"] == "Enabled"
    assert found["Rule"]["DefaultRetention"]["Days"] == 7
    cloud.retain_bucket(days=0)
    assert "Rule" not in s3.get_object_lock_configuration(**where)["ObjectLockConfiguration"]
