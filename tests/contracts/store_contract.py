"""The suite that every implementation of the state-store port passes unchanged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.errors import Denied, NotFound
from shared.state.store import HTML, Blob, Conflict
from tests.contracts.harness import StoreHarness

LIMIT = 1_000_000
BESIDE = "ledger.bin"


class StoreContract:
    """Subclasses give the fixture `store_harness`."""

    def test_a_missing_blob_is_no_error(self, store_harness: StoreHarness) -> None:
        """An empty store loads as a blob without version."""
        assert store_harness.store().load(LIMIT) == Blob()

    def test_what_is_saved_is_loaded(self, store_harness: StoreHarness) -> None:
        """Bytes come back as they were saved, under the version that the save returned."""
        store = store_harness.store()
        version = store.save(b'{"a":"\xc3\xa9"}', None)
        blob = store.load(LIMIT)
        assert (blob.data, blob.version, blob.size) == (b'{"a":"\xc3\xa9"}', version, 10)

    def test_versions_follow_each_other(self, store_harness: StoreHarness) -> None:
        """A save with the version of the last save succeeds, again and again."""
        store = store_harness.store()
        version = store.save(b"1", None)
        version = store.save(b"2", version)
        store.save(b"3", version)
        assert store.load(LIMIT).data == b"3"

    def test_a_first_save_never_overwrites(self, store_harness: StoreHarness) -> None:
        """Saving as the first one conflicts when a blob exists, and leaves it alone."""
        store = store_harness.store()
        store.save(b"first", None)
        with pytest.raises(Conflict):
            store.save(b"second", None)
        assert store.load(LIMIT).data == b"first"

    def test_a_stale_version_conflicts(self, store_harness: StoreHarness) -> None:
        """Of two writers that loaded the same version the second one conflicts, and the first one's data stays."""
        one, other = store_harness.store(), store_harness.store()
        version = one.save(b"base", None)
        one.save(b"one", version)
        with pytest.raises(Conflict):
            other.save(b"other", version)
        assert one.load(LIMIT).data == b"one"

    def test_a_blob_over_the_limit_is_not_read(self, store_harness: StoreHarness) -> None:
        """A blob that is too large loads with its size and version, and without its data."""
        store = store_harness.store()
        version = store.save(b"x" * 5000, None)
        assert store.load(4999) == Blob(b"", version, 5000)
        assert store.load(5000).data == b"x" * 5000

    def test_the_age_is_told_by_the_stores_own_clock(self, store_harness: StoreHarness) -> None:
        """What was just written is young, whatever clock the writer has."""
        store = store_harness.store()
        store.save(b"1", None)
        age = store.age()
        assert age is not None
        assert timedelta(0) <= age < timedelta(minutes=1)

    def test_setting_aside_keeps_a_copy(self, store_harness: StoreHarness) -> None:
        """The blob is copied to a name that ends in the suffix, and stays where it is under the same version."""
        store = store_harness.store()
        version = store.save(b"\xff broken", None)
        name = store.set_aside("20260105T000000Z")
        assert "20260105T000000Z" in name
        assert store_harness.stored(name) == b"\xff broken"
        assert store.load(LIMIT).version == version

    def test_reports_lie_under_runs(self, store_harness: StoreHarness) -> None:
        """A report is stored under its run's id, and does not touch the state."""
        store = store_harness.store()
        name = store.put_report("20260105T000000Z-0000abcd", b"{}")
        assert "runs/20260105T000000Z-0000abcd" in name
        assert store_harness.stored(name) == b"{}"
        assert store.load(LIMIT) == Blob()

    def test_reports_are_read_and_listed_in_the_order_of_their_runs(self, store_harness: StoreHarness) -> None:
        """A report comes back as it was stored; the list begins with the run that is asked for."""
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

    def test_forbidden_is_neither_missing_nor_empty(self, store_harness: StoreHarness) -> None:
        """Without the right to it, loading and saving are denied."""
        store = store_harness.store()
        version = store.save(b"1", None)
        with store_harness.forbid():
            with pytest.raises(Denied):
                store.load(LIMIT)
            with pytest.raises(Denied):
                store.save(b"2", version)
        assert store.load(LIMIT).data == b"1"

    def test_other_documents_lie_beside_the_state(self, store_harness: StoreHarness) -> None:
        """Each document has its own bytes and versions; writing one leaves the other alone."""
        store = store_harness.store()
        assert store.load(LIMIT, BESIDE) == Blob()
        version = store.save(b"\x00\xff", None, BESIDE)
        assert store.load(LIMIT) == Blob()
        state = store.save(b"{}", None)
        assert store.load(LIMIT, BESIDE) == Blob(b"\x00\xff", version, 2)
        assert store.load(1, BESIDE) == Blob(b"", version, 2)
        assert store.load(LIMIT) == Blob(b"{}", state, 2)

    def test_other_documents_are_written_by_compare_and_swap(self, store_harness: StoreHarness) -> None:
        """A first save never overwrites, a stale version conflicts, and the present one succeeds."""
        store = store_harness.store()
        version = store.save(b"1", None, BESIDE)
        with pytest.raises(Conflict):
            store.save(b"2", None, BESIDE)
        newer = store.save(b"2", version, BESIDE)
        with pytest.raises(Conflict):
            store.save(b"3", version, BESIDE)
        store.save(b"3", newer, BESIDE)
        assert store.load(LIMIT, BESIDE).data == b"3"

    def test_setting_another_document_aside_keeps_a_copy(self, store_harness: StoreHarness) -> None:
        """It is copied to a name of its own, and neither it nor the state is touched."""
        store = store_harness.store()
        state = store.save(b"{}", None)
        version = store.save(b"\xff broken", None, BESIDE)
        name = store.set_aside("20260105T000000Z", BESIDE)
        assert "ledger.corrupt-20260105T000000Z.bin" in name
        assert store_harness.stored(name) == b"\xff broken"
        assert (store.load(LIMIT).version, store.load(LIMIT, BESIDE).version) == (state, version)

    def test_a_published_document_is_replaced_in_any_case(self, store_harness: StoreHarness) -> None:
        """It is written beside the state whatever lies there, and can be loaded again."""
        store = store_harness.store()
        assert store.put("page.html", b"one", HTML) == store.put("page.html", b"two", HTML)
        assert store_harness.stored(store.put("page.html", b"three", HTML)) == b"three"
        assert store.load(LIMIT, "page.html").data == b"three"
        assert store.load(LIMIT) == Blob()
