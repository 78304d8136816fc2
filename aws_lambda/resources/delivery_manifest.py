"""The manifest of a delivery: AWS writes it after the files that it lists."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec

from shared.errors import NotUnderstood

MANIFEST_LIMIT = 8 * 1024 * 1024  # bytes; a manifest lists files and columns


class Manifest(msgspec.Struct, frozen=True):
    """The keys of the files that a manifest lists, and name and type of the columns; none if it lists no columns."""

    files: tuple[str, ...]
    columns: tuple[tuple[str, str], ...] = ()

    @property
    def schema(self) -> str:
        """Return a fingerprint of the columns, "" if the manifest lists none."""
        return hashlib.sha256(json.dumps(self.columns).encode()).hexdigest()[:16] if self.columns else ""


def parse_manifest(text: bytes, key: str, bucket: str) -> Manifest:
    """Return the manifest in `text`, which was read from `key`. Raises NotUnderstood.

    The name of a file in another bucket keeps its ``s3://``, so that it is the key of no listed file.
    """
    try:
        document = json.loads(text)
        files = document["dataFiles"]
    except (ValueError, KeyError, TypeError, RecursionError):
        document, files = {}, None
    if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
        raise NotUnderstood(f"s3 GetObject {key}", "it is not a manifest with a list of dataFiles")
    return Manifest(tuple(one.removeprefix(f"s3://{bucket}/") for one in files), _columns(document.get("columns")))


def manifest_name(dataset: str) -> str:
    """Return the file name of an export's manifests."""
    return f"{dataset}-Manifest.json"


def _columns(found: Any) -> tuple[tuple[str, str], ...]:
    columns = found if isinstance(found, list) else []
    return tuple((str(one.get("name")), str(one.get("type"))) for one in columns if isinstance(one, dict))
