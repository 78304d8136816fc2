"""Exports against the local Azure: creation, adoption, repair and errors. Each test has its own subscriptions."""

from __future__ import annotations

import pytest

from localcloud.azure.cloud import LocalAzure
from shared.model import Present, Result, Verb
from tests.azure_function.support import (
    DAY,
    HOUR,
    WRITE,
    action,
    advance,
    destination_of,
    local_azure,
    messages,
    outcome,
    run,
    verbs,
)


def test_new_subscription_gets_the_documented_export(shared: LocalAzure) -> None:
    """Name, folder, format and schedule are a public contract."""
    new = shared.join_subscription("new")
    assert outcome(run(shared, [new]), new).result is Result.DONE
    (export,) = shared.exports(new)
    assert export["name"] == f"TailpipeDataExport-{new[-6:]}"
    properties = export["properties"]
    target = destination_of(properties)
    assert target["rootFolderPath"] == f"tailpipe/subscriptions/{new}"
    assert target["container"] == "dataexport"
    assert (properties["format"], properties["compressionMode"]) == ("Csv", "gzip")
    assert properties["schedule"]["recurrencePeriod"]["to"].startswith("2099-12-31")
    assert properties["definition"]["type"] == "ActualCost"


def test_each_dataset_has_its_own_export(shared: LocalAzure) -> None:
    """Exports in Parquet use snappy compression."""
    new = shared.join_subscription("datasets")
    finished = run(shared, [new], EXPORTS="actual,focus,amortized", EXPORT_FORMAT="parquet")
    assert finished.report["status"] == "ok", finished.report["failures"]
    found = {one["name"]: one["properties"] for one in shared.exports(new)}
    base = f"TailpipeDataExport-{new[-6:]}"
    assert {name: one["definition"]["type"] for name, one in found.items()} == {
        base: "ActualCost",
        f"{base}-focus": "FocusCost",
        f"{base}-amortized": "AmortizedCost",
    }
    assert {(one["format"], one["compressionMode"]) for one in found.values()} == {("Parquet", "snappy")}


@pytest.mark.parametrize(
    ("message", "step", "other"),
    [
        ("'AO View Charges' must be enabled on the enrollment", "Account owners can view charges", "Customers"),
        ("Access to cost data is disabled by the partner", "Customers, this customer", "Account owners"),
        ("Access to cost data has been disabled for this account.", "Account owners can view charges", "nowhere"),
    ],
)
def test_hidden_charges_are_reported_with_the_setting_that_shows_them(
    shared: LocalAzure, message: str, step: str, other: str
) -> None:
    """The manual step depends on the agreement; the scope is not covered."""
    new = shared.join_subscription(f"hidden {message}")
    shared.faults.add(WRITE, "AccountCostDisabled", message, status=400, times=None, resource=f"*{new}*")
    finished = run(shared, [new])
    assert (outcome(finished, new).result, outcome(finished, new).code) == (Result.MANUAL, "costs-hidden")
    assert finished.report["scopes"]["covered"] == 0
    assert step in messages(finished)
    assert other not in messages(finished)
    assert shared.exports(new) == []


def test_throttling_delays_exports_but_loses_none(shared: LocalAzure) -> None:
    """After a burst of 429 responses the rate limiter slows down, and every export is created in the same run."""
    ids = [shared.join_subscription(f"throttled-{number}") for number in range(5)]
    shared.throttle(45)
    finished = run(shared, ids)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert all(len(shared.exports(one)) == 1 for one in ids)


def test_failed_runs_lead_to_one_execution_and_then_a_manual_step(shared: LocalAzure) -> None:
    """Three failed runs in a row start one execution. If it has not helped after a day, the export is a manual step."""
    new = shared.join_subscription("failing")
    run(shared, [new])
    shared.fail_runs(new, times=10)
    for _ in range(3):
        shared.deliver([new])
        advance(shared, DAY)
    shared.calls.clear()
    finished = run(shared, [new])
    assert (action(finished, new).verb, action(finished, new).reason) == (Verb.REPAIR, "runs-failed")
    assert shared.calls.count("*/exports/run/action") == 1
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    advance(shared, DAY + 60)
    late = run(shared, [new])
    assert outcome(late, new).result is Result.MANUAL
    assert "another execution did not help" in messages(late)
    shared.fail_runs(new, times=0)


def test_export_without_a_delivery_for_two_days_is_executed(shared: LocalAzure) -> None:
    """An export that looks correct and delivers nothing is executed."""
    new = shared.join_subscription("silent")
    run(shared, [new])
    advance(shared, 4 * DAY)
    finished = run(shared, [new])
    assert (action(finished, new).verb, action(finished, new).reason) == (Verb.REPAIR, "nothing-delivered")
    seen = action(finished, new).observation
    assert isinstance(seen, Present)
    assert seen.verified


def test_exports_have_an_identity_if_configured() -> None:
    """With a managed identity, exports can write to a storage account that disallows key access."""
    with local_azure(subscriptions=3, identity_exports=True) as cloud:
        finished = run(cloud)
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert {one["identity"]["type"] for one in cloud.exports()} == {"SystemAssigned"}
        advance(cloud, HOUR)
        assert set(verbs(run(cloud))) == {"KEEP"}
        without = run(cloud, EXPORT_IDENTITY="none")
        assert "disallows key access" in messages(without)


def test_run_uses_only_the_actions_of_the_custom_role(shared: LocalAzure) -> None:
    """Azure itself checks the write on the storage account when an export names it."""
    new = shared.join_subscription("least-privilege")
    run(shared, [new])
    allowed = {
        "Microsoft.CostManagement/exports/read",
        "Microsoft.CostManagement/exports/write",
        "Microsoft.Resources/subscriptions/read",
        "Microsoft.Resources/subscriptions/providers/read",
        "Microsoft.Storage/storageAccounts/blobServices/containers/read",
        "Microsoft.Storage/storageAccounts/managementPolicies/read",
        "Microsoft.Storage/storageAccounts/read",
        "Microsoft.Storage/storageAccounts/write",  # checked by Azure when an export names the account
    }
    assert shared.calls.actions(app=shared.principal) <= allowed
