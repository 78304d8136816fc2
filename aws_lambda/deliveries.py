"""What was delivered: the manifests in the bucket, the last thing that a delivery writes, and the files they name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import Dataset
from shared.errors import CloudError, NotFound, RunStopped
from shared.run import Run

MANIFEST_LIMIT = 8 * 1024 * 1024  # bytes; a manifest names files and columns
QUOTA = "s3"


class Delivered(msgspec.Struct, frozen=True):
    """What a dataset's files show: when its newest manifest was written, and how that agrees with the files.

    `missing` are the keys that the manifest names and that are absent or have no bytes, `empty` whether it names none,
    `whole` the manifest's ETag where it was compared and everything is there.
    """

    at: datetime | None = None
    missing: tuple[str, ...] = ()
    empty: bool = False
    whole: str = ""


class Deliveries:
    """Reads when each export delivered last, and compares its newest manifest with the files."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run

    def last(self, dataset: Dataset, whole: str = "") -> Delivered:
        """Return the newest delivery; a missing bucket has none.

        `whole` is the ETag of a manifest that has been compared before and is not read again. Raises the CloudErrors
        of listing the bucket.
        """
        try:
            sizes, manifests = self._listed(dataset)
        except NotFound:
            return Delivered()
        if not manifests:
            return Delivered()
        newest = max(manifests, key=lambda item: (item["LastModified"], item["Key"]))
        at, tag = newest["LastModified"].astimezone(UTC), str(newest["ETag"])
        root = f"{self._settings.prefix}/{dataset.name}/"
        folder = str(newest["Key"]).removeprefix(f"{root}metadata/").rpartition("/")[0]
        if not dataset.monthly and folder < f"BILLING_PERIOD={self._since()}":
            return Delivered(at)  # its files are older than what was listed
        parts = [size for key, size in sizes.items() if key.startswith(f"{root}data/{folder}/")]
        if tag == whole and any(parts):
            return Delivered(at, whole=tag)
        named = self._named(str(newest["Key"]))
        if named is None:
            return Delivered(at)
        missing = tuple(key for key in named if not sizes.get(key))
        return Delivered(at, missing, empty=not named, whole="" if missing or not named else tag)

    def _named(self, key: str) -> list[str] | None:
        """Return the keys that a manifest names; None where it cannot be read or is not understood."""
        try:
            text = self._run.calls(QUOTA, self._read, key)
            files = json.loads(text)["dataFiles"]
        except RunStopped:
            raise
        except (CloudError, ValueError, KeyError, TypeError, RecursionError):
            # Deployments of earlier versions give no right to read manifests: nothing can be compared there.
            return None
        if not isinstance(files, list):
            return None
        root = f"s3://{self._settings.bucket_of(self._account)}/"
        return [str(one).removeprefix(root) for one in files]

    def _read(self, key: str) -> bytes:
        bucket = self._settings.bucket_of(self._account)
        answer = self._clients.s3.get_object(Bucket=bucket, Key=key, ExpectedBucketOwner=self._account)
        with answer["Body"] as body:
            return bytes(body.read(MANIFEST_LIMIT))

    def _listed(self, dataset: Dataset) -> tuple[dict[str, int], list[Mapping[str, Any]]]:
        """Return the sizes of recent data files by key, and the manifests: one listing, as data sorts before them."""
        root = f"{self._settings.prefix}/{dataset.name}/"
        ending = f"/{dataset.name}-Manifest.json"
        arguments: dict[str, Any] = {}
        if not dataset.monthly:
            arguments["StartAfter"] = f"{root}data/BILLING_PERIOD={self._since()}"
        sizes: dict[str, int] = {}
        manifests: list[Mapping[str, Any]] = []
        while True:
            page = self._run.calls(
                QUOTA,
                self._clients.s3.list_objects_v2,
                Bucket=self._settings.bucket_of(self._account),
                Prefix=root,
                ExpectedBucketOwner=self._account,
                **arguments,
            )
            for item in page.get("Contents", []):
                if item["Key"].startswith(f"{root}metadata/") and item["Key"].endswith(ending):
                    manifests.append(item)
                else:
                    sizes[item["Key"]] = int(item.get("Size", 0))
            if not page.get("IsTruncated"):
                return sizes, manifests
            arguments = {"ContinuationToken": page["NextContinuationToken"]}

    def _since(self) -> str:
        """Return the billing period before last: older ones are no longer restated, so they show nothing new."""
        now = self._run.clock.now()
        months = now.year * 12 + now.month - 1 - 2
        return f"{months // 12:04d}-{months % 12 + 1:02d}"
