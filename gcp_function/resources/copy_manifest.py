"""The manifests of copies: their format, the names of objects, and how a listing shows a copy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gcp_function.targets import MANAGED_BY, MANAGER
from shared.parsing import LAST_MICROS, parse_int
from shared.periods import Period

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 8 * 1024 * 1024  # bytes
FORMAT = "tailpipe-billing-copy"
FILE = re.compile(r"(?P<watermark>[^/]+)/(?P<attempt>\d{1,10})-\d{12}\.parquet")


class Watermark(msgspec.Struct, frozen=True, order=True, gc=False):
    """The version of a partition: its number of rows, and its newest export_time in microseconds since 1970.

    The number also shows rows that left the streaming buffer with an older export_time.
    """

    rows: int
    exported_at: int

    @property
    def id(self) -> str:
        """Return the watermark as a folder name: ``20260105T093000.123456Z-1234``."""
        return f"{moment_of(self.exported_at):%Y%m%dT%H%M%S.%f}Z-{self.rows}"


_WATERMARK = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-(\d{1,15})")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_watermark(text: str) -> Watermark | None:
    """Return the watermark in a folder name, or None."""
    match = _WATERMARK.fullmatch(text)
    if match is None:
        return None
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError:
        return None
    return Watermark(int(match[2]), (moment - EPOCH) // timedelta(microseconds=1))


def moment_of(micros: int) -> datetime:
    """Return the time that is `micros` microseconds after the beginning of 1970."""
    return EPOCH + timedelta(microseconds=micros)


def folder_of(account: str, day: str, kind: str) -> str:
    """Return the prefix of everything that belongs to one partition's copy: ``{account}/{YYYY-MM-DD}/{kind}/``."""
    return f"{account}/{day}/{kind}/"


def stem_of(folder: str, watermark: Watermark | None, attempt: int) -> str:
    """Return the prefix of the names of the files that one extract job writes, without the last hyphen."""
    return f"{folder}{watermark.id if watermark else ''}/{attempt}"


class File(msgspec.Struct, frozen=True):
    """One file in a manifest: its full name, rows and bytes."""

    name: str
    rows: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one partition, all of one watermark: readers start here.

    `previous` lists the superseded files, which are kept until the next change for readers that still use them.
    `schema` is a fingerprint of the columns, empty in manifests of earlier versions.
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
    schema: str = ""


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
    schema: str,
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
        schema=schema,
    )


def encoded(manifest: Manifest) -> bytes:
    """Return a manifest as it is stored: JSON, one field a line."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def mark_of(manifest: Manifest, attempt: int, modified: int) -> dict[str, str]:
    """Return a manifest's metadata: our mark, and what a listing must show of it (`modified` in microseconds)."""
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
    """Return the watermark and the attempt in a manifest's metadata, None if that is not our mark."""
    watermark = parse_watermark(metadata.get("watermark", ""))
    if metadata.get(MANAGED_BY) != MANAGER or watermark is None:
        return None
    return watermark, parse_int(metadata.get("attempt")) or 0


class Copy(msgspec.Struct, frozen=True, gc=False):
    """One partition's copy as a listing shows it.

    `modified` is when the partition was last written before it was copied (microseconds, by BigQuery's catalog).
    `watermark` is None if the manifest does not have our mark. `intact` is true if the files exist that the mark
    counts: so many `files` with so many `bytes`. `created` is when the manifest was written.
    """

    generation: int
    watermark: Watermark | None = None
    modified: int = 0
    attempt: int = 0
    intact: bool = False
    created: datetime | None = None
    files: int = 0
    bytes: int = 0

    @property
    def period(self) -> Period | None:
        """Return what the copy holds, as the ledger of deliveries records it; None if it is not ours or not intact."""
        if self.watermark is None or not self.intact:
            return None
        return Period(self.files, self.bytes, self.created, self.created, moment_of(self.watermark.exported_at))


class Folder:
    """Adds up the files of one partition's folder during a listing; the manifest is the last object in it."""

    def __init__(self, place: tuple[str, str, str] = ("", "", "")) -> None:
        self.place = place
        self._sets: dict[tuple[str, ...], tuple[int, int]] = {}  # (files, bytes) by (watermark, attempt)

    def add(self, name: str, size: int) -> None:
        """Count a file by its name within the folder; `size` in bytes."""
        match = FILE.fullmatch(name)
        if match:
            files, total = self._sets.get(match.groups(), (0, 0))
            self._sets[match.groups()] = (files + 1, total + size)

    def closed(self, generation: int, metadata: Mapping[str, str], created: datetime | None = None) -> Copy:
        """Return the copy whose manifest has this metadata."""
        held = marked(metadata)
        if held is None:
            return Copy(generation, created=created)
        watermark, attempt = held
        files, total = self._sets.get((metadata["watermark"], metadata.get("attempt", "")), (0, 0))
        intact = (metadata.get("files"), metadata.get("bytes")) == (str(files), str(total))
        modified = parse_int(metadata.get("modified"), 0, LAST_MICROS) or 0
        return Copy(generation, watermark, modified, attempt, intact, created, files, total)
