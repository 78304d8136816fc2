"""The documents as they must be, the names of objects, and the one normal form in which they are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gcp_function.targets import COLDER, MANAGED_BY, MANAGER
from shared.parsing import LAST_MICROS, whole

# A partition is restated for about a month; after 90 days its copy rests. Every class is read at once, as readers
# need. Manifests stay where they are: they are small, and read most.
TIERS = (("NEARLINE", 90), ("COLDLINE", 365))
MANIFEST = "manifest.json"
FORMAT = "tailpipe-billing-copy"
FILE = re.compile(r"(?P<watermark>[^/]+)/(?P<attempt>\d{1,10})-\d{12}\.parquet")
MAGIC = b"PAR1"  # what a Parquet file begins and ends with


class Watermark(msgspec.Struct, frozen=True, order=True):
    """How far a partition has come: its rows, and its newest export_time in microseconds since 1970.

    Rows are only ever added, so the number tells of rows that came out of the streaming buffer with an older
    export_time, which the newest one would hide.
    """

    rows: int
    exported_at: int

    @property
    def id(self) -> str:
        """Return it as a folder's name: ``20260105T093000.123456Z-1234``."""
        return f"{moment_of(self.exported_at):%Y%m%dT%H%M%S.%f}Z-{self.rows}"


_WATERMARK = re.compile(r"(\d{8}T\d{6}\.\d{6})Z-(\d{1,15})")
MS_MAX = 100 * 366 * 24 * 3600 * 1000  # a century: a longer time is as good as none, and no date could hold it
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_watermark(text: str) -> Watermark | None:
    """Return the watermark of that folder's name, None if it is none."""
    match = _WATERMARK.fullmatch(text)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None
    return Watermark(int(match[2]), (moment - EPOCH) // timedelta(microseconds=1))


def moment_of(micros: int) -> datetime:
    """Return the moment so many microseconds after the beginning of 1970."""
    return EPOCH + timedelta(microseconds=micros)


def folder_of(account: str, day: str, kind: str) -> str:
    """Return the prefix of everything that belongs to one partition's copy: ``{account}/{YYYY-MM-DD}/{kind}/``."""
    return f"{account}/{day}/{kind}/"


def stem_of(folder: str, watermark: Watermark | None, attempt: int) -> str:
    """Return the beginning of the names of the files that one extract job writes, without its last hyphen."""
    return f"{folder}{watermark.id if watermark else ''}/{attempt}"


class File(msgspec.Struct, frozen=True):
    """One file in a manifest: its full name, rows and bytes."""

    name: str
    rows: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What readers read first: the files that make up one partition, all of one watermark.

    `previous` names the set before, which stays until the next change for those who are still reading it.
    """

    format: str
    version: int
    account: str
    kind: str
    day: str
    table: str
    watermark: str
    newest_export_time: datetime
    rows: int
    files: list[File]
    job: str
    written_at: datetime
    previous: list[str] = []


def parse_manifest(data: bytes, account: str, kind: str, day: str) -> Manifest | None:
    """Return the manifest in `data`, None if it is not one of ours for this partition."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    same = (manifest.format, manifest.account, manifest.kind, manifest.day) == (FORMAT, account, kind, day)
    return manifest if same else None


def manifest_of(
    watermark: Watermark,
    files: Sequence[File],
    *,
    account: str,
    kind: str,
    day: str,
    table: str,
    job: str,
    written_at: datetime,
    previous: Sequence[str],
) -> Manifest:
    """Return the manifest of a copy; `table` with project and dataset, `previous` full names of the set before."""
    return Manifest(
        format=FORMAT,
        version=1,
        account=account,
        kind=kind,
        day=day,
        table=table,
        watermark=watermark.id,
        newest_export_time=moment_of(watermark.exported_at),
        rows=sum(one.rows for one in files),
        files=list(files),
        job=job,
        written_at=written_at,
        previous=list(previous),
    )


def encoded(manifest: Manifest) -> bytes:
    """Return a manifest as it is stored: JSON, one field a line."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def mark_of(manifest: Manifest, attempt: int, modified: int) -> dict[str, str]:
    """Return a manifest's metadata: whose it is, and what a listing is to tell of it (`modified` in microseconds)."""
    return {
        MANAGED_BY: MANAGER,
        "watermark": manifest.watermark,
        "attempt": str(attempt),
        "modified": str(modified),
        "rows": str(manifest.rows),
        "files": str(len(manifest.files)),
        "bytes": str(sum(one.bytes for one in manifest.files)),
    }


def marked(metadata: Mapping[str, str]) -> tuple[Watermark, int] | None:
    """Return watermark and attempt that a manifest's metadata tell of, None if they are not our mark."""
    watermark = parse_watermark(metadata.get("watermark", ""))
    if metadata.get(MANAGED_BY) != MANAGER or watermark is None:
        return None
    return watermark, whole(metadata.get("attempt")) or 0


class Copy(msgspec.Struct, frozen=True, gc=False):
    """One partition's copy as a listing shows it.

    `modified` is when the partition had been written last (microseconds, by BigQuery's catalog) before it was copied.
    `watermark` is None where the manifest has not our mark. `intact`: the files are there that the mark tells of.
    `created` is when the manifest was written.
    """

    generation: int
    watermark: Watermark | None = None
    modified: int = 0
    attempt: int = 0
    intact: bool = False
    created: datetime | None = None


class Folder:
    """Adds up the files of one partition's folder while a listing passes by; the manifest comes last in it."""

    def __init__(self, place: tuple[str, str, str] = ("", "", "")) -> None:
        self.place = place
        self._sets: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, name: str, size: int) -> None:
        """Count a file by its name within the folder; `size` in bytes."""
        match = FILE.fullmatch(name)
        if match:
            files, total = self._sets.get((match["watermark"], match["attempt"]), (0, 0))
            self._sets[match["watermark"], match["attempt"]] = (files + 1, total + size)

    def closed(self, generation: int, metadata: Mapping[str, str], created: datetime | None = None) -> Copy:
        """Return the copy whose manifest has this metadata."""
        held = marked(metadata)
        if held is None:
            return Copy(generation, created=created)
        watermark, attempt = held
        files, total = self._sets.get((watermark.id, metadata.get("attempt", "")), (0, 0))
        told = (metadata.get("files"), metadata.get("bytes"))
        intact = told == (str(files), str(total))
        return Copy(
            generation, watermark, whole(metadata.get("modified"), 0, LAST_MICROS) or 0, attempt, intact, created
        )


def lifecycle_rules() -> list[dict[str, Any]]:
    """Return the function's own lifecycle rules, as Cloud Storage takes them."""
    return [
        {
            "action": {"type": "SetStorageClass", "storageClass": storage_class},
            "condition": {"age": days, "matchesSuffix": [".parquet"]},
        }
        for storage_class, days in TIERS
    ]


def normal_bucket(bucket: Mapping[str, Any]) -> dict[str, Any]:
    """Return the managed fields of a live bucket in the form of `Target.desired`."""
    configuration = bucket.get("iamConfiguration", {})
    rules = bucket.get("lifecycle", {}).get("rule", [])
    # Whoever chose other tiers keeps them: rules have no names, so ours beside his would only fight his deployment.
    tiered = any(rule.get("action", {}).get("type") == "SetStorageClass" for rule in rules)
    return {
        "uniform-access": bool(configuration.get("uniformBucketLevelAccess", {}).get("enabled")),
        "lifecycle": COLDER if tiered else "none",
    }


def closed(bucket: Mapping[str, Any]) -> bool:
    """Return whether a bucket's own setting keeps the public out, whatever its policies say."""
    return bool(bucket.get("iamConfiguration", {}).get("publicAccessPrevention") == "enforced")


def deleted_after(bucket: Mapping[str, Any]) -> int | None:
    """Return the least age at which a rule deletes live files or manifests of copies; None where no rule does."""
    ages = [
        whole(rule["condition"].get("age", 0)) or 0
        for rule in bucket.get("lifecycle", {}).get("rule", [])
        if rule.get("action", {}).get("type") == "Delete" and _of_copies(rule.get("condition", {}))
    ]
    return min(ages, default=None)


def _of_copies(condition: Mapping[str, Any]) -> bool:
    """Return whether a rule's condition can hold for a live copy; a date that is past concerns older objects only."""
    if not set(condition) <= {"age", "isLive", "matchesSuffix", "matchesPrefix", "matchesStorageClass"}:
        return False
    suffixes, prefixes = condition.get("matchesSuffix"), condition.get("matchesPrefix")
    ends = suffixes is None or any(name.endswith(one) for one in suffixes for name in (".parquet", MANIFEST))
    begins = prefixes is None or any(re.match(r"[0-9A-F-]*$|[0-9A-F]{6}-", one) for one in prefixes)
    return bool(condition.get("isLive", True) and ends and begins)


def expires_after(dataset: Mapping[str, Any]) -> timedelta | None:
    """Return after what time BigQuery deletes a dataset's new tables or their partitions, None for never."""
    names = ("defaultTableExpirationMs", "defaultPartitionExpirationMs")
    texts = [str(dataset.get(name) or "") for name in names]
    found = [int(text[:15]) for text in texts if text.isascii() and text.isdigit()]
    return min((timedelta(milliseconds=one) for one in found if 0 < one < MS_MAX), default=None)


def key_of(dataset: Mapping[str, Any]) -> str:
    """Return the name of the customer-managed key that a dataset gives to its new tables, "" for none."""
    configuration = dataset.get("defaultEncryptionConfiguration")
    return str(configuration.get("kmsKeyName") or "") if isinstance(configuration, Mapping) else ""


def retained_for(bucket: Mapping[str, Any]) -> timedelta | None:
    """Return how long a bucket's retention policy keeps objects from being replaced, None where they can be.

    With versions a replaced object stays as one, which the policy allows ("Bucket Lock", Cloud Storage).
    """
    policy, versions = bucket.get("retentionPolicy"), bucket.get("versioning")
    if not isinstance(policy, Mapping) or (isinstance(versions, Mapping) and versions.get("enabled")):
        return None
    return _seconds(policy.get("retentionPeriod"))


def soft_deleted_for(bucket: Mapping[str, Any]) -> timedelta:
    """Return how long a bucket keeps, and bills, objects that were deleted; zero where it does not."""
    policy = bucket.get("softDeletePolicy")
    found = _seconds(policy.get("retentionDurationSeconds")) if isinstance(policy, Mapping) else None
    return found or timedelta(0)


def _seconds(value: object) -> timedelta | None:
    """Return a time that Google writes as a number of seconds, None for anything else."""
    text = str(value or "")
    return timedelta(seconds=min(int(text[:15]), MS_MAX // 1000)) if text.isascii() and text.isdigit() else None


def writers(dataset: Mapping[str, Any]) -> frozenset[str] | None:
    """Return who is named in a dataset's access entries, None where they are hidden.

    Every dataset has an owner's entry: none at all means that they are hidden, not that nobody may write.
    """
    entries = dataset.get("access")
    return frozenset(str(entry.get("userByEmail", "")) for entry in entries) if entries else None


def rows_of_footer(footer: bytes) -> int:
    """Return num_rows of a Parquet footer, which is a Thrift struct in the compact protocol: its third field.

    Only what comes before that field is skipped over. Raises ValueError or IndexError for anything else. Sources: the
    Thrift compact protocol's specification, and parquet.thrift (FileMetaData).
    """
    reader, field = _Compact(footer), 0
    while True:
        head = reader.byte()
        kind = head & 0x0F
        if kind == 0:
            raise ValueError("the footer has no number of rows")
        field = field + (head >> 4) if head >> 4 else reader.signed()
        if field == 3:
            return reader.signed()
        reader.skip(kind)


class _Compact:
    """Skips through a Thrift struct in the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def signed(self) -> int:
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, levels: int = 16) -> None:
        if levels == 0:
            raise ValueError("nested too deeply")
        if kind in (1, 2):
            return
        if kind == 3:
            self._at += 1
        elif kind in (4, 5, 6):
            self.unsigned()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            length = self.unsigned()
            self._at += length
        elif kind in (9, 10):
            head = self.byte()
            self._elements(head >> 4 if head >> 4 != 15 else self.unsigned(), head & 0x0F, levels)
        elif kind == 12:
            while head := self.byte():
                if not head >> 4:
                    self.signed()
                self.skip(head & 0x0F, levels - 1)
        else:
            raise ValueError(f"type {kind} is none of a footer")

    def _elements(self, number: int, kind: int, levels: int) -> None:
        # Each takes a byte at least: a number that the footer has no room for would be counted for ever.
        if number > len(self._data) - self._at:
            raise ValueError("a list is longer than its footer")
        for _ in range(number):
            # In a list a truth value takes a byte; in a field it is the type itself.
            self.skip(3 if kind in (1, 2) else kind, levels - 1)
