"""The storage of Terraform's state on AWS: one private bucket per account, with a key for each region."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws.session import Session, code_of, local_endpoint, message_of
from cli.deployment.model import Backend, OperatorError, Problem
from cli.deployment.operator import Tell

MARK = {"Key": "managed-by", "Value": "tailpipe-exports"}


def bucket_of(session: Session) -> str:
    """Return the bucket's name."""
    return f"tailpipe-terraform-{session.place.id}"


def artifacts_of(session: Session) -> str:
    """Return the name of the bucket for packages and templates; Lambda reads packages in its own region only."""
    return f"tailpipe-artifacts-{session.place.id}-{session.place.region}"


def backend(session: Session) -> Backend:
    """Return the backend. Raises OperatorError if the bucket belongs to another account."""
    bucket = bucket_of(session)
    configuration: dict[str, Any] = {
        "bucket": bucket,
        "key": f"tailpipe-exports/{session.place.region}.tfstate",
        # The bucket is in the region of the first deployment.
        "region": _region(session, bucket) or session.place.region,
        "encrypt": True,
        "use_lockfile": True,
    }
    local = local_endpoint()
    if local:
        configuration |= {"endpoints": {"s3": local}, "use_path_style": True, "skip_credentials_validation": True}
        configuration |= {"skip_requesting_account_id": True, "skip_metadata_api_check": True}
    return Backend("s3", configuration, f"bucket {bucket}")


def exists(session: Session) -> bool:
    """Return whether the bucket is complete: its tag is set last. Raises OperatorError as `backend` does."""
    return _is_complete(session, bucket_of(session))


def empty(session: Session, tell: Tell) -> None:
    """Remove every resource from Terraform's state, after a copy is kept beside it. Raises ClientError."""
    client, of = session.aws.client("s3"), session.owned(bucket_of(session))
    key = f"tailpipe-exports/{session.place.region}.tfstate"
    content = client.get_object(**of, Key=key)["Body"].read()
    state = json.loads(content)
    copy = f"{key.removesuffix('.tfstate')}-moved-{state.get('serial', 0)}.tfstate"
    client.put_object(**of, Key=copy, Body=content)
    state |= {"serial": int(state.get("serial", 0)) + 1, "resources": [], "outputs": {}, "check_results": None}
    client.put_object(**of, Key=key, Body=json.dumps(state, indent=2).encode())
    tell(f"Terraform's state is empty; a copy is in bucket {bucket_of(session)} as {copy}")


def require_unlocked(session: Session) -> None:
    """Raise OperatorError while Terraform holds the lock of its state. Raises ClientError."""
    key = f"tailpipe-exports/{session.place.region}.tfstate.tflock"
    try:
        session.aws.client("s3").head_object(**session.owned(bucket_of(session)), Key=key)
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchKey"):
            return
        raise
    raise OperatorError(
        Problem(
            f"Terraform's state in bucket {bucket_of(session)} is locked: Terraform is running",
            f"Wait until it ends; if none runs, delete the object {key}.",
        )
    )


def holds_resources(session: Session) -> bool:
    """Return whether Terraform's state is there and has resources. Raises OperatorError as `backend` does."""
    if _region(session, bucket_of(session)) is None:
        return False
    key = f"tailpipe-exports/{session.place.region}.tfstate"
    try:
        answer = session.aws.client("s3").get_object(**session.owned(bucket_of(session)), Key=key)
        state = json.loads(answer["Body"].read())
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchKey"):
            return False
        raise OperatorError(Problem(message_of(error), "See tailpipe-exports doctor aws.")) from error
    except ValueError:
        return True  # a state that cannot be read is not an empty one
    return any(one.get("mode") == "managed" for one in state.get("resources", []))


def _is_complete(session: Session, bucket: str) -> bool:
    if _region(session, bucket) is None:
        return False
    try:
        answer = session.aws.client("s3").get_bucket_tagging(**session.owned(bucket))
    except ClientError as error:
        if code_of(error) == "NoSuchTagSet":
            return False
        raise OperatorError(Problem(message_of(error), "See tailpipe-exports doctor aws.")) from error
    return any(tag["Value"] == MARK["Value"] for tag in answer["TagSet"])


def make(session: Session, tell: Tell, artifacts: str = "") -> None:
    """Create the bucket, or complete an unfinished one; that of `artifacts` only once. Raises ClientError."""
    bucket, client = artifacts or bucket_of(session), session.aws.client("s3")
    if artifacts and _is_complete(session, artifacts):
        return
    of = session.owned(bucket)
    where = (
        {}
        if session.place.region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": session.place.region}}
    )
    try:
        client.create_bucket(Bucket=bucket, **where)
    except ClientError as error:
        if code_of(error) != "BucketAlreadyOwnedByYou":
            raise
    every = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    client.put_public_access_block(**of, PublicAccessBlockConfiguration=dict.fromkeys(every, True))
    client.put_bucket_versioning(**of, VersioningConfiguration={"Status": "Enabled"})
    encrypted = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(**of, ServerSideEncryptionConfiguration={"Rules": [encrypted]})
    client.put_bucket_policy(**of, Policy=json.dumps(_tls_only(session.aws.partition, bucket)))
    client.put_bucket_tagging(**of, Tagging={"TagSet": [MARK]})
    purpose = "packages and templates" if artifacts else "Terraform's state"
    tell(f"bucket {bucket} is created for {purpose}: private, versioned, encrypted")


def _region(session: Session, bucket: str) -> str | None:
    """Return the region of a bucket of ours, or None if it does not exist."""
    try:
        answer = session.aws.client("s3").head_bucket(**session.owned(bucket))
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            return None
        raise OperatorError(
            Problem(
                f"bucket {bucket} belongs to another account, or you may not read it",
                "Grant s3:ListBucket on it; or keep the state with --local-state DIR.",
            )
        ) from error
    return str(answer.get("BucketRegion") or session.place.region)


def _tls_only(partition: str, bucket: str) -> dict[str, Any]:
    arn = f"arn:{partition}:s3:::{bucket}"
    statement = {
        "Sid": "TailpipeTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
