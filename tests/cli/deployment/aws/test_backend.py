"""The bucket with Terraform's state on AWS, which contains the External ID."""

from __future__ import annotations

import json

import pytest

from cli.deployment.model import OperatorError
from tests.cli.support.aws import account, at, sign_in

OTHER = "999988887777"


def test_state_bucket_is_private_versioned_and_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It also requires TLS and has our mark."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        operator = at()
        assert not operator.backend_exists()
        told: list[str] = []
        operator.make_backend(told.append)
        assert operator.backend_exists()
        bucket = f"tailpipe-terraform-{cloud.account}"
        assert told == [f"bucket {bucket} is created for Terraform's state: private, versioned, encrypted"]
        s3 = cloud.client("s3")
        blocked = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert list(blocked.values()) == [True] * 4
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        (statement,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
        assert statement["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        marks = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}
        assert marks == {"managed-by": "tailpipe-exports"}


def test_bucket_created_by_another_owner_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command ends, and does not change that bucket."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        operator = at()
        assert not operator.backend_exists()
        where = {"LocationConstraint": cloud.region}
        bucket = f"tailpipe-terraform-{cloud.account}"
        cloud.client("s3", OTHER).create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        cloud.clear_calls()
        with pytest.raises(OperatorError, match="BucketAlreadyExists"):
            operator.make_backend(lambda _line: None)
        assert [one["operation"] for one in cloud.actions.calls() if one["service"] == "s3"] == ["CreateBucket"]


def test_incomplete_state_bucket_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command was interrupted after creating the bucket; the next one adds the missing settings."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        operator = at()
        bucket = f"tailpipe-terraform-{cloud.account}"
        where = {"LocationConstraint": cloud.region}
        cloud.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
        assert not operator.backend_exists()
        operator.make_backend(lambda _line: None)
        assert operator.backend_exists()
        assert cloud.client("s3").get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
