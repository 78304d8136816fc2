"""Cloud Storage objects: generations, preconditions, checksums, ordered listings; strongly consistent."""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from localcloud.gcp.errors import GoogleError, invalid, not_found
from localcloud.gcp.services.object_files import checksums

MAX_PAGE = 1000
_METADATA = (
    "contentType",
    "contentEncoding",
    "contentDisposition",
    "contentLanguage",
    "cacheControl",
    "customTime",
    "metadata",
    "storageClass",
    "eventBasedHold",
    "temporaryHold",
)


@dataclass(frozen=True)
class StoredObject:
    """One live object. `fields` are the metadata that a writer may choose."""

    name: str
    content: bytes | Path
    size: int
    md5: str
    crc32c: str
    generation: int
    metageneration: int
    created: datetime
    updated: datetime
    class_updated: datetime
    fields: Mapping[str, Any]

    def as_json(self, bucket: str, default_class: str) -> dict[str, Any]:
        etag = base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": default_class,
            "size": str(self.size),
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": etag,
            "timeCreated": rfc3339(self.created),
            "updated": rfc3339(self.updated),
            "timeStorageClassUpdated": rfc3339(self.class_updated),
            **self.fields,
        }


def rfc3339(moment: datetime) -> str:
    """Return a moment as Google's APIs write it, with microseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True)
class Conditions:
    """The preconditions of a request; None where a precondition is not set."""

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, list[str]], prefix: str = "if") -> Conditions:
        """Return the preconditions in a query; `prefix` is ``ifSource`` for a copy's source."""
        values = [
            int(query[name][0]) if (name := f"{prefix}{part}") in query else None
            for part in ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")
        ]
        return cls(*values)

    def check(self, found: StoredObject | None, *, reading: bool = False) -> None:
        """Raise GoogleError 412, or 304 for a read of an unchanged object. Generation 0 means that no object exists."""
        generation = found.generation if found else 0
        metageneration = found.metageneration if found else 0
        fails = (self.generation is not None and self.generation != generation) or (
            self.metageneration is not None and self.metageneration != metageneration
        )
        if fails:
            raise precondition_failed()
        unchanged = (self.not_generation is not None and self.not_generation == generation) or (
            self.not_metageneration is not None and self.not_metageneration == metageneration
        )
        if unchanged:
            raise GoogleError(304, "notModified", "Not Modified") if reading else precondition_failed()


def precondition_failed() -> GoogleError:
    """Return the 412 error for an unmet precondition."""
    return GoogleError(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


# difference: GCP-15
@cache
def glob_pattern(glob: str) -> re.Pattern[str]:
    """Return the regular expression for a ``matchGlob``. Raises GoogleError 400 for unclosed braces or brackets.

    Source: "List objects and prefixes using glob", JSON API reference of objects.list.
    """
    found: list[str] = []
    depth = place = 0
    while place < len(glob):
        sign = glob[place]
        end = glob.find("]", place + 1) if sign == "[" else place
        if end < 0:
            raise invalid(f"Invalid glob: {glob}")
        if glob.startswith("**", place):
            found, end = [*found, ".*"], place + 1
        elif sign == "[":
            chosen = re.escape(glob[place + 1 : end]).replace("\\-", "-")
            found.append(f"[{'^' + chosen[1:] if chosen.startswith('!') else chosen}]")
        elif sign == "," and depth:
            found.append("|")
        else:
            depth += (sign == "{") - (sign == "}")
            found.append({"*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}.get(sign) or re.escape(sign))
        if depth < 0:
            raise invalid(f"Invalid glob: {glob}")
        place = end + 1
    if depth:
        raise invalid(f"Invalid glob: {glob}")
    return re.compile("".join(found), re.S)


class ObjectStore:
    """The live objects of one bucket. The caller holds the world's lock."""

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}
        self._names: list[str] = []
        self._last = 0
        self.mutated: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._names)

    def find(self, name: str, generation: int | None = None) -> StoredObject | None:
        found = self._objects.get(name)
        return found if found and generation in (None, found.generation) else None

    def get(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """Return an object. Raises GoogleError 404."""
        found = self.find(name, generation)
        if found is None:
            raise not_found(f"No such object: {bucket}/{name}")
        return found

    def put(
        self, name: str, content: bytes | Path, fields: Mapping[str, Any], conditions: Conditions, now: datetime
    ) -> StoredObject:
        """Write an object as a new generation. Raises GoogleError for an unmet condition or a checksum mismatch."""
        check_name(name)
        before = self._objects.get(name)
        conditions.check(before)
        size, md5, crc = checksums(content)
        for given, is_, what in ((fields.get("md5Hash"), md5, "MD5 hash"), (fields.get("crc32c"), crc, "CRC32C")):
            if given and given != is_:
                raise invalid(f'Provided {what} "{given}" doesn\'t match calculated {what} "{is_}".')
        kept = {key: fields[key] for key in _METADATA if fields.get(key) is not None}
        # Generations always increase, even if the clock goes back.
        self._last = max(self._last + 1, int(now.timestamp() * 1_000_000))
        stored = StoredObject(name, content, size, md5, crc, self._last, 1, now, now, now, kept)
        if before is None:
            insort(self._names, name)
        else:
            _drop(before.content, content)
        self._objects[name] = stored
        return stored

    def patch(self, found: StoredObject, body: Mapping[str, Any], now: datetime) -> StoredObject:
        """Change an object's metadata: null removes, `metadata` merges."""
        fields = dict(found.fields)
        for key, value in body.items():
            if key == "metadata" and isinstance(value, dict):
                merged = {name: item for name, item in (fields.get(key, {}) | value).items() if item is not None}
                fields[key] = merged
            elif key in _METADATA and value is None:
                fields.pop(key, None)
            elif key in _METADATA and key != "storageClass":
                fields[key] = value
        changed = replace(found, fields=fields, metageneration=found.metageneration + 1, updated=now)
        self._objects[found.name] = changed
        return changed

    def reclass(self, found: StoredObject, storage_class: str, now: datetime) -> None:
        """Move an object to another storage class, as a lifecycle rule does."""
        fields = dict(found.fields) | {"storageClass": storage_class}
        self._objects[found.name] = replace(found, fields=fields, class_updated=now, updated=now)

    def delete(self, bucket: str, name: str, generation: int | None, conditions: Conditions) -> None:
        found = self.get(bucket, name, generation)
        conditions.check(found)
        del self._objects[name]
        del self._names[bisect_left(self._names, name)]
        _drop(found.content, b"")

    def names(self, prefix: str = "") -> list[str]:
        """Return the names that begin with `prefix`, in order."""
        start = bisect_left(self._names, prefix)
        return self._names[start : bisect_left(self._names, prefix + "\U0010ffff", lo=start)]

    def page(
        self,
        prefix: str,
        delimiter: str,
        token: str,
        size: int,
        start_at: str = "",
        end_at: str = "",
        whole: bool = False,
        glob: str = "",
    ) -> tuple[list[StoredObject], list[str], str]:
        """Return (objects, common prefixes, next token), together at most `size`.

        `whole`: an object whose name equals a common prefix is listed too. `glob`: only matching objects are listed.
        """
        matches = glob_pattern(glob).fullmatch if glob else None
        after = _token_name(token)
        position = bisect_left(self._names, max(prefix, start_at))
        if after:
            position = self._position_after(after, delimiter)
        objects: list[StoredObject] = []
        prefixes: list[str] = []
        last = ""
        while position < len(self._names):
            name = self._names[position]
            if not name.startswith(prefix) or (end_at and name >= end_at):
                break
            if len(objects) + len(prefixes) >= size:
                return objects, prefixes, base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
            if matches is not None and not matches(name):
                position += 1
                continue
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                objects.append(self._objects[name])
                last = name
                position += 1
                continue
            last = name[: cut + len(delimiter)]
            if whole and name == last:
                objects.append(self._objects[name])
            prefixes.append(last)
            position = self._position_after(last, delimiter)
        return objects, prefixes, ""

    def _position_after(self, name: str, delimiter: str) -> int:
        if delimiter and name.endswith(delimiter):
            return bisect_left(self._names, name + "\U0010ffff")
        return bisect_right(self._names, name)


def _token_name(token: str) -> str:
    if not token:
        return ""
    try:
        return str(json.loads(base64.urlsafe_b64decode(token)))
    except (ValueError, binascii.Error) as error:
        raise invalid("Invalid argument: page token.") from error


def _drop(content: bytes | Path, successor: bytes | Path) -> None:
    # A reader with the file open can continue: the data stays available until the file is closed.
    if isinstance(content, Path) and content != successor:
        content.unlink(missing_ok=True)


def check_name(name: str) -> None:
    """Raise GoogleError for an invalid object name (https://cloud.google.com/storage/docs/objects#naming)."""
    if not name or name in (".", "..") or "\r" in name or "\n" in name or len(name.encode()) > 1024:
        raise invalid(f"Invalid object name: {name[:80]!r}")
