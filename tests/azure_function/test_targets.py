"""Names, folders, managed fields, and the storage account of each export: pure data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from azure_function.resources.export_document import ExportVariant, document, normal_form
from azure_function.scopes import BILLING, COVERED_BY, ROLE, SUBSCRIPTION
from azure_function.settings import Storage
from azure_function.targets import assigned, placement_of, targets_of
from shared.model import Enumeration, Key, Scope, Target
from shared.state.document import ScopeRecord, StateDocument, fresh
from shared.target_state import LastError, TargetState
from tests.azure_function.support import account_settings

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
ONE = "11111111-2222-3333-4444-5555556789ab"
BILLED = "/providers/Microsoft.Billing/billingAccounts/a:b_2019-05-31/billingProfiles/X:Y Z"


def scopes(*found: Scope) -> Enumeration:
    """Return an enumeration of these scopes."""
    return Enumeration("tenant", found)


def exports(found: list[Target]) -> dict[str, Target]:
    """Return the export targets by name."""
    return {target.key.name: target for target in found if target.key.kind == "export"}


def test_export_has_the_documented_name_and_folder() -> None:
    """A name ends in the last six characters of the subscription id, and a suffix for further datasets."""
    found = exports(
        targets_of(scopes(subscription()), account_settings(EXPORTS="actual,focus,amortized"), fresh("azure"))
    )
    assert list(found) == [
        "TailpipeDataExport-6789ab",
        "TailpipeDataExport-6789ab-focus",
        "TailpipeDataExport-6789ab-amortized",
    ]
    assert {target.desired["folder"] for target in found.values()} == {f"tailpipe/subscriptions/{ONE}"}
    assert [target.desired["type"] for target in found.values()] == ["ActualCost", "FocusCost", "AmortizedCost"]


def test_folder_of_a_billing_scope_has_no_reserved_characters() -> None:
    """Colons and spaces in the id of a billing profile are replaced."""
    found = exports(targets_of(scopes(Scope(BILLED, traits={ROLE: BILLING})), account_settings(), fresh("azure")))
    assert found["TailpipeAllSubs"].desired["folder"] == "tailpipe/billing/X-Y-Z"


def test_another_storage_account_gets_its_share_and_moves_no_other_subscription() -> None:
    """The accounts get similar shares, in any order of the setting."""
    ids = [str(UUID(int=number * 7919)) for number in range(3000)]
    before = {one: assigned(one, account_settings(3)).name for one in ids}
    after = {one: assigned(one, account_settings(4)).name for one in ids}
    moved = [one for one in ids if before[one] != after[one]]
    assert {after[one] for one in moved} == {"account3"}
    shares = [list(after.values()).count(f"account{number}") for number in range(4)]
    assert min(shares) > 600
    backwards = account_settings(3)
    backwards = msgspec.structs.replace(backwards, destination=backwards.destination[::-1])
    assert {one: assigned(one, backwards).name for one in ids} == before


def test_existing_export_stays_on_its_storage_account() -> None:
    """The account in the state takes precedence over the hash."""
    made = account_settings(2)
    other = next(one for one in made.destination if one != assigned(ONE, made))
    state = state_with("TailpipeDataExport-6789ab", remembered={"account": other.name})
    dest = [Scope(one.subscription, traits={ROLE: "destination"}) for one in made.destination]
    target = exports(targets_of(scopes(subscription(), *dest), made, state))["TailpipeDataExport-6789ab"]
    assert target.needs == (Key(other.subscription, "container", f"{other.name}/dataexport"),)


def test_accepted_type_in_the_state_is_desired() -> None:
    """The function does not request ActualCost again if the agreement offers only Usage."""
    state = state_with("TailpipeDataExport-6789ab", remembered={"type": "Usage"})
    found = exports(targets_of(scopes(subscription()), account_settings(), state))
    assert found["TailpipeDataExport-6789ab"].desired["type"] == "Usage"


def test_resource_ids_are_compared_case_insensitively() -> None:
    """Azure may change the case of a resource id."""
    made = account_settings()
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
    found = targets_of(scopes(subscription(ONE, **{COVERED_BY: BILLED})), account_settings(), state)
    assert bool(exports(found)["TailpipeDataExport-6789ab"].skip) is skipped


def state_with(name: str, **fields: Any) -> StateDocument:
    """Return a state with one export of the subscription ONE."""
    state = fresh("azure")
    state.scopes[ONE] = ScopeRecord(at=NOW, targets={f"export/{name}": TargetState(at=NOW, present=True, **fields)})
    return state


@pytest.mark.parametrize("more", [{}, {"EXPORT_FORMAT": "parquet"}, {"EXPORT_IDENTITY": "system"}])
@pytest.mark.parametrize("name", ["TailpipeDataExport-6789ab", "TailpipeDataExport-6789ab-focus"])
def test_sent_document_equals_the_desired_fields(name: str, more: dict[str, str]) -> None:
    """A new export has no drift, so the next run does not repair it."""
    made = account_settings(1, EXPORTS="actual,focus", **more)
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


def subscription(own: str = ONE, **traits: str) -> Scope:
    """Return the scope of a subscription."""
    return Scope(own, traits={ROLE: SUBSCRIPTION, **traits})
