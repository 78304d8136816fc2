"""S3 where it differs from moto's."""

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
    """The error's code and HTTP status."""
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_the_deployed_bucket_is_closed_encrypted_and_tiered(cloud: LocalAws) -> None:
    """No public access, encrypted, both statements in the policy, exports move to cheaper tiers."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    sids = [one["Sid"] for one in json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]]
    assert sids == ["TailpipeTlsOnly", "TailpipeDataExports"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rules[0]["Transitions"][0]["StorageClass"] == "STANDARD_IA"
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == cloud.region


def test_the_expected_owner_must_be_the_owner(cloud: LocalAws) -> None:
    """403 AccessDenied for another expected account, on reads and writes; the right one passes."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", ExpectedBucketOwner=cloud.account)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"2", ExpectedBucketOwner="999999999999")
    assert code(caught) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="999999999999")
    assert code(caught) == ("403", 403)
    assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


def test_another_account_does_not_get_in(cloud: LocalAws) -> None:
    """A bucket is its owner's unless its policy says otherwise."""
    other = cloud.client("s3", members(cloud)[0])
    with pytest.raises(ClientError) as caught:
        other.list_objects_v2(Bucket=cloud.deployment.bucket)
    assert code(caught) == ("AccessDenied", 403)


def test_a_deny_in_the_policy_locks_out_but_not_from_the_policy(cloud: LocalAws) -> None:
    """A Deny without condition refuses reads; the owner can still put the policy right."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    policy = cloud.deployment.bucket_policy()
    del policy["Statement"][0]["Condition"]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    assert code(caught) == ("AccessDenied", 403)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")


def test_conditional_writes_are_kept_or_refused(cloud: LocalAws) -> None:
    """If-None-Match and If-Match answer 412 where the object is not as expected."""
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


def test_of_many_conditional_writers_one_wins(cloud: LocalAws) -> None:
    """Eight at once with If-None-Match: one write is kept, seven are refused."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket

    def write(number: int) -> int:
        try:
            s3.put_object(Bucket=bucket, Key="a", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [200] + [412] * 7


def test_a_conditional_write_can_meet_another(cloud: LocalAws) -> None:
    """409 ConditionalRequestConflict as often as ordered, for conditional writes only, with nothing written."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    cloud.conflict_conditional_writes(times=1)
    s3.put_object(Bucket=bucket, Key="plain", Body=b"1")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")
    assert code(caught) == ("ConditionalRequestConflict", 409)
    s3.put_object(Bucket=bucket, Key="a", Body=b"1", IfNoneMatch="*")


def test_pages_can_be_made_small_and_objects_carry_the_clocks_time() -> None:
    """Listings are cut at the page size, and LastModified is the manual clock's."""
    with LocalAws(accounts=1, clock=VirtualClock(START), page_size=2) as cloud:
        s3, bucket = cloud.client("s3"), cloud.deployment.bucket
        for number in range(5):
            s3.put_object(Bucket=bucket, Key=f"key-{number}", Body=b"1")
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
        assert [len(page["Contents"]) for page in pages] == [2, 2, 1]
        assert {one["LastModified"] for page in pages for one in page["Contents"]} == {START}


def _statement(**changes: Any) -> str:
    """A policy of one statement that S3 takes, unless something is changed."""
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
def test_a_policy_that_s3_does_not_take_changes_nothing(cloud: LocalAws, policy: str, code: str, words: str) -> None:
    """Principals must exist, resources lie in the bucket, 20 KB suffice, and a blocked bucket is not made public."""
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
def test_a_policy_with_principals_that_exist_is_taken(cloud: LocalAws, principal: Any) -> None:
    """Roles of this cloud, whole accounts, foreign roles and services."""
    cloud.client("s3").put_bucket_policy(Bucket=cloud.deployment.bucket, Policy=_statement(Principal=principal))
    assert cloud.bucket_policy()["Statement"][0]["Principal"] == principal


@pytest.mark.parametrize(("storage", "days", "taken"), [("STANDARD_IA", 29, False), ("STANDARD_IA", 30, True)])
def test_a_rule_for_infrequent_access_needs_thirty_days(cloud: LocalAws, storage: Any, days: int, taken: bool) -> None:
    """Sooner is refused, with the words of S3."""
    s3, where = cloud.client("s3"), {"Bucket": cloud.deployment.bucket}
    moves = [{"Days": days, "StorageClass": storage}]
    rules: Any = {"Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Transitions": moves}]}
    if taken:
        s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration=rules)
        return
    with pytest.raises(ClientError, match="must be greater than or equal to 30 for storageClass 'STANDARD_IA'"):
        s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration=rules)


def test_a_bucket_that_is_retained_says_so(cloud: LocalAws) -> None:
    """Without Object Lock the question is answered 404; with it there is a default retention, or none."""
    s3, where = cloud.client("s3"), {"Bucket": cloud.deployment.bucket}
    with pytest.raises(ClientError, match="ObjectLockConfigurationNotFoundError"):
        s3.get_object_lock_configuration(**where)
    cloud.retain_bucket(days=7, mode="COMPLIANCE")
    found = s3.get_object_lock_configuration(**where)["ObjectLockConfiguration"]
    assert found["ObjectLockEnabled"] == "Enabled"
    assert found["Rule"]["DefaultRetention"]["Days"] == 7
    cloud.retain_bucket(days=0)
    assert "Rule" not in s3.get_object_lock_configuration(**where)["ObjectLockConfiguration"]
