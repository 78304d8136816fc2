"""Corrections of moto's S3: owners, policies, page sizes and modification times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from urllib.parse import parse_qsl, urlencode

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.policy import Access, allows, denies
from localcloud.aws.services import bucket_policies
from localcloud.aws.services.buckets import Buckets
from localcloud.aws.wire import AwsRequest

_LISTS = {"ListObjects": "max-keys", "ListObjectsV2": "max-keys", "ListObjectVersions": "max-keys"}
_WRITES = ("PutObject", "CopyObject", "CompleteMultipartUpload", "DeleteObject", "DeleteObjects")
_MAX_PAGE_SIZE = 1000
_MIN_DAYS_BEFORE_IA = 30
# The bucket owner can always replace a policy that locks everyone out.
_ALWAYS = ("s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:DeleteBucketPolicy")


# difference: AWS-7
class S3Rules:
    """Checks and corrections before and after each request that moto's S3 answers."""

    def __init__(
        self, buckets: Buckets, partition: str, exists: Callable[[str], bool], page_size: int = _MAX_PAGE_SIZE
    ) -> None:
        self._buckets = buckets
        self._partition = partition
        self._exists = exists
        self._page_size = min(page_size, _MAX_PAGE_SIZE)
        self._writing = threading.Lock()

    def before(self, aws_request: AwsRequest, environ: dict[str, Any], attempt: Attempt) -> None:
        """Raise AwsError if the bucket's owner, its policy or the expected owner does not permit the request."""
        name = aws_request.params.get("Bucket")
        self._cap(aws_request, environ)
        if not name or aws_request.operation == "CreateBucket":
            return
        owner = self._buckets.owner(name)
        if owner is None:
            return
        expected = aws_request.headers.get("x-amz-expected-bucket-owner")
        if expected is not None and expected != owner:
            raise AwsError("AccessDenied", "Access Denied", 403)
        policy = self._buckets.policy(name)
        own = owner == attempt.account
        for need in attempt.needs:
            for resource in need.resources:
                access = Access(attempt.principal, "AWS", need.action, resource, attempt.context)
                refused = denies(policy, access) and not (need.action in _ALWAYS and own)
                if refused or (not own and not allows(policy, access)):
                    raise AwsError("AccessDenied", "Access Denied", 403)
        if aws_request.operation == "PutBucketPolicy":
            text, arn = str(aws_request.params.get("Policy", "")), f"arn:{self._partition}:s3:::{name}"
            bucket_policies.check(text, arn, self._buckets.blocks_public_policies(name), self._exists)
        if aws_request.operation == "PutBucketLifecycleConfiguration":
            _check_transitions(aws_request.params.get("LifecycleConfiguration", {}).get("Rules", []))
        if aws_request.operation in ("PutBucketPolicy", "DeleteBucketPolicy"):
            self._buckets.note_change(name)

    def serialized(self, aws_request: AwsRequest) -> AbstractContextManager[object]:
        """Return a context for a request that serializes writes, so that conditional writes are atomic as on S3."""
        writes = aws_request.service == "s3" and aws_request.operation in _WRITES
        return self._writing if writes else nullcontext()

    def after(self, aws_request: AwsRequest, attempt: Attempt, status: int, enforcement: Enforcement) -> None:
        """Set modification times from the local clock, and hide missing keys from callers who may not list.

        Raises AwsError (AccessDenied) instead of a 404 for callers without s3:ListBucket, as S3 does.
        """
        written = ("PutObject", "CopyObject", "CompleteMultipartUpload")
        if aws_request.operation in written and status < 300:
            self._buckets.stamp_key(aws_request.params["Bucket"], aws_request.params["Key"])
        if aws_request.operation in ("GetObject", "HeadObject") and status == 404:
            bucket = attempt.needs[0].resources[0].partition("/")[0]
            if not enforcement.allows(attempt.identity, "s3:ListBucket", bucket, attempt.context):
                raise AwsError("AccessDenied", "Access Denied", 403)

    def _cap(self, aws_request: AwsRequest, environ: dict[str, Any]) -> None:
        name = _LISTS.get(aws_request.operation)
        if name is None or self._page_size >= _MAX_PAGE_SIZE:
            return
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        query[name] = str(min(int(query.get(name, _MAX_PAGE_SIZE)), self._page_size))
        environ["QUERY_STRING"] = urlencode(query)


def _check_transitions(rules: list[dict[str, Any]]) -> None:
    """Refuse transitions to an Infrequent Access class before 30 days, as S3 does.

    Source: "Lifecycle configuration constraints" of "Transitioning objects using Amazon S3 Lifecycle", S3 User Guide.
    """
    for one in (one for rule in rules for one in rule.get("Transitions", [])):
        storage, days = str(one.get("StorageClass", "")), one.get("Days")
        if storage.endswith("_IA") and days is not None and int(days) < _MIN_DAYS_BEFORE_IA:
            message = f"'Days' in Transition action must be greater than or equal to 30 for storageClass '{storage}'"
            raise AwsError("InvalidArgument", message, 400)


@contextmanager
def without_motos_policies() -> Iterator[None]:
    """Disable moto's bucket policies: it ignores conditions, so a TLS-only Deny would lock everyone out."""
    original = FakeBucket.get_permission
    FakeBucket.get_permission = lambda _self, _action, _resource: PermissionResult.NEUTRAL
    try:
        yield
    finally:
        FakeBucket.get_permission = original
