"""Contract suite that every implementation of the state-store port must pass."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from shared.errors import Denied, NotFound
from shared.state.store import HTML, Blob, Conflict
from tests.contracts.harness import StoreHarness

LIMIT = 1_000_000
OTHER = "ledger.bin"


class StoreContract:
    """Subclasses provide the fixture `store_harness`."""

    def test_missing_object_loads_as_an_empty_blob(self, store_harness: StoreHarness) -> None:
        """The blob of an empty store has no version."""
        assert store_harness.store().load(LIMIT) == Blob()

    def test_saved_bytes_are_loaded_with_their_version(self, store_harness: StoreHarness) -> None:
        """The loaded version is the one that the save returned."""
        store = store_harness.store()
        version = store.save(b'{"a":"\xc3\xa9"}', None)
        blob = store.load(LIMIT)
        assert (blob.data, blob.version, blob.size) == (b'{"a":"\xc3\xa9"}', version, 10)

    def test_save_with_the_last_version_succeeds(self, store_harness: StoreHarness) -> None:
        """Consecutive saves each use the version that the last one returned."""
        store = store_harness.store()
        version = store.save(b"1", None)
        version = store.save(b"2", version)
        store.save(b"3", version)
        assert store.load(LIMIT).data == b"3"

    def test_first_save_conflicts_with_an_existing_object(self, store_harness: StoreHarness) -> None:
        """A save without a version does not overwrite."""
        store = store_harness.store()
        store.save(b"first", None)
        with pytest.raises(Conflict):
            store.save(b"second", None)
        assert store.load(LIMIT).data == b"first"

    def test_save_with_a_stale_version_conflicts(self, store_harness: StoreHarness) -> None:
        """The second of two writers with the same version conflicts, and the first one's data is kept."""
        one, other = store_harness.store(), store_harness.store()
        version = one.save(b"base", None)
        one.save(b"one", version)
        with pytest.raises(Conflict):
            other.save(b"other", version)
        assert one.load(LIMIT).data == b"one"

    def test_object_over_the_limit_loads_without_its_data(self, store_harness: StoreHarness) -> None:
        """The blob still has its size and version."""
        store = store_harness.store()
        version = store.save(b"x" * 5000, None)
        assert store.load(4999) == Blob(b"", version, 5000)
        assert store.load(5000).data == b"x" * 5000

    def test_age_is_measured_by_the_stores_clock(self, store_harness: StoreHarness) -> None:
        """A new object is young, whatever the writer's clock."""
        store = store_harness.store()
        store.save(b"1", None)
        age = store.age()
        assert age is not None
        assert timedelta(0) <= age < timedelta(minutes=1)

    @pytest.mark.parametrize("data", [b"\xff broken", b"", b" " * (LIMIT + 1)], ids=["broken", "empty", "too-large"])
    def test_set_aside_copies_the_object(self, store_harness: StoreHarness, data: bytes) -> None:
        """The copy has another name and the whole content, and the original keeps its version."""
        store = store_harness.store()
        version = store.save(data, None)
        name = store.set_aside(store.load(LIMIT))
        assert ".corrupt-" in name
        assert store_harness.stored(name) == data
        assert store.load(LIMIT).version == version

    def test_damaged_object_is_kept_once_as_it_was_read(self, store_harness: StoreHarness) -> None:
        """A second run that read it has the same copy, even if the first one has rebuilt the original since."""
        store = store_harness.store()
        store.save(b"\xff broken", None)
        damaged = store.load(LIMIT)
        name = store.set_aside(damaged)
        store.save(b"{}", damaged.version)
        assert store.set_aside(damaged) == name
        assert store_harness.stored(name) == b"\xff broken"
        assert store.load(LIMIT).data == b"{}"

    def test_report_is_stored_under_its_run_id(self, store_harness: StoreHarness) -> None:
        """Storing a report does not change the state."""
        store = store_harness.store()
        name = store.put_report("20260105T000000Z-0000abcd", b"{}")
        assert "runs/20260105T000000Z-0000abcd" in name
        assert store_harness.stored(name) == b"{}"
        assert store.load(LIMIT) == Blob()

    def test_reports_are_read_and_listed_in_the_order_of_their_runs(self, store_harness: StoreHarness) -> None:
        """A report is returned as it was stored; the list begins with the given run."""
        store = store_harness.store()
        assert store.report_ids("") == []
        ids = ["20260105T000000Z-0000abcd", "20260105T010000Z-00000001", "20260207T000000Z-ffffffff"]
        for run_id in reversed(ids):
            store.put_report(run_id, run_id.encode())
        store.save(b"{}", None)
        assert store.report_ids("") == ids
        assert store.report_ids("20260105T01") == ids[1:]
        assert store.report_ids(ids[2]) == ids[2:]
        assert store.report_ids("2027") == []
        assert store.report(ids[1]) == ids[1].encode()
        with pytest.raises(NotFound):
            store.report("20260105T020000Z-00000000")

    def test_denied_state_is_neither_missing_nor_empty(self, store_harness: StoreHarness) -> None:
        """Without permission, loading and saving raise Denied."""
        store = store_harness.store()
        version = store.save(b"1", None)
        with store_harness.denied():
            with pytest.raises(Denied):
                store.load(LIMIT)
            with pytest.raises(Denied):
                store.save(b"2", version)
        assert store.load(LIMIT).data == b"1"

    def test_other_documents_are_independent_of_the_state(self, store_harness: StoreHarness) -> None:
        """Each document has its own bytes and versions."""
        store = store_harness.store()
        assert store.load(LIMIT, OTHER) == Blob()
        version = store.save(b"\x00\xff", None, OTHER)
        assert store.load(LIMIT) == Blob()
        state = store.save(b"{}", None)
        assert store.load(LIMIT, OTHER) == Blob(b"\x00\xff", version, 2)
        assert store.load(1, OTHER) == Blob(b"", version, 2)
        assert store.load(LIMIT) == Blob(b"{}", state, 2)

    def test_other_documents_are_written_by_compare_and_swap(self, store_harness: StoreHarness) -> None:
        """A first save does not overwrite, a stale version conflicts, and the current one succeeds."""
        store = store_harness.store()
        version = store.save(b"1", None, OTHER)
        with pytest.raises(Conflict):
            store.save(b"2", None, OTHER)
        newer = store.save(b"2", version, OTHER)
        with pytest.raises(Conflict):
            store.save(b"3", version, OTHER)
        store.save(b"3", newer, OTHER)
        assert store.load(LIMIT, OTHER).data == b"3"

    def test_set_aside_copies_another_document(self, store_harness: StoreHarness) -> None:
        """Neither the document nor the state is changed."""
        store = store_harness.store()
        state = store.save(b"{}", None)
        version = store.save(b"\xff broken", None, OTHER)
        name = store.set_aside(store.load(LIMIT, OTHER), OTHER)
        assert re.search(r"ledger\.corrupt-[0-9a-f]{16}\.bin$", name)
        assert store_harness.stored(name) == b"\xff broken"
        assert (store.load(LIMIT).version, store.load(LIMIT, OTHER).version) == (state, version)

    def test_put_replaces_a_published_document_without_a_version(self, store_harness: StoreHarness) -> None:
        """The document is stored beside the state and can be loaded again."""
        store = store_harness.store()
        assert store.put("page.html", b"one", HTML) == store.put("page.html", b"two", HTML)
        assert store_harness.stored(store.put("page.html", b"three", HTML)) == b"three"
        assert store.load(LIMIT, "page.html").data == b"three"
        assert store.load(LIMIT) == Blob()
