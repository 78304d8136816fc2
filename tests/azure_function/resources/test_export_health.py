"""What runs and deliveries say of an export's health: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from azure_function.resources.export_health import SILENT, ExportSnapshot, evaluate_health, runs_of
from azure_function.resources.manifests import compare_manifest
from azure_function.resources.permissions import allows
from shared.model import Health
from shared.parsing import parse_time

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def snapshot(
    *statuses: str,
    delivered: timedelta | None = None,
    since: timedelta = timedelta(days=30),
    facts: Mapping[str, Any] | None = None,
    known: bool = True,
    filled: timedelta | None = None,
    stale: timedelta = SILENT,
) -> ExportSnapshot:
    """Return an export whose newest run has the first status, a day between them; the rest is so long ago."""
    runs = [
        {"status": status, "submittedTime": (NOW - timedelta(days=back, hours=2)).isoformat()}
        for back, status in enumerate(statuses)
    ]
    at = NOW - delivered if delivered is not None else None
    rows = NOW - filled if filled is not None else None
    return ExportSnapshot("export", runs, facts or {}, at, NOW if known else None, NOW - since, rows, stale)


def empty(days: float) -> dict[str, str]:
    """Return the facts of an export whose manifests have no rows for so many days."""
    return {"empty_since": (NOW - timedelta(days=days)).isoformat()}


@pytest.mark.parametrize(
    ("seen", "health", "code"),
    [
        (snapshot("Completed", delivered=20 * HOUR), Health.HEALTHY, ""),
        (snapshot("Failed", "Failed", "Completed", delivered=40 * HOUR), Health.HEALTHY, ""),
        (snapshot("Failed", "Timeout", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (snapshot("InProgress", "Failed", "Failed", "Failed", delivered=20 * HOUR), Health.BROKEN, "runs-failed"),
        (snapshot("Completed", delivered=50 * HOUR), Health.BROKEN, "nothing-delivered"),
        (snapshot("NewDataNotAvailable", delivered=90 * HOUR, filled=90 * HOUR), Health.HEALTHY, ""),
        (snapshot("NewDataNotAvailable", delivered=120 * HOUR, filled=120 * HOUR), Health.MANUAL, "data-stopped"),
        (snapshot("DataNotAvailable", filled=30 * 24 * HOUR), Health.MANUAL, "data-stopped"),
        (snapshot("DataNotAvailable", filled=8 * 24 * HOUR, stale=9 * 24 * HOUR), Health.HEALTHY, ""),
        (snapshot("DataNotAvailable"), Health.INACTIVE, "no-cost-rows"),
        (snapshot("DataNotAvailable", since=100 * HOUR), Health.PENDING, "first-delivery"),
        (snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, facts=empty(5)), Health.MANUAL, "data-stopped"),
        (snapshot(delivered=20 * HOUR, filled=5 * 24 * HOUR, facts=empty(4)), Health.HEALTHY, ""),
        (snapshot(delivered=20 * HOUR, facts=empty(5)), Health.INACTIVE, "no-cost-rows"),
        (snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, stale=9 * 24 * HOUR, facts=empty(5)), Health.HEALTHY, ""),
        (snapshot(delivered=HOUR, facts={"incomplete": "part_0_0001.csv is missing"}), Health.BROKEN,
         "delivery-incomplete"),
        (snapshot("Completed", delivered=50 * HOUR, stale=60 * HOUR), Health.HEALTHY, ""),
        (snapshot(), Health.BROKEN, "nothing-delivered"),
        (snapshot(since=10 * HOUR), Health.PENDING, "first-delivery"),
        (snapshot(known=False), Health.HEALTHY, ""),
        (snapshot("Completed", delivered=90 * HOUR, since=HOUR), Health.HEALTHY, ""),
    ],
)  # fmt: skip
def test_health_by_runs_and_deliveries(seen: ExportSnapshot, health: Health, code: str) -> None:
    """Failures in a row, silence and lacking files break it; no rows for days is never health, however it looks."""
    found = evaluate_health(seen, NOW)
    assert (found.health, found.code) == (health, code)


def test_one_execution_and_then_a_person() -> None:
    """After an execution its outcome is awaited for a day; then a person is asked, with the last run's error."""
    runs = ("Failed", "Failed", "Failed")
    waiting = evaluate_health(snapshot(*runs, facts={"executed_at": (NOW - 5 * HOUR).isoformat()}), NOW)
    assert waiting.health is Health.PENDING
    late = evaluate_health(snapshot(*runs, facts={"executed_at": (NOW - 25 * HOUR).isoformat()}), NOW)
    assert late.health is Health.MANUAL
    assert late.manual_step is not None
    well = evaluate_health(snapshot("Completed", delivered=HOUR, facts={"executed_at": NOW.isoformat()}), NOW)
    assert well.facts == {"executed_at": ""}


def test_runs_are_read_newest_first_and_nonsense_is_no_moment() -> None:
    """Azure's answer may come in any order, with seven decimals, or without runs."""
    export = {
        "properties": {
            "runHistory": {
                "value": [
                    {"properties": {"status": "Failed", "submittedTime": "2026-11-01T00:00:00.1234567Z"}},
                    {"properties": {"status": "Completed", "submittedTime": "2026-11-02T00:00:00Z"}},
                ]
            }
        }
    }
    assert [run["status"] for run in runs_of(export)] == ["Completed", "Failed"]
    assert runs_of({"properties": {}}) == []
    assert parse_time("soon") is parse_time("") is parse_time(None) is None


def test_permissions_are_read_as_azure_means_them() -> None:
    """Wildcards and exclusions count, case does not."""
    action = "Microsoft.CostManagement/exports/write"
    assert allows({"actions": ["microsoft.costmanagement/*"]}, action)
    assert not allows({"actions": ["*"], "notActions": ["Microsoft.CostManagement/exports/write"]}, action)
    assert not allows({"actions": ["*/read"]}, action)
    assert not allows({"actions": "*/write"}, action), "a text is no list of actions, whatever letters it has"


def test_what_has_stopped_says_what_to_do_and_an_empty_delivery_is_no_data() -> None:
    """The step names the cure; a delivery without rows is not counted as the arrival of data."""
    stopped = evaluate_health(snapshot(delivered=20 * HOUR, filled=6 * 24 * HOUR, facts=empty(5)), NOW)
    assert stopped.delivered_at is None
    assert stopped.manual_step is not None
    assert "Delete the export" in " ".join(stopped.manual_step.steps)
    assert evaluate_health(snapshot(delivered=20 * HOUR), NOW).delivered_at == NOW - 20 * HOUR


def manifest(*blobs: dict[str, Any], rows: int | None = 5, compression: str = "gzip") -> bytes:
    """Return a manifest that lists these blobs."""
    document = {"dataRowCount": rows, "blobs": list(blobs), "deliveryConfig": {"compressionMode": compression}}
    return json.dumps(document).encode()


def part(number: int = 1, size: int | None = 100, rows: int | None = 5) -> dict[str, Any]:
    """Return what a manifest says of one file."""
    return {"blobName": f"tailpipe/x/export/20261101-20261130/run/part_0_{number:04d}.csv", "byteCount": size,
            "dataRowCount": rows}  # fmt: skip


ONE = {"part_0_0001.csv": 100, "manifest.json": 300}


@pytest.mark.parametrize(
    ("data", "sizes", "empty", "wrong"),
    [
        (manifest(part()), ONE, False, ""),
        (manifest(part(rows=None), rows=None), ONE, False, ""),
        (manifest(rows=None), {}, True, ""),
        (manifest(part(rows=0), rows=0), ONE, True, ""),
        (manifest(part(rows=0), rows=None), ONE, True, ""),
        (manifest(part(), part(2)), ONE, False, "part_0_0002.csv is missing"),
        (manifest(part(), part(2)), {**ONE, "part_0_0002.csv": 7}, False, "part_0_0002.csv has 7 bytes, not 100"),
        (manifest(part(size=90), compression="none"), ONE, False, "part_0_0001.csv has 100 bytes, not 90"),
        (manifest(part(size=900)), ONE, False, ""),
        (manifest(part(size=None)), ONE, False, ""),
        (b"<html>", ONE, False, "its manifest is not valid JSON"),
        (b"[]", ONE, False, "its manifest has no list of files"),
        (b'{"blobs": [1]}', ONE, False, "its manifest has no list of files"),
        (manifest(*(part(number) for number in range(2, 9))), ONE, False, "and 4 more"),
    ],
)
def test_a_manifest_is_compared_with_what_lies_beside_it(
    data: bytes, sizes: Mapping[str, int], empty: bool, wrong: str
) -> None:
    """Missing files and other sizes are named; null counts are no emptiness, no file and no row are."""
    found = compare_manifest(data, sizes, sized=False)
    assert found.empty is empty
    assert found.wrong == wrong if len(wrong) != len("and 4 more") else found.wrong.endswith(wrong)


def test_sizes_of_compressed_files_count_once_they_were_seen_to_match() -> None:
    """Which size a manifest gives for them is not documented: an export's earlier manifests say."""
    assert compare_manifest(manifest(part(size=900)), ONE, sized=False).wrong == ""
    assert compare_manifest(manifest(part(size=900)), ONE, sized=True).wrong == "part_0_0001.csv has 100 bytes, not 900"
    assert compare_manifest(manifest(part()), ONE, sized=False).sized
