"""Comparison of manifests with the delivered blobs: pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from azure_function.resources.manifests import compare_manifest


def manifest(*blobs: dict[str, Any], rows: int | None = 5, compression: str = "gzip") -> bytes:
    """Return a manifest that lists these files."""
    document = {"dataRowCount": rows, "blobs": list(blobs), "deliveryConfig": {"compressionMode": compression}}
    return json.dumps(document).encode()


def file(number: int = 1, size: int | None = 100, rows: int | None = 5) -> dict[str, Any]:
    """Return the entry of a file in a manifest."""
    return {"blobName": f"tailpipe/x/export/20261101-20261130/run/part_0_{number:04d}.csv", "byteCount": size,
            "dataRowCount": rows}  # fmt: skip


ONE = {"part_0_0001.csv": 100, "manifest.json": 300}


@pytest.mark.parametrize(
    ("data", "sizes", "empty", "wrong"),
    [
        (manifest(file()), ONE, False, ""),
        (manifest(file(rows=None), rows=None), ONE, False, ""),
        (manifest(rows=None), {}, True, ""),
        (manifest(file(rows=0), rows=0), ONE, True, ""),
        (manifest(file(rows=0), rows=None), ONE, True, ""),
        (manifest(file(), file(2)), ONE, False, "part_0_0002.csv is missing"),
        (manifest(file(), file(2)), {**ONE, "part_0_0002.csv": 7}, False, "part_0_0002.csv has 7 bytes, not 100"),
        (manifest(file(size=90), compression="none"), ONE, False, "part_0_0001.csv has 100 bytes, not 90"),
        (manifest(file(size=900)), ONE, False, ""),
        (manifest(file(size=None)), ONE, False, ""),
        (b"<html>", ONE, False, "its manifest is not valid JSON"),
        (b"[]", ONE, False, "its manifest has no list of files"),
        (b'{"blobs": [1]}', ONE, False, "its manifest has no list of files"),
        (manifest(*(file(number) for number in range(2, 9))), ONE, False, "and 4 more"),
    ],
)
def test_manifest_is_compared_with_the_blobs_in_its_folder(
    data: bytes, sizes: Mapping[str, int], empty: bool, wrong: str
) -> None:
    """Missing files and different sizes are named. A null row count does not mean empty; no rows or no files does."""
    found = compare_manifest(data, sizes, sized=False)
    assert found.empty is empty
    assert found.wrong == wrong if len(wrong) != len("and 4 more") else found.wrong.endswith(wrong)


def test_sizes_of_compressed_files_are_compared_after_they_have_matched_once() -> None:
    """Microsoft does not document which size a manifest contains for them."""
    assert compare_manifest(manifest(file(size=900)), ONE, sized=False).wrong == ""
    assert compare_manifest(manifest(file(size=900)), ONE, sized=True).wrong == "part_0_0001.csv has 100 bytes, not 900"
    assert compare_manifest(manifest(file()), ONE, sized=False).sized
