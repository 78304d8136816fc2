"""What was delivered: the manifests in the bucket, the last thing that a delivery writes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import Dataset
from shared.errors import NotFound
from shared.run import Run


class Deliveries:
    """Reads when each export delivered last."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run

    def last(self, dataset: Dataset) -> datetime | None:
        """Return when the dataset's newest manifest was written, or None; a missing bucket has delivered nothing.

        Raises the CloudErrors of listing the bucket.
        """
        root = f"{self._settings.prefix}/{dataset.name}/metadata/"
        manifest = f"/{dataset.name}-Manifest.json"
        arguments: dict[str, Any] = {} if dataset.monthly else {"StartAfter": f"{root}BILLING_PERIOD={self._since()}"}
        newest: datetime | None = None
        while True:
            try:
                page = self._run.calls(
                    "s3",
                    self._clients.s3.list_objects_v2,
                    Bucket=self._settings.bucket_of(self._account),
                    Prefix=root,
                    ExpectedBucketOwner=self._account,
                    **arguments,
                )
            except NotFound:
                return None
            for item in page.get("Contents", []):
                if item["Key"].endswith(manifest):
                    newest = max(newest, item["LastModified"]) if newest else item["LastModified"]
            if not page.get("IsTruncated"):
                return newest.astimezone(UTC) if newest else None
            arguments = {"ContinuationToken": page["NextContinuationToken"]}

    def _since(self) -> str:
        """Return the billing period before last: older ones are no longer restated, so they show nothing new."""
        now = self._run.clock.now()
        months = now.year * 12 + now.month - 1 - 2
        return f"{months // 12:04d}-{months % 12 + 1:02d}"
