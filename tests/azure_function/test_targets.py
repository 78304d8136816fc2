"""Names, folders, managed fields, and the storage account of each export: pure data."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from azure_function.resources.export_document import PARTS, ExportVariant, document, normal_form, validated
from azure_function.scopes import BILLING, COVERED_BY, ROLE, SUBSCRIPTION
from azure_function.settings import AzureSettings, Storage, read_settings
from azure_function.targets import assigned, placement_of, targets_of
from shared.errors import NotUnderstood
from shared.model import Enumeration, Key, Scope, Target
from shared.state.document import ScopeRecord, StateDocument, fresh
from shared.target_state import LastError, TargetState

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
ONE = "11111111-2222-3333-4444-5555556789ab"
BILLED = "/providers/Microsoft.Billing/billingAccounts/a:b_2019-05-31/billingProfiles/X:Y Z"


def settings(accounts: int = 1, **more: str) -> AzureSettings:
    """Return settings with a number of storage accounts."""
    ids = [
        f"/subscriptions/00000000-0000-0000-0000-{number:012d}/resourceGroups/rg/providers/Microsoft.Storage"
        f"/storageAccounts/account{number}"
        for number in range(accounts)
    ]
    return read_settings({"DESTINATION": ",".join(ids), "STATE_ACCOUNT": "hoststorage", **more})


def scopes(*found: Scope) -> Enumeration:
    """Return an enumeration of these scopes."""
    return Enumeration("tenant", found)


def subscription(own: str = ONE, **traits: str) -> Scope:
    """Return the scope of a subscription."""
    return Scope(own, traits={ROLE: SUBSCRIPTION, **traits})


def exports(found: list[Target]) -> dict[str, Target]:
    """Return the export targets by name."""
    return {target.key.name: target for target in found if target.key.kind == "export"}


def test_export_has_the_documented_name_and_folder() -> None:
    """A name ends in the last six characters of the subscription id, and a suffix for further datasets."""
    found = exports(targets_of(scopes(subscription()), settings(EXPORTS="actual,focus,amortized"), fresh("azure")))
    assert list(found) == [
        "TailpipeDataExport-6789ab",
        "TailpipeDataExport-6789ab-focus",
        "TailpipeDataExport-6789ab-amortized",
    ]
    assert {target.desired["folder"] for target in found.values()} == {f"tailpipe/subscriptions/{ONE}"}
    assert [target.desired["type"] for target in found.values()] == ["ActualCost", "FocusCost", "AmortizedCost"]


def test_folder_of_a_billing_scope_has_no_reserved_characters() -> None:
    """Colons and spaces in the id of a billing profile are replaced."""
    found = exports(targets_of(scopes(Scope(BILLED, traits={ROLE: BILLING})), settings(), fresh("azure")))
    assert found["TailpipeAllSubs"].desired["folder"] == "tailpipe/billing/X-Y-Z"


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
    placement = placement_of(Key(ONE, "export", "TailpipeDataExport-6789ab"))
    moment = datetime.fromisoformat(f"{now}+00:00")
    body = document(placement, ExportVariant("ActualCost"), settings().destination[0], settings(), moment, None)
    assert body["properties"]["schedule"]["recurrencePeriod"]["from"] == start


def test_new_export_has_the_documented_fields() -> None:
    """Daily, month to date, CSV with gzip, overwriting, partitioned, from the next midnight until 2099."""
    key = Key(ONE, "export", "TailpipeDataExport-6789ab")
    body = document(placement_of(key), ExportVariant("ActualCost"), settings().destination[0], settings(), NOW, None)
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


@pytest.mark.parametrize("more", [{}, {"EXPORT_FORMAT": "parquet"}, {"EXPORT_IDENTITY": "system"}])
@pytest.mark.parametrize("name", ["TailpipeDataExport-6789ab", "TailpipeDataExport-6789ab-focus"])
def test_sent_document_equals_the_desired_fields(name: str, more: dict[str, str]) -> None:
    """A new export has no drift, so the next run does not repair it."""
    made = settings(1, EXPORTS="actual,focus", **more)
    target = exports(targets_of(scopes(subscription()), made, fresh("azure")))[name]
    body = document(
        placement_of(target.key),
        ExportVariant(target.desired["type"], target.desired.get("version", "")),
        made.destination[0],
        made,
        NOW,
        None,
    )
    actual = normal_form(body, made, NOW)
    assert {field: actual[field] for field in target.desired} == dict(target.desired)


def test_repair_keeps_fields_that_are_not_managed() -> None:
    """Columns, a custom description, the start and the eTag of the live export are sent unchanged."""
    made = settings()
    key = Key(ONE, "export", "TailpipeDataExport-6789ab")
    live: dict[str, Any] = document(
        placement_of(key), ExportVariant("Usage"), made.destination[0], made, NOW - timedelta(days=90), None
    )
    live["eTag"] = '"1"'
    live["properties"]["exportDescription"] = "our cost data, finance"
    live["properties"]["definition"]["dataSet"]["configuration"] = {"columns": ["a", "b"]}
    live["properties"]["runHistory"] = {"value": []}
    before = msgspec.json.encode(live)
    body = document(placement_of(key), ExportVariant("ActualCost"), made.destination[0], made, NOW, live)
    assert msgspec.json.encode(live) == before
    assert body["eTag"] == '"1"'
    assert body["properties"]["exportDescription"] == "our cost data, finance"
    assert body["properties"]["definition"]["dataSet"]["configuration"] == {"columns": ["a", "b"]}
    assert body["properties"]["schedule"]["recurrencePeriod"]["from"] == "2026-08-05T00:00:00Z"
    assert "runHistory" not in body["properties"]


def test_another_storage_account_gets_its_share_and_moves_no_other_subscription() -> None:
    """The accounts get similar shares, in any order of the setting."""
    ids = [str(UUID(int=number * 7919)) for number in range(3000)]
    before = {one: assigned(one, settings(3)).name for one in ids}
    after = {one: assigned(one, settings(4)).name for one in ids}
    moved = [one for one in ids if before[one] != after[one]]
    assert {after[one] for one in moved} == {"account3"}
    shares = [list(after.values()).count(f"account{number}") for number in range(4)]
    assert min(shares) > 600
    backwards = settings(3)
    backwards = msgspec.structs.replace(backwards, destination=backwards.destination[::-1])
    assert {one: assigned(one, backwards).name for one in ids} == before


def test_existing_export_stays_on_its_storage_account() -> None:
    """The account in the state takes precedence over the hash."""
    made = settings(2)
    other = next(one for one in made.destination if one != assigned(ONE, made))
    state = state_with("TailpipeDataExport-6789ab", facts={"account": other.name})
    dest = [Scope(one.subscription, traits={ROLE: "destination"}) for one in made.destination]
    target = exports(targets_of(scopes(subscription(), *dest), made, state))["TailpipeDataExport-6789ab"]
    assert target.needs == (Key(other.subscription, "container", f"{other.name}/dataexport"),)


def test_accepted_type_in_the_state_is_desired() -> None:
    """The function does not request ActualCost again if the agreement offers only Usage."""
    state = state_with("TailpipeDataExport-6789ab", facts={"type": "Usage"})
    found = exports(targets_of(scopes(subscription()), settings(), state))
    assert found["TailpipeDataExport-6789ab"].desired["type"] == "Usage"


def test_resource_ids_are_compared_case_insensitively() -> None:
    """Azure may change the case of a resource id."""
    made = settings()
    assert made.own(made.destination[0].id.upper()) == made.destination[0]
    assert made.own(Storage(made.destination[0].id + "x").id) is None


@pytest.mark.parametrize(
    ("entry", "skipped"),
    [
        (None, True),
        ({"present": True, "applied_at": NOW}, True),
        ({"present": True, "applied_at": NOW - timedelta(days=3)}, False),
        ({"present": True, "delivered_at": NOW - timedelta(hours=20)}, True),
        ({"present": True, "delivered_at": NOW - timedelta(days=3)}, False),
        ({"present": True, "delivered_at": NOW, "error": LastError("rights-missing")}, False),
        ({"present": False}, False),
    ],
)
def test_subscription_is_skipped_while_a_billing_export_delivers_its_costs(
    entry: dict[str, Any] | None, skipped: bool
) -> None:
    """It gets its own export if the billing export is missing, fails or stops delivering."""
    state = fresh("azure")
    if entry is not None:
        targets = {"export/TailpipeAllSubs": TargetState(at=NOW, **entry)}
        state.scopes[BILLED] = ScopeRecord(at=NOW, targets=targets)
    found = targets_of(scopes(subscription(ONE, **{COVERED_BY: BILLED})), settings(), state)
    assert bool(exports(found)["TailpipeDataExport-6789ab"].skip) is skipped


def state_with(name: str, **fields: Any) -> StateDocument:
    """Return a state with one export of the subscription ONE."""
    state = fresh("azure")
    state.scopes[ONE] = ScopeRecord(at=NOW, targets={f"export/{name}": TargetState(at=NOW, present=True, **fields)})
    return state


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
