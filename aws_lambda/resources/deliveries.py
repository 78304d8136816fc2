"""What was delivered: the manifests in the bucket, the last thing that a delivery writes, and the files they name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import Dataset
from shared.errors import CloudError, NotFound, NotUnderstood
from shared.parsing import parse_int
from shared.runtime.context import RunContext

MANIFEST_LIMIT = 8 * 1024 * 1024  # bytes; a manifest names files and columns
QUOTA = "s3"
EARLIER_AT_ONCE = 5  # earlier periods that one run looks at; whichever of them lacked files comes again
PERIODS = 3  # the newest ones, which may still be restated, are compared with their manifests


class Delivered(msgspec.Struct, frozen=True):
    """What a dataset's files show: when its newest manifest was written, and how the manifests agree with the files.

    `missing` are the keys that a manifest names and that are absent or have no bytes; `shorter` says of each period
    whose files have lost bytes since they were delivered how many are left. `empty` is whether the newest manifest
    names no file, or only files no larger than a line of headings, `unreadable` why it could not be understood.
    `compared` are the manifests whose files were all there, by period, each with what its files are to be compared with
    the next time; it is remembered. `older` are the earlier periods that were looked at, each with what its files lack,
    "" for nothing.
    """

    at: datetime | None = None
    missing: tuple[str, ...] = ()
    shorter: tuple[str, ...] = ()
    empty: bool = False
    unreadable: str = ""
    compared: Mapping[str, str] = {}
    older: Mapping[str, str] = {}


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
        before = parse_int(rest.rpartition(" ")[2]) or 0
        now = sum(self.sizes.get(key, 0) for key in named)
        return f"{now:,} of {before:,} bytes" if tag == self.tag and now < before else ""

    def _listed(self) -> str:
        return f"{len(self.sizes)} {sum(self.sizes.values())}"


class Deliveries:
    """Reads when each export delivered last, and compares its newest manifest with the files."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run

    def last(
        self, dataset: Dataset, compared: Mapping[str, str] | None = None, lost: Collection[str] | None = None
    ) -> Delivered:
        """Return the newest delivery; a missing bucket has none.

        `compared` are the manifests that were compared before: one that is as it was, with its files, is not read
        again. `lost` are earlier periods whose files were not all there: these are looked at again, and one period
        more, another one each day; None for no look at any. Raises the CloudErrors of listing the bucket.
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
        since = "" if dataset.monthly else f"BILLING_PERIOD={self._since()}"
        earlier = sorted(folder for folder in newest if folder < since)
        kept = {folder: mark for folder, mark in (compared or {}).items() if folder in earlier}
        found = Delivered(next(reversed(newest.values()))["LastModified"].astimezone(UTC), compared=kept)
        for folder, item in list(newest.items())[-PERIODS:]:
            # Of older periods the manifests are listed, and the files are not.
            if folder >= since:
                data = f"{root}data/{folder}/"
                files = _Files({key: size for key, size in sizes.items() if key.startswith(data)}, str(item["ETag"]))
                known = (compared or {}).get(folder, "")
                found = self._compared(found, folder, str(item["Key"]), files, known)
        if lost is None or not earlier:
            return found
        today = earlier[self._run.clock.now().toordinal() % len(earlier)]
        return self._with_earlier(found, root, {one: newest[one] for one in earlier if one == today or one in lost})

    def _with_earlier(self, found: Delivered, root: str, chosen: Mapping[str, Mapping[str, Any]]) -> Delivered:
        """Return what was found, with what the files of some earlier periods show: one listing each."""
        older: dict[str, str] = {}
        marks = dict(found.compared)
        for folder, item in list(chosen.items())[:EARLIER_AT_ONCE]:
            sizes: dict[str, int] = {}
            for page in self._pages(f"{root}data/{folder}/"):
                sizes |= {str(one["Key"]): int(one.get("Size", 0)) for one in page}
            files = _Files(sizes, str(item["ETag"]))
            seen = self._compared(Delivered(), folder, str(item["Key"]), files, marks.get(folder, ""))
            marks |= seen.compared
            lacks = [f"{len(seen.missing)} files are missing: {', '.join(seen.missing[:3])}"] if seen.missing else []
            older[folder] = "; ".join([*lacks, *seen.shorter, *filter(None, [seen.unreadable])])
        return msgspec.structs.replace(found, compared=marks, older=older)

    def _compared(self, found: Delivered, folder: str, key: str, files: _Files, known: str) -> Delivered:
        """Return what is found so far, with what one manifest and its files show; the last one's word counts."""
        # What files are to have again stays remembered until they are compared anew.
        before = {**found.compared, folder: known} if known else found.compared
        found = msgspec.structs.replace(found, empty=False, unreadable="", compared=before)
        if files.is_as(known):
            return found
        try:
            read = self._named(key)
        except NotUnderstood as error:
            return msgspec.structs.replace(found, unreadable=error.message)
        if read is None:
            return found
        named, headings = read
        missing = tuple(one for one in named if not files.sizes.get(one))
        lost = files.lost(known, named)
        if missing:
            return msgspec.structs.replace(found, missing=(*found.missing, *missing))
        if lost:
            return msgspec.structs.replace(found, shorter=(*found.shorter, f"{folder}: {lost}"))
        marks = {name: mark for name, mark in before.items() if name != folder}
        empty = all(files.sizes[one] <= headings for one in named)
        return msgspec.structs.replace(
            found, empty=empty, compared=marks if empty else {**marks, folder: files.mark(named)}
        )

    def _named(self, key: str) -> tuple[list[str], int] | None:
        """Return the keys that a manifest names, and the bytes up to which such a file holds headings and no row.

        The function may not read the data, and need not: packed as loosely as gzip packs, a line of the columns' names
        is still smaller than with one row below. 0 where the manifest names no columns. None where the manifest may not
        be read. Raises NotUnderstood.
        """
        try:
            text = self._run.calls(QUOTA, self._read, key)
        except CloudError as error:
            # Deployments of earlier versions give no right to read manifests: nothing can be compared there.
            self._run.log("warning", "detail-unread", code=error.code, reason=f"manifest {key}: {error.message}")
            return None
        try:
            document = json.loads(text)
            files = document["dataFiles"]
        except (ValueError, KeyError, TypeError, RecursionError):
            document, files = {}, None
        if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
            raise NotUnderstood(f"s3 GetObject {key}", "it is no manifest with a list of dataFiles")
        root = f"s3://{self._settings.bucket_of(self._account)}/"
        return [one.removeprefix(root) for one in files], _headings(document.get("columns"))

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
        for page in self._pages(root, **arguments):
            for item in page:
                if item["Key"].startswith(f"{root}metadata/") and item["Key"].endswith(ending):
                    manifests.append(item)
                else:
                    sizes[item["Key"]] = int(item.get("Size", 0))
        return sizes, manifests

    def _pages(self, prefix: str, **arguments: Any) -> Iterator[Sequence[Mapping[str, Any]]]:
        while True:
            page = self._run.calls(
                QUOTA,
                self._clients.s3.list_objects_v2,
                Bucket=self._settings.bucket_of(self._account),
                Prefix=prefix,
                ExpectedBucketOwner=self._account,
                **arguments,
            )
            yield page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            arguments = {"ContinuationToken": page["NextContinuationToken"]}

    def _since(self) -> str:
        """Return the billing period before last: older ones are no longer restated, so they show nothing new."""
        now = self._run.clock.now()
        months = now.year * 12 + now.month - 1 - 2
        return f"{months // 12:04d}-{months % 12 + 1:02d}"


def _headings(columns: Any) -> int:
    """Return the most bytes that a line of these columns' names has when it is packed, 0 where there are none."""
    names = [str(one.get("name")) for one in columns if isinstance(one, dict)] if isinstance(columns, list) else []
    return len(gzip.compress(",".join(names).encode(errors="replace"), 1)) if names else 0
