"""Reading of stored reports, where a damaged one does not affect the others."""

from __future__ import annotations

import json

import pytest

from shared.errors import Denied
from shared.monitor.stored import read_reports
from tests.inmemory import InMemoryStore


def test_damaged_and_deleted_reports_are_skipped() -> None:
    """Of four reports, one is deleted, one truncated and one of the wrong type; the fourth is read."""
    store = InMemoryStore()
    good = {"run_id": "r1", "started_at": "2026-03-01T00:00:00Z", "scopes": {"total": 1}, "actions": []}
    store.put_report("r1", json.dumps(good).encode())
    store.put_report("r2", json.dumps(good).encode()[:40])
    store.put_report("r3", b'{"run_id": "r3", "actions": [7]}')
    store.put_report("r5", b"[" * 100_000)
    reasons: dict[str, str] = {}
    found = read_reports(store, ["r1", "r2", "r3", "r4", "r5"], reasons.__setitem__)
    assert [one.run_id for one in found] == ["r1"]
    assert sorted(reasons) == ["r2", "r3", "r5"]
    assert all(reasons.values())


def test_denied_reports_are_an_error() -> None:
    """Without permission, the history is not shown as empty."""
    store = InMemoryStore()
    store.faults["report"] = Denied("access-denied", "no")
    with pytest.raises(Denied):
        read_reports(store, ["r1"], lambda _run_id, _why: None)
