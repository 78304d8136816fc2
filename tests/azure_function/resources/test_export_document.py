"""Conversion between Azure's export document and its normal form: pure functions."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from azure_function.resources.export_document import (
    PARTS,
    ExportVariant,
    account_in,
    document,
    normal_form,
    ownership,
    validated,
)
from azure_function.targets import OURS, placement_of
from shared.errors import NotUnderstood
from shared.model import Key, Ownership
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


def written() -> dict[str, Any]:
    """Return the document of a new export."""
    made = account_settings()
    return document(placement_of(KEY), ExportVariant("ActualCost"), made.destination[0], made, NOW, None)


def test_written_export_is_in_the_desired_form() -> None:
    """What Azure returns of it, whatever case and slashes it changes, is no drift."""
    live, made = written(), account_settings()
    form = normal_form(live, made, NOW)
    assert form["destination"] == OURS
    assert (form["schedule"], form["format"], form["timeframe"]) == ("Active Daily", "Csv gzip", "MonthToDate")
    assert (form["type"], form["granularity"], form["version"], form["identity"]) == ("ActualCost", "Daily", "", "None")
    assert (form["partitioned"], form["overwrite"]) == (True, "OverwritePreviousReport")
    assert (form["container"], form["folder"]) == (made.container, placement_of(KEY).folder)
    target = live["properties"]["deliveryInfo"]["destination"]
    target |= {"resourceId": target["resourceId"].upper(), "rootFolderPath": f"/{target['rootFolderPath']}/"}
    live["properties"]["compressionMode"] = "GZIP"
    assert normal_form(live, made, NOW) == form
    assert account_in(live, made) == made.destination[0]


@pytest.mark.parametrize("live", [{}, {"properties": None}, {"properties": {"deliveryInfo": {"destination": None}}}])
def test_fields_that_azure_omits_have_their_defaults(live: dict[str, Any]) -> None:
    """Such an export delivers nowhere, and is not the function's."""
    form = normal_form(live, account_settings(), NOW)
    assert form == {
        "type": "",
        "schedule": "Active",
        "timeframe": "",
        "granularity": "",
        "format": "Csv none",
        "partitioned": False,
        "overwrite": "CreateNewReport",
        "destination": "",
        "container": "",
        "folder": "",
        "until": form["until"],
        "version": "",
        "identity": "None",
    }
    assert account_in(live, account_settings()) is None
    assert ownership(live, form, placement_of(KEY), {}) is Ownership.FOREIGN


@pytest.mark.parametrize(
    ("changes", "facts", "owner"),
    [
        ({}, {}, Ownership.OURS),
        ({"folder": "elsewhere"}, {}, Ownership.UNMARKED),
        ({"folder": "elsewhere"}, {"ours": True}, Ownership.OURS),
        ({"destination": "other"}, {}, Ownership.UNMARKED),
        ({"destination": "other", "schedule": "Inactive Daily"}, {}, Ownership.FOREIGN),
        ({"destination": "other", "folder": "elsewhere"}, {}, Ownership.FOREIGN),
    ],
)
def test_export_with_our_name_is_ours_by_mark_state_or_destination(
    changes: dict[str, str], facts: dict[str, bool], owner: Ownership
) -> None:
    """One that runs into our account or our folder is adopted; one that was stopped elsewhere is not."""
    live = written()
    live["properties"]["exportDescription"] = "theirs"
    form = {**normal_form(live, account_settings(), NOW), **changes}
    assert ownership(live, form, placement_of(KEY), facts) is owner
    assert (
        ownership(written(), {**form, "destination": "other", "folder": "x"}, placement_of(KEY), {}) is Ownership.OURS
    )


def test_repair_removes_a_period_and_sends_format_version_and_identity() -> None:
    """A custom period would export the same days forever; an identity that the export has is kept."""
    made = account_settings()
    live = written()
    live["properties"]["definition"]["timePeriod"] = {"from": "2026-01-01", "to": "2026-01-31"}
    live |= {"identity": {"type": "SystemAssigned"}, "location": "westeurope"}
    body = document(placement_of(KEY), ExportVariant("FocusCost", "1.0"), made.destination[0], made, NOW, live)
    assert body["properties"]["definition"] == {
        "type": "FocusCost",
        "timeframe": "MonthToDate",
        "dataSet": {"granularity": "Daily", "configuration": {"dataVersion": "1.0"}},
    }
    assert (body["identity"], body["location"]) == ({"type": "SystemAssigned"}, "westeurope")
    assert normal_form(body, made, NOW)["version"] == "1.0"
    assert normal_form(body, made, NOW)["identity"] == "SystemAssigned"
