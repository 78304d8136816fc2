"""Lists, reads and writes the objects of one bucket, each call within the rate limits and the deadline."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from gcp_function.clients import Clients
from gcp_function.refusals import PRECONDITION
from gcp_function.resources.parquet import MAGIC, Footer, parse_footer
from shared.errors import NotFound, Permanent
from shared.parsing import parse_time, require_int
from shared.runtime.context import RunContext
from shared.state.store import JSON, Conflict

QUOTA = "storage"
LISTING = "storage.objects.list"
PAGE = 1000
FIELDS = "kind,items(name,generation,size,metadata,timeCreated,crc32c),nextPageToken"
AT_ONCE = 8 * 1024 * 1024  # bytes above which the SDK would upload in two requests, in resumable pieces
TAIL = 64 * 1024  # bytes read from a file's end: a footer of the export's schema takes about 40 KB a row group


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One object of a listing; `generation` is its version, `size` in bytes, `crc32c` in base64."""

    name: str
    generation: int
    size: int
    metadata: Mapping[str, str] | None = None
    created: datetime | None = None
    crc32c: str = ""


class Objects:
    """Lists, reads and writes the objects of one bucket."""

    def __init__(self, bucket: str, clients: Clients, run: RunContext) -> None:
        self.bucket = bucket
        self._clients = clients
        self._run = run

    def below(self, prefix: str, glob: str = "") -> Iterator[Stored]:
        """Yield all objects whose names begin with `prefix` and match `glob`, in the order of their names.

        A page may be short or empty while more follow. Raises CloudError.
        """
        token = ""
        while True:
            found, token = self._run.calls(QUOTA, self._page, token, prefix, glob)
            yield from found
            if not token:
                return

    def read(self, name: str, limit: int = 0, generation: int | None = None) -> tuple[bytes, int]:
        """Return an object's bytes, at most `limit` + 1 of them (0: all), and its generation. Raises CloudError."""
        return self._run.calls(QUOTA, self._read, name, 0, limit or None, generation)

    def tail(self, stored: Stored, length: int) -> bytes:
        """Return the last `length` bytes of an object. Raises CloudError."""
        start = max(0, stored.size - length)
        return self._run.calls(QUOTA, self._read, stored.name, start, stored.size - 1, stored.generation)[0]

    def write(
        self,
        name: str,
        data: bytes,
        generation: int | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = JSON,
    ) -> int:
        """Write an object if it still has `generation` (0: does not exist; None: in any case); return the new one.

        Raises Conflict if not, and CloudError.
        """
        try:
            return self._run.calls(QUOTA, self._write, name, data, generation, metadata, content_type)
        except Permanent as error:
            if error.code == PRECONDITION:
                raise Conflict(error.message) from error
            raise

    def delete(self, stored: Stored) -> None:
        """Delete an object, if it is still the one that was listed. Ignores a missing one. Raises CloudError."""
        try:
            self._run.calls(
                QUOTA,
                self._blob(stored.name).delete,
                if_generation_match=stored.generation,
                timeout=self._clients.timeout,
                retry=None,
            )
        except NotFound:
            return
        except Permanent as error:
            if error.code != PRECONDITION:
                raise

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the bucket. Raises CloudError."""
        bucket = self._clients.storage.bucket(self.bucket)
        self._run.calls(
            QUOTA, bucket.copy_blob, bucket.blob(name), bucket, to, timeout=self._clients.timeout, retry=None
        )

    def size(self, name: str) -> tuple[int, int]:
        """Return an object's size in bytes and its generation. Raises CloudError."""
        blob = self._blob(name)
        self._run.calls(QUOTA, blob.reload, timeout=self._clients.timeout, retry=None)
        return require_int(blob.size or 0, "storage.objects.get"), require_int(
            blob.generation, "storage.objects.get", 1
        )

    def age(self, name: str) -> timedelta | None:
        """Return how long ago an object was written, by Cloud Storage's own clock. Raises CloudError."""
        path = f"storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"
        document, date = self._run.calls(QUOTA, self._clients.get_dated, "storage", path, {"fields": "kind,updated"})
        updated = parse_time(document.get("updated"))
        return max(date - updated, timedelta(0)) if date is not None and updated is not None else None

    def footer(self, stored: Stored) -> Footer:
        """Read the footer of a Parquet file. Raises CloudError; Permanent for other files."""
        data = self.tail(stored, TAIL)
        if len(data) >= 12 and data[-4:] == MAGIC:
            (length,) = struct.unpack("<I", data[-8:-4])
            if length + 8 > len(data) and length + 8 < stored.size:
                data = self.tail(stored, length + 8)
            if length + 8 <= len(data):
                try:
                    return parse_footer(data[-8 - length : -8])
                except (IndexError, ValueError):
                    pass
        what = f"{stored.name} is not a complete Parquet file"
        raise Permanent("not-parquet", what, "Nothing: the next run copies the partition again.")

    def _page(self, token: str, prefix: str, glob: str) -> tuple[list[Stored], str]:
        # Without the SDK: creating its objects takes more CPU time than everything else in a listing.
        parameters = {"pageToken": token, "prefix": prefix, "matchGlob": glob, "maxResults": PAGE, "fields": FIELDS}
        given = {name: value for name, value in parameters.items() if value}
        answer = self._clients.get("storage", f"storage/v1/b/{self.bucket}/o", given)
        found = [
            Stored(
                one["name"],
                require_int(one.get("generation"), LISTING, 1),
                require_int(one.get("size"), LISTING),
                one.get("metadata"),
                parse_time(one.get("timeCreated")),
                one.get("crc32c") or "",
            )
            for one in answer.get("items", ())
        ]
        return found, answer.get("nextPageToken", "")

    def _read(self, name: str, start: int, end: int | None, generation: int | None) -> tuple[bytes, int]:
        blob = self._blob(name)
        whole = start == 0 and end is None
        data: bytes = blob.download_as_bytes(
            start=None if whole else start,
            end=end,
            if_generation_match=generation,
            checksum="auto" if whole else None,  # a checksum is of the whole object
            timeout=self._clients.timeout,
            retry=None,
        )
        return data, require_int(blob.generation, "storage.objects.get", 1)

    def _write(
        self,
        name: str,
        data: bytes,
        generation: int | None,
        metadata: Mapping[str, str] | None,
        content_type: str,
    ) -> int:
        if len(data) > AT_ONCE and not metadata:
            # The state and the report of many accounts: such an upload is never resumed.
            condition = {} if generation is None else {"ifGenerationMatch": generation}
            written = self._clients.upload(self.bucket, data, {"name": name, **condition}, content_type)
            return require_int(written["generation"], "storage.objects.insert", 1)
        blob = self._blob(name)
        if metadata:
            blob.metadata = dict(metadata)
        blob.upload_from_string(
            data, content_type=content_type, if_generation_match=generation, timeout=self._clients.timeout, retry=None
        )
        return require_int(blob.generation, "storage.objects.insert", 1)

    def _blob(self, name: str) -> Any:
        return self._clients.storage.bucket(self.bucket).blob(name)
