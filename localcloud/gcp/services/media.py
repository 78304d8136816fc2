"""Object uploads (simple, multipart and resumable) and downloads (whole or in ranges)."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localcloud.common.http_server import FileRange, Response
from localcloud.gcp.context import Answer, Context
from localcloud.gcp.discovery import check_body, match
from localcloud.gcp.errors import GoogleError, invalid, not_found
from localcloud.gcp.services.buckets import Bucket
from localcloud.gcp.services.objects import Conditions, StoredObject, check_name
from localcloud.gcp.services.storage_access import reach

_UNIT = 256 * 1024  # every chunk but the last must be a multiple of this
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Upload:
    """A started resumable upload: the target object and the received data."""

    name: str
    fields: dict[str, Any]
    conditions: Conditions
    data: bytearray = field(default_factory=bytearray)
    done: dict[str, Any] | None = None


class Media:
    """Uploads and downloads. `mutations_per_s` limits the write rate per object (0: no limit)."""

    def __init__(self, mutations_per_s: float) -> None:
        self._mutations_per_s = mutations_per_s

    def insert(self, context: Context) -> Answer:
        request, name = context.request, context.ids[0]
        kind = request.one("uploadType")
        if context.media != "upload":
            raise invalid("Upload requests must be sent to the /upload path.")
        if kind == "resumable" and "upload_id" in request.query:
            return self._chunk(context)
        if kind == "media":
            fields: dict[str, Any] = {"contentType": request.headers.get("content-type", "application/octet-stream")}
            bucket = _writable(context, name, request.one("name"))
            return self._store(context, bucket, request.one("name"), request.body, fields)
        if kind == "multipart":
            fields, content = _parts(request.headers.get("content-type", ""), request.body)
            _check(fields)
            item = str(fields.get("name") or request.one("name"))
            return self._store(context, _writable(context, name, item), item, content, fields)
        if kind == "resumable":
            return self._begin(context, name)
        raise invalid(f"Unknown upload type {kind!r}")

    def replaces(self, context: Context, bucket: Bucket, name: str) -> None:
        """Check an overwrite: the delete permission, the object's protection, and the write rate limit."""
        world = context.world
        if found := bucket.objects.find(name):
            permission = "storage.objects.delete"
            message = (
                f"{context.identity} does not have {permission} access to the Google Cloud Storage object. Permission "
                f"'{permission}' denied on resource (or it may not exist)."
            )
            context.need(permission, f"buckets/{bucket.name}/objects/{name}", message)
            bucket.check_unprotected(found, world.clock.now(), deleted=False)
        if not self._mutations_per_s:
            return
        now = world.clock.monotonic()
        last = bucket.objects.mutated.get(name)
        if last is not None and now - last < 1 / self._mutations_per_s:
            raise GoogleError(
                429,
                "rateLimitExceeded",
                f"The object {bucket.name}/{name} exceeded the rate limit for object mutation operations (create, "
                "update, and delete). Please reduce your request rate.",
            )
        bucket.objects.mutated[name] = now

    def _store(
        self,
        context: Context,
        bucket: Bucket,
        name: str,
        content: bytes,
        fields: dict[str, Any],
        conditions: Conditions | None = None,
    ) -> dict[str, Any]:
        check_name(name)
        conditions = conditions or Conditions.of(context.request.query)
        conditions.check(bucket.objects.find(name))
        self.replaces(context, bucket, name)
        fields = bucket.held(fields | _announced(context))
        kept = context.world.spool.keep(content)
        stored = bucket.objects.put(name, kept, fields, conditions, context.world.clock.now())
        return stored.as_json(bucket.name, str(bucket.document["storageClass"]))

    def _begin(self, context: Context, owner: str) -> Response:
        request = context.request
        fields = json.loads(request.body) if request.body else {}
        _check(fields)
        fields.setdefault("contentType", request.headers.get("x-upload-content-type", "application/octet-stream"))
        name = fields.get("name") or request.one("name")
        check_name(name)
        bucket = _writable(context, owner, name)
        conditions = Conditions.of(request.query)
        conditions.check(bucket.objects.find(name))
        upload = secrets.token_hex(16)
        bucket.uploads[upload] = Upload(name, fields, conditions)
        host = request.headers.get("host", "127.0.0.1")
        location = f"http://{host}{request.path}?uploadType=resumable&upload_id={upload}"
        return Response(200, {"Location": location, "X-GUploader-UploadID": upload})

    def _chunk(self, context: Context) -> Answer:
        request = context.request
        bucket = context.world.buckets.find(context.ids[0])
        upload = bucket.uploads.get(request.one("upload_id"))
        if upload is None:
            raise not_found("The upload was not found: it has ended, was cancelled, or never began.")
        if request.method == "DELETE":
            del bucket.uploads[request.one("upload_id")]
            return Response(499)
        if upload.done is not None:
            return dict(upload.done)
        total = self._take(upload, request.headers.get("content-range", ""), request.body)
        if total is None or len(upload.data) < total:
            headers = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
            return Response(308, headers)
        _writable(context, bucket.name, upload.name)
        upload.done = self._store(context, bucket, upload.name, bytes(upload.data), upload.fields, upload.conditions)
        upload.data.clear()
        return dict(upload.done)

    def _take(self, upload: Upload, header: str, body: bytes) -> int | None:
        """Add a chunk and return the total size of the upload, or None while it is unknown."""
        if not header:
            upload.data += body
            return len(upload.data)
        found = _CONTENT_RANGE.fullmatch(header)
        if not found:
            raise invalid(f"Failed to parse Content-Range header: {header[:80]}")
        total = None if found[3] == "*" else int(found[3])
        if found[1] is None:
            return total
        first, last = int(found[1]), int(found[2])
        if first > len(upload.data) or last - first + 1 != len(body):
            raise GoogleError(503, "backendError", "Invalid request. The chunk does not follow what has arrived.")
        # Bytes that were sent twice are stored once.
        upload.data += body[len(upload.data) - first :]
        if (total is None or last + 1 < total) and len(body) % _UNIT:
            raise invalid(f"Chunks of a resumable upload must be a multiple of {_UNIT} bytes.")
        return total

    def download(self, context: Context, found: StoredObject, default_class: str) -> Response:
        headers = {
            "Content-Type": str(found.fields.get("contentType") or "application/octet-stream"),
            "ETag": found.as_json("", "")["etag"],
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Metageneration": str(found.metageneration),
            "X-Goog-Storage-Class": str(found.fields.get("storageClass") or default_class),
            "X-Goog-Hash": f"crc32c={found.crc32c},md5={found.md5}",
            "X-Goog-Stored-Content-Encoding": str(found.fields.get("contentEncoding") or "identity"),
            "X-Goog-Stored-Content-Length": str(found.size),
        }
        if encoding := found.fields.get("contentEncoding"):
            headers["Content-Encoding"] = str(encoding)
        start, end, status = 0, found.size, 200
        wanted = _RANGE.fullmatch(context.request.headers.get("range", ""))
        if wanted and (wanted[1] or wanted[2]):
            start, end = _stretch(wanted[1], wanted[2], found.size)
            if start >= end:
                raise GoogleError(
                    416,
                    "requestedRangeNotSatisfiable",
                    "The requested range cannot be satisfied.",
                    headers={"Content-Range": f"bytes */{found.size}"},
                )
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        if isinstance(found.content, Path):
            # Opened now, so that the data stays readable if the object is replaced meanwhile.
            return Response(status, headers, FileRange(found.content.open("rb"), start, end - start))
        return Response(status, headers, found.content[start:end])


def _stretch(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _writable(context: Context, name: str, item: str) -> Bucket:
    # Imported late: the two modules depend on each other.
    return reach(context, "storage.objects.create", name, item)


def _check(fields: dict[str, Any]) -> None:
    found = match("POST", "/storage/v1/b/x/o")
    if found:
        check_body(found.route, fields)


def _announced(context: Context) -> dict[str, str]:
    """Return the checksums that the client sent in a header."""
    announced = {}
    for part in context.request.headers.get("x-goog-hash", "").split(","):
        name, _, value = part.strip().partition("=")
        if name in ("crc32c", "md5") and value:
            announced["md5Hash" if name == "md5" else name] = value
    return announced


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the metadata and the content of a multipart upload."""
    found = re.search(r"boundary=(?:\"([^\"]+)\"|'([^']+)'|([^;\s]+))", content_type)
    if not found:
        raise invalid("Missing boundary in the Content-Type of a multipart upload.")
    boundary = b"--" + (found[1] or found[2] or found[3]).encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + boundary)
    if len(pieces) != 4 or not pieces[3].startswith(b"--"):
        raise invalid("A multipart upload has exactly two parts.")
    (_, _, metadata), (headers, _, content) = (piece.lstrip(b"\r\n").partition(b"\r\n\r\n") for piece in pieces[1:3])
    try:
        fields = json.loads(metadata)
    except ValueError as error:
        raise invalid("The metadata of a multipart upload is not valid JSON.") from error
    for line in headers.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-type":
            fields.setdefault("contentType", value.strip())
    return fields, content
