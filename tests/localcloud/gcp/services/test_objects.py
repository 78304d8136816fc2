"""Cloud Storage objects, through Google's client: generations, preconditions, listings, uploads and downloads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import pytest
import requests
from google.api_core.exceptions import BadRequest, Forbidden, NotFound, PreconditionFailed, TooManyRequests

from localcloud.gcp.state import Behavior
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import Clients, Opener


@pytest.fixture
def bucket(gcp: Clients) -> Any:
    """Return the deployment's export bucket."""
    return gcp.storage.bucket(gcp.cloud.deployment.bucket)


def test_compare_and_swap_is_atomic(bucket: Any) -> None:
    """Four threads each increment a counter twenty times; only swaps of the generation that was read count."""
    bucket.blob("counter").upload_from_string("0", if_generation_match=0, retry=None)
    refused = threading.Semaphore(0)

    def raise_counter(_: int) -> None:
        done = 0
        while done < 20:
            blob = bucket.blob("counter")
            value = int(blob.download_as_bytes(retry=None))
            try:
                blob.upload_from_string(str(value + 1), if_generation_match=blob.generation, retry=None)
                done += 1
            except PreconditionFailed:
                refused.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(raise_counter, range(4)))
    assert bucket.blob("counter").download_as_bytes() == b"80"
    assert refused.acquire(blocking=False), "no two threads ever met: the test proved nothing"


def test_generation_zero_requires_a_missing_object(bucket: Any) -> None:
    """A create succeeds once; afterwards, even after a deletion, the generation only increases."""
    first = bucket.blob("a")
    first.upload_from_string("1", if_generation_match=0, retry=None)
    with pytest.raises(PreconditionFailed):
        bucket.blob("a").upload_from_string("2", if_generation_match=0, retry=None)
    first.delete(if_generation_match=first.generation, retry=None)
    second = bucket.blob("a")
    second.upload_from_string("3", if_generation_match=0, retry=None)
    assert second.generation > first.generation


def test_preconditions_apply_to_reads_patches_and_deletes(gcp: Clients, bucket: Any) -> None:
    """A wrong generation is 412, an unchanged one is 304 for a read, and a missing object is 404."""
    blob = bucket.blob("a")
    blob.upload_from_string("1", retry=None)
    blob.metadata = {"k": "v"}
    gcp.cloud.grant("storage.objects.update", f"buckets/{bucket.name}")
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=7, retry=None)
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=blob.generation + 1, retry=None)
    path = f"storage/v1/b/{bucket.name}/o/a"
    assert gcp.get(path, ifGenerationNotMatch=blob.generation).status_code == 304
    assert gcp.get(path, ifGenerationMatch=1).status_code == 412
    assert gcp.get(path, generation=1).status_code == 404
    with pytest.raises(NotFound):
        bucket.blob("b").delete(if_generation_match=1, retry=None)


def test_listing_is_ordered_and_paged(opened: Opener, clients: Any) -> None:
    """2,500 objects are listed in three pages of at most 1,000, each object once; a prefix filters them."""
    one = clients(opened())
    cloud = one.cloud
    for number in range(2500):
        cloud.put_object(name=f"{number % 5}/{number:05d}", text="x")
    names = [blob.name for blob in one.storage.list_blobs(cloud.deployment.bucket, page_size=5000)]
    assert names == sorted(names)
    assert len(set(names)) == 2500
    assert cloud.calls.count("storage.objects.list") == 3
    assert len(list(one.storage.list_blobs(cloud.deployment.bucket, prefix="3/"))) == 500


def test_delimiter_returns_common_prefixes(bucket: Any) -> None:
    """Objects below the delimiter are combined to prefixes, also across pages of one item."""
    for name in ("a/1", "a/2", "b/1", "top", "z/9"):
        bucket.blob(name).upload_from_string("x", retry=None)
    listing = bucket.list_blobs(delimiter="/", page_size=1)
    assert [blob.name for blob in listing] == ["top"]
    assert listing.prefixes == {"a/", "b/", "z/"}
    inner = bucket.list_blobs(prefix="a/", delimiter="/")
    assert [blob.name for blob in inner] == ["a/1", "a/2"]


def test_fields_parameter_limits_the_response(gcp: Clients, bucket: Any) -> None:
    """A listing returns only the named fields."""
    bucket.blob("a").upload_from_string("x", retry=None)
    answer = gcp.get(f"storage/v1/b/{bucket.name}/o", fields="items(name,size),nextPageToken")
    assert answer.json() == {"items": [{"name": "a", "size": "1"}]}


def test_listing_is_strongly_consistent(bucket: Any) -> None:
    """A write and a deletion are visible in the next listing."""
    blob = bucket.blob("now")
    blob.upload_from_string("x", retry=None)
    assert [found.name for found in bucket.list_blobs()] == ["now"]
    blob.delete(retry=None)
    assert list(bucket.list_blobs()) == []


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, 1_500_000])
def test_every_kind_of_upload_stores_the_same_bytes(bucket: Any, size: int) -> None:
    """Simple, multipart and resumable uploads match the client's checksums."""
    data = bytes(number % 251 for number in range(size))
    bucket.blob("multipart").upload_from_string(data, checksum="crc32c", retry=None)
    resumable = bucket.blob("resumable", chunk_size=512 * 1024)
    resumable.upload_from_file(BytesIO(data), checksum="crc32c", retry=None)
    for name in ("multipart", "resumable"):
        blob = bucket.blob(name)
        assert blob.download_as_bytes(checksum="md5", retry=None) == data
        blob.reload()
        assert blob.size == size


def test_byte_range_can_be_read(bucket: Any) -> None:
    """The response has only the requested part of the object."""
    blob = bucket.blob("a")
    blob.upload_from_string(bytes(range(200)) * 50, retry=None)
    assert blob.download_as_bytes(start=100, end=109, retry=None) == bytes(range(100, 110))


def test_upload_with_a_wrong_checksum_is_refused(gcp: Clients, bucket: Any) -> None:
    """An upload whose MD5 differs stores nothing."""
    url = f"{gcp.cloud.endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=a"
    answer = gcp.session.post(
        url, data=b"data", headers={"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}, timeout=HANG_S
    )
    assert answer.status_code == 400
    assert "doesn't match calculated MD5 hash" in answer.json()["error"]["message"]
    assert not bucket.blob("a").exists()


def test_resumable_upload_continues_after_an_interruption(gcp: Clients, bucket: Any) -> None:
    """The status request returns the stored size, and a repeated chunk is stored once."""
    url = f"{gcp.cloud.endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name=a"
    begun = gcp.session.post(url, json={}, timeout=HANG_S)
    upload, unit = begun.headers["Location"], 256 * 1024
    data = bytes(2 * unit + 10)

    def put(part: bytes, span: str) -> requests.Response:
        return gcp.session.put(upload, data=part, headers={"Content-Range": f"bytes {span}"}, timeout=HANG_S)

    assert put(data[:unit], f"0-{unit - 1}/*").status_code == 308
    assert put(b"", "*/*").headers["Range"] == f"bytes=0-{unit - 1}"
    assert put(data[: 2 * unit], f"0-{2 * unit - 1}/*").headers["Range"] == f"bytes=0-{2 * unit - 1}"
    assert put(data[2 * unit :], f"{2 * unit}-{len(data) - 1}/{len(data)}").json()["size"] == str(len(data))
    assert bucket.blob("a").download_as_bytes() == data


def test_resumable_upload_checks_its_precondition_at_the_end(bucket: Any) -> None:
    """If the object is written meanwhile, the upload ends with 412."""
    blob = bucket.blob("a", chunk_size=256 * 1024)

    class Meddling(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 256 * 1024 and not bucket.blob("a").exists():
                bucket.blob("a").upload_from_string("theirs", retry=None)
            return super().read(size)

    with pytest.raises(PreconditionFailed):
        blob.upload_from_file(Meddling(bytes(700_000)), if_generation_match=0, retry=None)
    assert bucket.blob("a").download_as_bytes() == b"theirs"


def test_objects_can_be_copied_rewritten_and_composed(bucket: Any) -> None:
    """A copy has the source's bytes, and a composed object those of its sources in order."""
    bucket.blob("a").upload_from_string("A", retry=None)
    copied = bucket.copy_blob(bucket.blob("a"), bucket, "b", if_generation_match=0, retry=None)
    assert copied.download_as_bytes() == b"A"
    target = bucket.blob("c")
    assert target.rewrite(bucket.blob("a"), retry=None)[0] is None
    target = bucket.blob("d")
    target.compose([bucket.blob("a"), bucket.blob("b"), bucket.blob("c")], retry=None)
    assert target.download_as_bytes() == b"AAA"


def test_overwriting_needs_permission_to_delete(gcp: Clients, bucket: Any) -> None:
    """A caller who may only create objects cannot replace one."""
    bucket.blob("a").upload_from_string("1", retry=None)
    gcp.cloud.deny("storage.objects.delete")
    bucket.blob("b").upload_from_string("1", retry=None)
    with pytest.raises(Forbidden, match=r"storage\.objects\.delete"):
        bucket.blob("a").upload_from_string("2", retry=None)


def test_second_write_to_an_object_within_a_second_is_refused(opened: Opener, clients: Any) -> None:
    """A write to another object is accepted."""
    one = clients(opened(behavior=Behavior(mutations_per_s=1)))
    bucket = one.storage.bucket(one.cloud.deployment.bucket)
    bucket.blob("a").upload_from_string("1", retry=None)
    bucket.blob("b").upload_from_string("1", retry=None)
    with pytest.raises(TooManyRequests, match="mutation operations"):
        bucket.blob("a").upload_from_string("2", retry=None)
    one.cloud.advance(seconds=1)
    bucket.blob("a").upload_from_string("2", retry=None)


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*/{2026-10-3?,2026-11-*}/**", ["A/2026-10-30/x/m", "A/2026-11-01/x/m", "B/2026-11-02/y/z/m"]),
        ("A/*/x/*", ["A/2026-10-29/x/m", "A/2026-10-30/x/m", "A/2026-11-01/x/m"]),
        ("{A,B}/2026-1[01]-0[!1]/**", ["B/2026-11-02/y/z/m"]),
        ("**/m", ["A/2026-10-29/x/m", "A/2026-10-30/x/m", "A/2026-11-01/x/m", "B/2026-11-02/y/z/m"]),
        ("*", ["top"]),
        ("A/2026-10-29", []),
    ],
)
def test_glob_filters_the_listing(bucket: Any, glob: str, found: list[str]) -> None:
    """`*` stays within a folder, `**` does not, and braces are alternatives; pages have only matches."""
    for name in ("A/2026-10-29/x/m", "A/2026-10-30/x/m", "A/2026-11-01/x/m", "B/2026-11-02/y/z/m", "top"):
        bucket.blob(name).upload_from_string("1")
    pages = [[one.name for one in page] for page in bucket.list_blobs(match_glob=glob, page_size=2, retry=None).pages]
    assert [name for page in pages for name in page] == found
    assert [len(page) for page in pages[:-1]] == [2] * (len(pages) - 1)


@pytest.mark.parametrize("glob", ["{a,b", "a}", "[ab"])
def test_unclosed_glob_is_refused(bucket: Any, glob: str) -> None:
    """An unclosed brace or bracket is an invalid argument."""
    with pytest.raises(BadRequest):
        list(bucket.list_blobs(match_glob=glob, retry=None))
