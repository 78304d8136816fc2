"""What was delivered: the manifests in the bucket, the last thing that a delivery writes, and the files they name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import Dataset
from shared.errors import CloudError, NotFound, NotUnderstood, RunStopped
from shared.foreign import whole
from shared.run import Run

MANIFEST_LIMIT = 8 * 1024 * 1024  # bytes; a manifest names files and columns
QUOTA = "s3"
PERIODS = 3  # the newest ones, which may still be restated, are compared with their manifests


class Delivered(msgspec.Struct, frozen=True):
    """What a dataset's files show: when its newest manifest was written, and how the manifests agree with the files.

    `missing` are the keys that a manifest names and that are absent or have no bytes; `shorter` says of each period
    whose files have lost bytes since they were delivered how many are left. `empty` is whether the newest manifest
    names no file, `unreadable` why it could not be understood. `compared` are the manifests whose files were all
    there, by period, each with what its files are to be compared with the next time; it is remembered.
    """

    at: datetime | None = None
    missing: tuple[str, ...] = ()
    shorter: tuple[str, ...] = ()
    empty: bool = False
    unreadable: str = ""
    compared: Mapping[str, str] = {}


class _Files(msgspec.Struct, frozen=True):
    """The files of one period as they are listed, with what a manifest that was compared is remembered by.

    A manifest does not say how large its files are: what they had when it was compared stands in for that.
    """

    sizes: Mapping[str, int]
    tag: str

    def mark(self, named: Sequence[str]) -> str:
        """Return what to remember: ETag, number and bytes of the files listed, bytes of those that are named."""
        return f"{self.tag} {self._listed()} {sum(self.sizes.get(key, 0) for key in named)}"

    def is_as(self, mark: str) -> bool:
        """Return whether manifest and files are as they were when they were compared."""
        return bool(self.sizes) and mark.rpartition(" ")[0] == f"{self.tag} {self._listed()}"

    def lost(self, mark: str, named: Sequence[str]) -> str:
        """Return how many bytes are left of how many where the same manifest's files had more, else nothing."""
        tag, _, rest = mark.partition(" ")
        before = whole(rest.rpartition(" ")[2]) or 0
        now = sum(self.sizes.get(key, 0) for key in named)
        return f"{now:,} of {before:,} bytes" if tag == self.tag and now < before else ""

    def _listed(self) -> str:
        return f"{len(self.sizes)} {sum(self.sizes.values())}"


class Deliveries:
    """Reads when each export delivered last, and compares its newest manifest with the files."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run

    def last(self, dataset: Dataset, compared: Mapping[str, str] | None = None) -> Delivered:
        """Return the newest delivery; a missing bucket has none.

        `compared` are the manifests that were compared before: one that is as it was, with its files, is not read
        again. Raises the CloudErrors of listing the bucket.
        """
        try:
            sizes, manifests = self._listed(dataset)
        except NotFound:
            return Delivered()
        if not manifests:
            return Delivered()
        root = f"{self._settings.prefix}/{dataset.name}/"
        newest: dict[str, Mapping[str, Any]] = {}  # by the folder of the period
        for item in sorted(manifests, key=lambda item: (item["LastModified"], item["Key"])):
            folder = str(item["Key"]).removeprefix(f"{root}metadata/").rpartition("/")[0]
            newest.pop(folder, None)
            newest[folder] = item
        found = Delivered(next(reversed(newest.values()))["LastModified"].astimezone(UTC))
        for folder, item in list(newest.items())[-PERIODS:]:
            # Of older periods the manifests are listed, and the files are not.
            if dataset.monthly or folder >= f"BILLING_PERIOD={self._since()}":
                data = f"{root}data/{folder}/"
                files = _Files({key: size for key, size in sizes.items() if key.startswith(data)}, str(item["ETag"]))
                known = (compared or {}).get(folder, "")
                found = self._compared(found, folder, str(item["Key"]), files, known)
        return found

    def _compared(self, found: Delivered, folder: str, key: str, files: _Files, known: str) -> Delivered:
        """Return what is found so far, with what one manifest and its files show; the last one's word counts."""
        # What files are to have again stays remembered until they are compared anew.
        before = {**found.compared, folder: known} if known else found.compared
        found = msgspec.structs.replace(found, empty=False, unreadable="", compared=before)
        if files.is_as(known):
            return found
        try:
            named = self._named(key)
        except NotUnderstood as error:
            return msgspec.structs.replace(found, unreadable=error.message)
        if named is None:
            return found
        missing = tuple(one for one in named if not files.sizes.get(one))
        lost = files.lost(known, named)
        if missing:
            return msgspec.structs.replace(found, missing=(*found.missing, *missing))
        if lost:
            return msgspec.structs.replace(found, shorter=(*found.shorter, f"{folder}: {lost}"))
        marks = {name: mark for name, mark in before.items() if name != folder}
        return msgspec.structs.replace(
            found, empty=not named, compared={**marks, folder: files.mark(named)} if named else marks
        )

    def _named(self, key: str) -> list[str] | None:
        """Return the keys that a manifest names; None where it may not be read. Raises NotUnderstood."""
        try:
            text = self._run.calls(QUOTA, self._read, key)
        except RunStopped:
            raise
        except CloudError as error:
            # Deployments of earlier versions give no right to read manifests: nothing can be compared there.
            self._run.log("warning", "detail-unread", code=error.code, reason=f"manifest {key}: {error.message}")
            return None
        try:
            files = json.loads(text)["dataFiles"]
        except (ValueError, KeyError, TypeError, RecursionError):
            files = None
        if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
            raise NotUnderstood(f"s3 GetObject {key}", "it is no manifest with a list of dataFiles")
        root = f"s3://{self._settings.bucket_of(self._account)}/"
        return [one.removeprefix(root) for one in files]

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
