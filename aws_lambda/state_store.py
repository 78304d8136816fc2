"""Stores documents in the export bucket: the state and what lies beside it, and deliveries beside the exports.

The connector may read below the exports' prefix only, so it reads deliveries and not the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.errors import PRECONDITION
from aws_lambda.resources.listing import Listing
from aws_lambda.settings import AwsSettings
from shared.errors import Denied, NotFound, Permanent
from shared.parsing import age_of
from shared.runtime.context import RunContext
from shared.state.store import BINARY, JSON, REPORTS, STATE, Blob, Conflict, aside_name, report_name, run_ids
from shared.tenants.rows import REGISTRY, ROUNDS

FOLDER = "state/"
NAME = "known_accounts.json"
KEY = FOLDER + NAME  # of the state of the deployment's own organization
QUOTA = "s3"


class S3Documents:
    """Documents below a prefix, written by S3's conditional writes (If-Match, If-None-Match).

    Messages call them `what`, such as "the state".
    """

    def __init__(self, bucket: str, account: str, prefix: str, what: str, clients: Clients, run: RunContext) -> None:
        self._bucket = bucket
        self._account = account
        self._prefix = prefix
        self._what = what
        self._clients = clients
        self._run = run
        self._listing = Listing(bucket, account, clients, run)

    def load(self, limit: int, document: str = STATE) -> Blob:
        """Return a document, without data if it exceeds `limit` bytes, empty if it does not exist.

        Raises Denied, Transient.
        """
        try:
            return self._run.calls(QUOTA, self._get, self.key_of(document), limit)
        except NotFound:
            return Blob()
        except Denied as denied:
            raise self._explained(denied) from denied

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        """Write a document if its version is still `version`; return the new version.

        Raises Conflict, Denied, NotFound (the bucket does not exist yet), Transient.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        try:
            key = self.key_of(document)
            return self._put(key, data, JSON if key.endswith(".json") else BINARY, **condition)
        except Permanent as error:
            if error.code == PRECONDITION:
                raise Conflict(error.message) from error
            raise
        except NotFound as error:
            # With If-Match, S3 answers NoSuchKey if the object was deleted in the meantime.
            if error.code == "NoSuchKey":
                raise Conflict(error.message) from error
            raise
        except Denied as denied:
            raise self._explained(denied) from denied

    def put(self, document: str, data: bytes, content_type: str) -> str:
        """Write a document, replacing any existing one; return its S3 URI. Raises CloudError."""
        self._put(self.key_of(document), data, content_type)
        return f"s3://{self._bucket}/{self.key_of(document)}"

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of each document below a prefix. Raises CloudError."""
        for page in self._listing.pages(self._prefix + prefix):
            for one in page:
                yield str(one["Key"]).removeprefix(self._prefix), one["LastModified"].astimezone(UTC)

    def key_of(self, document: str) -> str:
        """Return the key of a document."""
        return self._prefix + document

    def _put(self, key: str, data: bytes, content_type: str, **condition: Any) -> str:
        answer = self._run.calls(
            QUOTA,
            self._clients.s3.put_object,
            Bucket=self._bucket,
            Key=key,
            Body=data,
            ContentType=content_type,
            ExpectedBucketOwner=self._account,
            **condition,
        )
        return str(answer["ETag"])

    def _get(self, key: str, limit: int) -> Blob:
        answer = self._clients.s3.get_object(Bucket=self._bucket, Key=key, ExpectedBucketOwner=self._account)
        # The body is read inside the retried call, so that a connection lost halfway is retried. As a context, the body
        # would be the HTTP library's own stream, whose errors are not those of the SDK.
        with closing(answer["Body"]) as body:
            size = int(answer["ContentLength"])
            data = body.read() if size <= limit else b""
        return Blob(data, answer["ETag"], size)

    def _explained(self, denied: Denied) -> Denied:
        return Denied(
            denied.code,
            f"access to {self._what} in bucket {self._bucket} was denied: {denied.message}",
            f"If the bucket belongs to another account, set BUCKET_NAME to a bucket of account {self._account}. "
            "Otherwise apply the deployment again: the function's role needs s3:GetObject, s3:PutObject and "
            "s3:ListBucket on the bucket.",
        )


class S3Store(S3Documents):
    """A StateStore in the bucket of the deployment, whose `account` and `clients` are given.

    The state and the reports of a tenant lie below ``tenants/ID/``, so that no tenant reads or writes another's.
    """

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        below = f"tenants/{settings.tenant}/" if settings.tenant else ""
        super().__init__(settings.home_of(account), account, f"{FOLDER}{below}", "the state", clients, run)
        self._reports = f"{REPORTS}{below}"

    def key_of(self, document: str) -> str:
        """Return the key of a document; the state has a name of its own."""
        return super().key_of(document or NAME)

    def age(self) -> timedelta | None:
        """Return how long ago the state was written, by S3's own clock. Raises CloudError."""
        answer = self._run.calls(
            QUOTA,
            self._clients.s3.head_object,
            Bucket=self._bucket,
            Key=self.key_of(STATE),
            ExpectedBucketOwner=self._account,
        )
        return age_of(answer["ResponseMetadata"]["HTTPHeaders"])

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        """Keep a damaged document under another name, which is returned. Raises CloudError."""
        key = self.key_of(document)
        spare = aside_name(key, damaged)
        if damaged.data:
            self._put(spare, damaged.data, BINARY)
            return spare
        self._run.calls(
            QUOTA,
            self._clients.s3.copy_object,
            Bucket=self._bucket,
            Key=spare,
            CopySource={"Bucket": self._bucket, "Key": key},
            ExpectedBucketOwner=self._account,
            ExpectedSourceBucketOwner=self._account,
        )
        return spare

    def put_report(self, run_id: str, data: bytes) -> str:
        """Write the full report of a run; return its S3 URI. Raises CloudError."""
        key = self._key_of_report(run_id)
        self._put(key, data, JSON)
        return f"s3://{self._bucket}/{key}"

    def report(self, run_id: str) -> bytes:
        """Return the full report of a run. Raises NotFound, Denied, Transient."""
        try:
            return self._run.calls(QUOTA, self._body, self._key_of_report(run_id))
        except Denied as denied:
            raise self._explained(denied) from denied

    def report_ids(self, since: str) -> list[str]:
        """Return the ids of the stored reports from `since` on, oldest first. Raises Denied, Transient."""
        try:
            # Without the delimiter, the listing would include the reports of all tenants.
            pages = self._listing.pages(self._reports, StartAfter=f"{self._reports}{since}", Delimiter="/")
            found = (str(one["Key"]).removeprefix(self._reports) for page in pages for one in page)
            return run_ids((f"{REPORTS}{name}" for name in found), since)
        except NotFound:
            return []
        except Denied as denied:
            raise self._explained(denied) from denied

    def _key_of_report(self, run_id: str) -> str:
        return self._reports + report_name(run_id).removeprefix(REPORTS)

    def _body(self, key: str) -> bytes:
        answer = self._clients.s3.get_object(Bucket=self._bucket, Key=key, ExpectedBucketOwner=self._account)
        with closing(answer["Body"]) as body:
            return bytes(body.read())


class S3Fleet(S3Documents):
    """A FleetDocuments in the bucket of the deployment: the registry, and what became of the tenants' runs."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.home_of(account), account, "", "the tenants' registry and results", clients, run)

    def key_of(self, document: str) -> str:
        """Return the key of a document."""
        folder = "registry/" if document == REGISTRY else REPORTS if document.startswith(ROUNDS) else FOLDER
        return folder + document

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of each row, or of each report of a round. Raises CloudError."""
        root = self.key_of(prefix).removesuffix(prefix)
        for page in self._listing.pages(root + prefix):
            for one in page:
                yield str(one["Key"]).removeprefix(root), one["LastModified"].astimezone(UTC)
