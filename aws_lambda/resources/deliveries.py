"""Deliveries in the bucket: list the manifests, which AWS writes last, and compare them with the files they list."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.resources.delivery_manifest import MANIFEST_LIMIT, manifest_name, parse_manifest
from aws_lambda.resources.delivery_periods import listed_periods, month_of_folder, summary
from aws_lambda.resources.listing import Listing
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import Dataset
from shared.errors import CloudError, NotFound, NotUnderstood
from shared.parsing import parse_int
from shared.periods import Period, month_before, month_of, months_between
from shared.runtime.context import RunContext

QUOTA = "s3"
EARLIER_AT_ONCE = 5  # earlier periods checked in one run; the others with missing files follow in later runs
PERIODS = 3  # the newest periods, which AWS may still restate, are compared with their manifests


class Delivered(msgspec.Struct, frozen=True):
    """The deliveries of a dataset: when its newest manifest was written (`at`), and whether the listed files exist.

    `missing` are keys that a manifest lists and that do not exist or are empty. `shorter` describes each period whose
    files are smaller than when they were delivered. `empty` is true if the newest manifest lists no file, or only files
    no larger than a header line. `unreadable` is why the newest manifest could not be parsed. `compared` maps the
    folder of each complete period to a mark, which is remembered and compared with the files in the next run. `older`
    maps the folders of the checked earlier periods to their problems, "" for none. `periods` is what the listings
    show of each month.
    """

    at: datetime | None = None
    missing: tuple[str, ...] = ()
    shorter: tuple[str, ...] = ()
    empty: bool = False
    unreadable: str = ""
    compared: Mapping[str, str] = {}
    older: Mapping[str, str] = {}
    periods: Mapping[str, Period] = {}


class _Files(msgspec.Struct, frozen=True):
    """The listed files of one period, by size in bytes, and the ETag of its manifest.

    A manifest does not contain the sizes of its files, so the sizes at the first comparison are remembered in a mark.
    """

    sizes: Mapping[str, int]
    tag: str

    def mark(self, named: Sequence[str]) -> str:
        """Return the mark: the manifest's ETag, number and bytes of the listed files, bytes of the files it lists."""
        return f"{self.tag} {self._listed()} {sum(self.sizes.get(key, 0) for key in named)}"

    def is_as(self, mark: str) -> bool:
        """Return whether manifest and files are unchanged since the mark was made."""
        return bool(self.sizes) and mark.rpartition(" ")[0] == f"{self.tag} {self._listed()}"

    def lost(self, mark: str, named: Sequence[str]) -> str:
        """Return the present and former size if the files of the same manifest are smaller than before, else ""."""
        tag, _, rest = mark.partition(" ")
        before = parse_int(rest.rpartition(" ")[2]) or 0
        now = sum(self.sizes.get(key, 0) for key in named)
        return f"{now:,} of {before:,} bytes" if tag == self.tag and now < before else ""

    def _listed(self) -> str:
        return f"{len(self.sizes)} {sum(self.sizes.values())}"


class Deliveries:
    """Lists deliveries of exports and compares their manifests with the files."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._bucket, self._owner = settings.bucket_of(account), settings.owner_of_bucket(account)
        self._clients = clients
        self._run = run
        self._listing = Listing(self._bucket, self._owner, clients, run)

    def last(
        self, dataset: Dataset, compared: Mapping[str, str], incomplete: Collection[str], *, check_earlier: bool
    ) -> Delivered:
        """Return the deliveries of a dataset, none if the bucket does not exist.

        `compared` are the marks of the last run: a period without changes is not read again. `incomplete` are earlier
        periods with problems. With `check_earlier` these are checked again, and one further earlier period, a different
        one each day. Raises CloudError if the bucket cannot be listed.
        """
        try:
            data, manifests = self._listed(dataset)
        except NotFound:
            return Delivered(periods=listed_periods({}, {}, (), compared, ()))
        root = f"{self._settings.prefix}/{dataset.name}/"
        newest: dict[str, Mapping[str, Any]] = {}  # by the folder of the period
        for item in sorted(manifests, key=lambda item: (item["LastModified"], item["Key"])):
            folder = str(item["Key"]).removeprefix(f"{root}metadata/").rpartition("/")[0]
            newest.pop(folder, None)
            newest[folder] = item
        since = "" if dataset.monthly else f"BILLING_PERIOD={self._since()}"
        # Without any delivery so far, there is nothing to report about recent months either.
        recent = () if dataset.monthly or not (data or newest or compared) else self._recent_months()
        covered = {*recent, *(month_of_folder(folder) for folder in newest if folder >= since)}
        periods = listed_periods(data, newest, covered, compared, incomplete)
        if not newest:
            return Delivered(periods=periods)
        earlier = sorted(folder for folder in newest if folder < since)
        kept = {folder: mark for folder, mark in compared.items() if folder in earlier}
        at = next(reversed(newest.values()))["LastModified"].astimezone(UTC)
        found = Delivered(at, compared=kept, periods=periods)
        for folder, item in list(newest.items())[-PERIODS:]:
            # The files of older periods are not in the listing.
            if folder >= since:
                items = data.get(folder.partition("/")[0], ())
                files = _Files(_sizes(items, f"{root}data/{folder}/"), str(item["ETag"]))
                found = self._compared(found, folder, str(item["Key"]), files, compared.get(folder, ""))
        if not check_earlier or not earlier:
            return found
        today = earlier[self._run.clock.now().toordinal() % len(earlier)]
        return self._with_earlier(
            found, root, {one: newest[one] for one in earlier if one == today or one in incomplete}
        )

    def _with_earlier(self, found: Delivered, root: str, chosen: Mapping[str, Mapping[str, Any]]) -> Delivered:
        """Return `found` with the check of the `chosen` earlier periods: one listing each."""
        older: dict[str, str] = {}
        marks, periods = dict(found.compared), dict(found.periods)
        for folder, item in list(chosen.items())[:EARLIER_AT_ONCE]:
            items = self._listing.below(f"{root}data/{folder}/")
            periods[month_of_folder(folder)] = summary(items, item)
            files = _Files(_sizes(items), str(item["ETag"]))
            seen = self._compared(Delivered(), folder, str(item["Key"]), files, marks.get(folder, ""))
            marks |= seen.compared
            lacks = [f"{len(seen.missing)} files are missing: {', '.join(seen.missing[:3])}"] if seen.missing else []
            older[folder] = "; ".join([*lacks, *seen.shorter, *filter(None, [seen.unreadable])])
        periods.pop("", None)
        return msgspec.structs.replace(found, compared=marks, older=older, periods=periods)

    def _compared(self, found: Delivered, folder: str, key: str, files: _Files, known: str) -> Delivered:
        """Return `found` with the comparison of one manifest; `empty` and `unreadable` are those of the last one."""
        # The mark is kept until the period is complete again.
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
        named, header_size = read
        missing = tuple(one for one in named if not files.sizes.get(one))
        lost = files.lost(known, named)
        if missing:
            return msgspec.structs.replace(found, missing=(*found.missing, *missing))
        if lost:
            return msgspec.structs.replace(found, shorter=(*found.shorter, f"{folder}: {lost}"))
        marks = {name: mark for name, mark in before.items() if name != folder}
        empty = all(files.sizes[one] <= header_size for one in named)
        return msgspec.structs.replace(
            found, empty=empty, compared=marks if empty else {**marks, folder: files.mark(named)}
        )

    def _named(self, key: str) -> tuple[list[str], int] | None:
        """Return the keys that a manifest lists, and the size in bytes up to which a file has a header and no rows.

        The function has no permission to read the data and does not need it: a header line alone, compressed at gzip's
        lowest level, is smaller than one with a row below. The size is 0 if the manifest lists no columns. Returns None
        if the manifest cannot be read. Raises NotUnderstood.
        """
        try:
            text = self._run.calls(QUOTA, self._read, key)
        except CloudError as error:
            # Deployments of earlier versions lack the permission to read manifests, so nothing is compared.
            self._run.log(
                "warning", "detail-unread", code=error.code, reason=f"manifest {key} could not be read: {error.message}"
            )
            return None
        manifest = parse_manifest(text, key, self._bucket)
        return list(manifest.files), _header_size([name for name, _ in manifest.columns])

    def _read(self, key: str) -> bytes:
        answer = self._clients.s3.get_object(Bucket=self._bucket, Key=key, ExpectedBucketOwner=self._owner)
        with closing(answer["Body"]) as body:
            return bytes(body.read(MANIFEST_LIMIT))

    def _listed(self, dataset: Dataset) -> tuple[dict[str, list[Mapping[str, Any]]], list[Mapping[str, Any]]]:
        """Return recent data files by the folder of their period, and all manifests, by one listing."""
        root = f"{self._settings.prefix}/{dataset.name}/"
        ending = f"/{manifest_name(dataset.name)}"
        arguments: dict[str, Any] = {}
        if not dataset.monthly:
            arguments["StartAfter"] = f"{root}data/BILLING_PERIOD={self._since()}"
        data: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        manifests: list[Mapping[str, Any]] = []
        for page in self._listing.pages(root, **arguments):
            for item in page:
                area, _, name = str(item["Key"]).removeprefix(root).partition("/")
                if area == "metadata" and name.endswith(ending):
                    manifests.append(item)
                elif area == "data":
                    data[name.partition("/")[0]].append(item)
        return data, manifests

    def _since(self) -> str:
        """Return the billing period before the previous one: AWS no longer restates older ones."""
        return month_before(month_of(self._run.clock.now()), 2)

    def _recent_months(self) -> Iterator[str]:
        """Yield the months whose data files are all in the listing."""
        return months_between(self._since(), month_of(self._run.clock.now()))


def _sizes(items: Iterable[Mapping[str, Any]], prefix: str = "") -> dict[str, int]:
    """Return the sizes in bytes of listed objects below `prefix`, by key."""
    return {str(one["Key"]): int(one.get("Size", 0)) for one in items if str(one["Key"]).startswith(prefix)}


def _header_size(names: Sequence[str]) -> int:
    """Return the compressed size in bytes of a header line with these columns, 0 without columns."""
    return len(gzip.compress(",".join(names).encode(errors="replace"), 1)) if names else 0
