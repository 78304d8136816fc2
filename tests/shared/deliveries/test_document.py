"""The document of a delivery: what changed, its names, its id, and its published form."""

from __future__ import annotations

import json
import re

import pytest

from shared.deliveries.document import (
    EVENT_LIMIT,
    DeliveryDocument,
    Delta,
    File,
    FileSet,
    Series,
    current_name,
    delta_name,
    next_document,
)
from tests.shared.deliveries.memory import NOW, file_set

SERIES = Series("111122223333", "tailpipe-dataexport", "2026-07")


def document(found: FileSet, previous: DeliveryDocument | None = None, series: Series = SERIES) -> DeliveryDocument:
    """Return the document of a delivery after another one."""
    number = previous.data.sequence + 1 if previous else 1
    return next_document("aws", series, previous, number, found, NOW)


def test_first_delivery_adds_all_files() -> None:
    """It has no predecessor, and no file before it."""
    first = document(file_set(b="22", a="1"))
    assert first.data.delta == Delta(added=("a", "b"))
    assert first.data.previous is None
    assert [one.name for one in first.data.files] == ["a", "b"]


def test_delta_is_what_changed_since_the_delivery_before() -> None:
    """A file is replaced if its checksum or its size differs, whatever its time."""
    first = document(file_set(kept="1", changed="2", grown="3", lost="4"))
    second = document(file_set(kept="1", changed="x", grown="33", new="5"), first)
    assert second.data.delta == Delta(added=("new",), replaced=("changed", "grown"), gone=("lost",))
    assert second.data.previous is not None
    assert (second.data.previous.id, second.data.previous.document) == (first.id, delta_name(SERIES, 1))


def test_document_is_a_cloud_event() -> None:
    """The envelope has the required attributes, and the extension by which topics keep the order."""
    stored = json.loads(document(file_set(a="1")).encode())
    data = stored.pop("data")
    assert re.fullmatch(r"[0-9a-f]{32}", stored.pop("id"))
    path = "tailpipe-dataexport/111122223333/2026-07"
    assert stored == {
        "specversion": "1.0",
        "type": "io.tailpipe.exports.delivery.v1",
        "source": "/tailpipe-exports/aws/111122223333",
        "subject": path,
        "partitionkey": path,
        "time": "2026-07-10T09:00:00Z",
        "datacontenttype": "application/json",
    }
    assert data == {
        "cloud": "aws",
        "scope": "111122223333",
        "dataset": "tailpipe-dataexport",
        "period": "2026-07",
        "sequence": 1,
        "document": f"deltas/{path}/00000001.json",
        "location": "s3://bucket/",
        "delivered_at": "2026-07-10T09:00:00Z",
        "watermark": None,
        "schema": "s1",
        "files": [{"name": "a", "bytes": 1, "checksum": "etag:1"}],
        "delta": {"added": ["a"], "replaced": [], "gone": []},
        "previous": None,
        "truncated": False,
    }


def test_same_delivery_has_the_same_id() -> None:
    """The id follows from the contents, whatever the order in which files are listed."""
    one = document(file_set(a="1", b="2"))
    assert document(file_set(b="2", a="1")).id == one.id
    assert document(file_set(a="1", b="3")).id != one.id
    assert document(file_set(a="1", b="2"), one).id != one.id
    assert document(file_set(a="1", b="2"), series=SERIES._replace(period="2026-06")).id != one.id


def test_large_event_names_the_stored_document_instead_of_the_files() -> None:
    """The stored document is whole; the event stays below what topics take."""
    files = tuple(File(f"data/part-{number:05d}.csv.gz", 10**9, f"etag:{number:032d}") for number in range(3000))
    large = document(FileSet("s3://bucket/", files, NOW))
    assert len(large.encode()) > EVENT_LIMIT > len(large.event())
    event = json.loads(large.event())
    assert (event["id"], event["data"]["document"]) == (large.id, large.data.document)
    assert (event["data"]["truncated"], event["data"]["files"]) == (True, [])
    assert json.loads(large.encode())["data"]["truncated"] is False


@pytest.mark.parametrize(
    "scope",
    [
        "providers/Microsoft.Billing/billingAccounts/1a:2b_2019-05-31/billingProfiles/X",
        "../../state",
        "..",
        "",
        "a b",
        "a%2Fb",
        "zürich",
    ],
)
def test_name_of_any_scope_is_a_safe_path(scope: str) -> None:
    """Letters, digits, dots, hyphens and underscores alone, no segment that leads elsewhere, and no two alike."""
    for name in (delta_name(Series(scope, "focus", "2026-07"), 12), current_name(Series(scope, "focus", "2026-07"))):
        parts = name.split("/")
        assert all(re.fullmatch(r"[A-Za-z0-9._-]+", part) and part.strip(".") for part in parts)
        assert parts[0] in ("deltas", "deliveries")
        assert name != delta_name(Series(f"{scope}_", "focus", "2026-07"), 12)


def test_scopes_that_differ_in_replaced_characters_have_different_names() -> None:
    """A digest keeps them apart."""
    names = {current_name(Series(scope, "focus", "2026-07")) for scope in ("a/b", "a:b", "a_b", "a b")}
    assert len(names) == 4
