"""Conversion between Azure's export document and its normal form: pure functions."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from azure_function.resources.export_document import PARTS, ExportVariant, document, validated
from azure_function.targets import placement_of
from shared.errors import NotUnderstood
from shared.model import Key
from tests.azure_function.support import account_settings

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
KEY = Key("11111111-2222-3333-4444-5555556789ab", "export", "TailpipeDataExport-6789ab")


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2026-11-02T00:00:00", "2026-11-03T00:00:00Z"),
        ("2026-11-02T22:59:59", "2026-11-03T00:00:00Z"),
        ("2026-11-02T23:00:00", "2026-11-04T00:00:00Z"),
        ("2026-12-31T23:59:59", "2027-01-02T00:00:00Z"),
    ],
)
def test_new_export_starts_at_a_midnight_at_least_an_hour_ahead(now: str, start: str) -> None:
    """Azure rejects a start in the past, and the write may wait for its quota."""
    placement = placement_of(KEY)
    moment = datetime.fromisoformat(f"{now}+00:00")
    body = document(
        placement, ExportVariant("ActualCost"), account_settings().destination[0], account_settings(), moment, None
    )
    assert body["properties"]["schedule"]["recurrencePeriod"]["from"] == start


def test_new_export_has_the_documented_fields() -> None:
    """Daily, month to date, CSV with gzip, overwriting, partitioned, from the next midnight until 2099."""
    body = document(
        placement_of(KEY), ExportVariant("ActualCost"), account_settings().destination[0], account_settings(), NOW, None
    )
    properties = body["properties"]
    assert properties["schedule"] == {
        "status": "Active",
        "recurrence": "Daily",
        "recurrencePeriod": {"from": "2026-11-03T00:00:00Z", "to": "2099-12-31T00:00:00Z"},
    }
    assert (properties["format"], properties["compressionMode"], properties["partitionData"]) == ("Csv", "gzip", True)
    assert properties["dataOverwriteBehavior"] == "OverwritePreviousReport"
    assert properties["definition"] == {
        "type": "ActualCost",
        "timeframe": "MonthToDate",
        "dataSet": {"granularity": "Daily"},
    }
    assert "identity" not in body
    assert "eTag" not in body


def test_repair_keeps_fields_that_are_not_managed() -> None:
    """Columns, a custom description, the start and the eTag of the live export are sent unchanged."""
    made = account_settings()
    live: dict[str, Any] = document(
        placement_of(KEY), ExportVariant("Usage"), made.destination[0], made, NOW - timedelta(days=90), None
    )
    live["eTag"] = '"1"'
    live["properties"]["exportDescription"] = "our cost data, finance"
    live["properties"]["definition"]["dataSet"]["configuration"] = {"columns": ["a", "b"]}
    live["properties"]["runHistory"] = {"value": []}
    before = msgspec.json.encode(live)
    body = document(placement_of(KEY), ExportVariant("ActualCost"), made.destination[0], made, NOW, live)
    assert msgspec.json.encode(live) == before
    assert body["eTag"] == '"1"'
    assert body["properties"]["exportDescription"] == "our cost data, finance"
    assert body["properties"]["definition"]["dataSet"]["configuration"] == {"columns": ["a", "b"]}
    assert body["properties"]["schedule"]["recurrencePeriod"]["from"] == "2026-08-05T00:00:00Z"
    assert "runHistory" not in body["properties"]


COMPLETE: dict[str, Any] = {
    "name": "TailpipeDataExport-6789ab",
    "identity": {"type": "SystemAssigned"},
    "systemData": {"createdAt": "2026-01-01T00:00:00Z"},
    "properties": {
        "schedule": {"status": "Active", "recurrencePeriod": {"from": "2026-01-01T00:00:00Z"}},
        "definition": {"type": "ActualCost", "dataSet": {"configuration": {"columns": []}}},
        "deliveryInfo": {"destination": {"container": "dataexport"}},
        "runHistory": {"value": [{"properties": {"status": "Completed", "error": None}}]},
        "systemSuspensionContext": None,
    },
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Return an export's document with another value at a path."""
    changed: dict[str, Any] = deepcopy(COMPLETE)
    *above, last = path.split(".")
    part = changed
    for name in above:
        part = part[name]
    part[last] = value
    return changed


@pytest.mark.parametrize("path", PARTS)
def test_optional_fields_may_be_missing_but_not_of_another_type(path: str) -> None:
    """A wrong type in a successful response proves nothing about the export."""
    assert validated(with_value(path, None), "the read") == with_value(path, None)
    for wrong in ("text", [1], 5, True):
        with pytest.raises(NotUnderstood, match=f"the read was not understood: its field {path} is"):
            validated(with_value(path, wrong), "the read")


@pytest.mark.parametrize(
    "runs", ["text", 5, {"a": 1}, ["text"], [{"properties": "x"}], [{}], [{"properties": {"error": "x"}}]]
)
def test_malformed_run_history_is_rejected(runs: Any) -> None:
    """It proves neither that the export works nor that it fails."""
    with pytest.raises(NotUnderstood, match=r"its field properties\.runHistory\.value is not a list of runs"):
        validated(with_value("properties.runHistory", {"value": runs}), "the read")


@pytest.mark.parametrize("runs", [None, [], COMPLETE["properties"]["runHistory"]["value"]])
def test_run_history_may_be_empty(runs: Any) -> None:
    """A new export has no runs."""
    assert validated(with_value("properties.runHistory", {"value": runs}), "the read")
