"""Lists objects of the export bucket, each page as a call of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aws_lambda.clients import Clients
from shared.runtime.context import RunContext

QUOTA = "s3"


class Listing:
    """Lists a bucket, which must belong to the account `owner`."""

    def __init__(self, bucket: str, owner: str, clients: Clients, run: RunContext) -> None:
        self._bucket = bucket
        self._owner = owner
        self._clients = clients
        self._run = run

    def pages(self, prefix: str, **arguments: Any) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Yield the objects below a prefix, page by page, as ListObjectsV2 returns them. Raises CloudError."""
        while True:
            page = self._run.calls(
                QUOTA,
                self._clients.s3.list_objects_v2,
                Bucket=self._bucket,
                Prefix=prefix,
                ExpectedBucketOwner=self._owner,
                **arguments,
            )
            yield page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            arguments = {"ContinuationToken": page["NextContinuationToken"]}

    def below(self, prefix: str) -> list[Mapping[str, Any]]:
        """Return all objects below a prefix. Raises CloudError."""
        return [one for page in self.pages(prefix) for one in page]
