"""Exports against the local Azure: creation, adoption, repair and errors. Each test has its own subscriptions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from azure_function.clients import drop_clients
from azure_function.resources.export_writer import UNSEEN
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from shared.model import Absent, Present, Result, Verb
from tests.azure_function.support import (
    DAY,
    HOUR,
    READ,
    WRITE,
    action,
    advance,
    destination_of,
    live,
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


def test_creation_that_is_throttled_past_midnight_succeeds(azure: LocalAzure) -> None:
    """The export is throttled shortly before midnight and written after it; its start is still in the future."""
    now = azure.clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    advance(azure, (midnight - now).total_seconds() - 5)
    azure.fault(WRITE, "TooManyRequests", status=429, headers={"Retry-After": "60"})
    finished = run(azure)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert azure.clock.now() > midnight
    assert all(azure.exports(one) for one in azure.subscription_ids)


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


def test_pay_as_you_go_falls_back_to_usage_and_the_state_records_it(shared: LocalAzure) -> None:
    """Azure's error names the type that the agreement offers. A dataset without an offered type excludes the scope."""
    new = shared.join_subscription("webdirect", agreement="webdirect")
    finished = run(shared, [new], EXPORTS="actual,focus")
    base = f"TailpipeDataExport-{new[-6:]}"
    assert outcome(finished, new, name=base).result is Result.DONE
    assert live(shared, new)["definition"]["type"] == "Usage"
    refused = outcome(finished, new, name=f"{base}-focus")
    assert (refused.result, refused.code) == (Result.EXCLUDED, "type-refused")
    assert "WebDirect" in refused.message
    assert finished.report["scopes"]["excluded"] == 1
    shared.calls.clear()
    again = run(shared, [new], EXPORTS="actual")
    assert action(again, new, name=base).verb is Verb.KEEP
    assert shared.calls.count(WRITE) == 0


def test_preferred_type_is_kept_when_the_agreement_now_offers_it(shared: LocalAzure) -> None:
    """The state records Usage, but after a change of agreement a person chose ActualCost."""
    new = shared.join_subscription("upgraded", agreement="webdirect")
    run(shared, [new])
    shared.set_agreement(new, "ea")
    shared.change_type(new, "ActualCost")
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert live(shared, new)["definition"]["type"] == "ActualCost"


@pytest.mark.parametrize("drift", ["schedule", "folder", "container", "type", "end", "account"])
def test_drift_is_repaired_and_the_start_date_kept(shared: LocalAzure, drift: str) -> None:
    """Schedule, destination, folder, type and end date are restored with one read and one write."""
    new = shared.join_subscription(f"drift-{drift}")
    run(shared, [new])
    before = live(shared, new)
    changes = {
        "schedule": lambda: shared.set_schedule_inactive(new),
        "folder": lambda: shared.change_destination(new, folder="elsewhere"),
        "container": lambda: shared.change_destination(new, container="elsewhere"),
        "type": lambda: shared.change_type(new, "Usage"),
        "end": lambda: shared.set_end_date(new, days=10),
        "account": lambda: shared.change_destination(new, account=shared.host_account.name),
    }
    changes[drift]()
    advance(shared, DAY)
    shared.calls.clear()
    finished = run(shared, [new])
    assert (action(finished, new).verb, outcome(finished, new).result) == (Verb.REPAIR, Result.DONE)
    assert shared.calls.count(READ) == shared.calls.count(WRITE) == 1
    after = live(shared, new)
    assert after["schedule"]["status"] == "Active"
    assert after["schedule"]["recurrencePeriod"] == before["schedule"]["recurrencePeriod"]
    assert destination_of(after) == destination_of(before)
    assert after["definition"] == before["definition"]


def test_exports_of_the_customer_are_left_alone(shared: LocalAzure) -> None:
    """An export whose name only starts with ours is not ours."""
    new = shared.join_subscription("customer")
    run(shared, [new])
    shared.create_exports([new], name=f"TailpipeDataExport-{new[-6:]}-2", kind="Usage")
    finished = run(shared, [new])
    assert action(finished, new).verb is Verb.KEEP
    assert len(shared.exports(new)) == 2


def test_export_of_a_script_without_data_is_adopted_when_azure_rejects_the_creation(shared: LocalAzure) -> None:
    """The error shows that the export exists. It is then read, and written only if it differs."""
    ids = [shared.join_subscription(f"script-{number}") for number in range(4)]
    shared.create_exports(ids)
    shared.change_type(ids[3], "Usage")
    finished = run(shared, ids)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert live(shared, ids[3])["definition"]["type"] == "ActualCost"
    assert [len(shared.exports(one)) for one in ids] == [1, 1, 1, 1]
    assert shared.calls.count(WRITE, status=200) == 4
    shared.calls.clear()
    advance(shared, HOUR)
    assert set(verbs(run(shared, ids))) == {"KEEP"}
    assert shared.calls.count(WRITE) == 0


@pytest.mark.parametrize("delivering", [True, False])
def test_export_of_the_legacy_scripts_gets_only_partitioning_added(shared: LocalAzure, delivering: bool) -> None:
    """They create a single gzip CSV file, an empty list of columns, and a location without an identity."""
    old = shared.join_subscription(f"earlier-{delivering}")
    shared.create_exports([old])
    (before,) = shared.exports(old)
    properties = before["properties"]
    assert (properties["format"], properties["compressionMode"]) == ("Csv", "gzip")
    assert properties["partitionData"] is False
    assert properties["definition"]["dataSet"]["configuration"] == {"columns": []}
    assert ("identity" in before, before["location"]) == (False, "centralus")
    if delivering:
        shared.deliver([old])
    finished = run(shared, [old])
    assert finished.report["status"] == "ok", finished.report["failures"]
    (after,) = shared.exports(old)
    assert after["properties"]["partitionData"] is True
    assert "identity" not in after
    kept = {"schedule", "format", "compressionMode", "dataOverwriteBehavior", "definition", "deliveryInfo"}
    assert {name: after["properties"][name] for name in kept} == {name: properties[name] for name in kept}
    shared.deliver([old])
    advance(shared, HOUR)
    assert action(run(shared, [old]), old).verb is Verb.KEEP


def test_export_of_the_legacy_scripts_gets_an_identity_if_configured(azurite: Azurite) -> None:
    """The identity is created in the location that the scripts chose, and their other settings are kept."""
    with local_azure(subscriptions=2, azurite=azurite, identity_exports=True) as cloud:
        old = cloud.subscription_ids[1]
        cloud.create_exports([old])
        assert run(cloud).report["status"] == "ok"
        (after,) = cloud.exports(old)
        assert (after["identity"]["type"], after["location"]) == ("SystemAssigned", "centralus")
        assert after["properties"]["definition"]["dataSet"]["configuration"] == {"columns": []}
        drop_clients()


def test_active_export_with_our_folder_on_another_account_is_adopted(shared: LocalAzure) -> None:
    """A policy may have created it. The repair changes its destination to the configured account."""
    new = shared.join_subscription("policy")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name)
    finished = run(shared, [new])
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert destination_of(live(shared, new))["resourceId"] == shared.destinations[0].id


def test_foreign_export_with_our_name_is_reported_and_not_changed(shared: LocalAzure) -> None:
    """It has neither our account, our folder nor our description. The manual step names its folder."""
    new = shared.join_subscription("foreign")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name, folder="finance/reports")
    before = live(shared, new)
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.MANUAL
    assert "finance/reports" in messages(finished)
    assert live(shared, new) == before


@pytest.mark.parametrize("schedule", [{"status": "Inactive", "recurrence": "Daily"}, {}], ids=["inactive", "one-time"])
def test_inactive_or_one_time_export_on_another_account_is_not_adopted(
    shared: LocalAzure, schedule: dict[str, str]
) -> None:
    """Without a daily schedule, a person has stopped it or created it for one run."""
    new = shared.join_subscription(f"stopped {schedule}")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name)
    shared.actions._change(new, "", {"schedule": schedule})
    before = live(shared, new)
    finished = run(shared, [new])
    assert (outcome(finished, new).result, outcome(finished, new).code) == (Result.MANUAL, "foreign")
    assert live(shared, new) == before


def test_exports_are_created_without_a_read_if_azure_rejects_overwriting(azure: LocalAzure) -> None:
    """One read and one probe show that Azure rejects updates without an eTag; other creations are one call each."""
    first = run(azure, CALLS_AT_ONCE="1")
    assert verbs(first)["CREATE"] == 6
    assert azure.calls.count(WRITE, status=201) == 6
    assert azure.calls.count(WRITE, status=400) == 1
    assert azure.calls.count(READ) == 1
    proofs = [one.action.observation.proof for one in first.outcomes if isinstance(one.action.observation, Absent)]
    assert proofs.count((UNSEEN,)) == 5


def test_every_export_is_read_before_creation_if_azure_accepts_overwriting() -> None:
    """If the probe is accepted, no existing export is overwritten without a read."""
    with local_azure(Behavior(blind_updates="accepted"), subscriptions=6) as cloud:
        existing = cloud.subscription_ids[-2:]
        cloud.create_exports(existing)
        cloud.set_end_date(existing[0], days=2000)
        for one in existing:
            cloud.actions._change(one, "", {"partitionData": True})  # otherwise it is repaired after the read
        before = [live(cloud, one) for one in existing]
        finished = run(cloud, CALLS_AT_ONCE="1")
        assert finished.report["status"] == "ok"
        assert cloud.calls.count(WRITE, status=201) == 4
        assert cloud.calls.count(WRITE, status=200) <= 1  # the probe's own
        assert cloud.calls.count(READ) >= 6
        assert [live(cloud, one) for one in existing] == before


def test_creation_that_overwrote_an_export_is_reported(shared: LocalAzure) -> None:
    """A status of 200 instead of 201 shows that the export existed."""
    one, two = (shared.join_subscription(f"overwritten-{number}") for number in range(2))
    shared.world.behavior.blind_updates = "accepted"
    try:
        shared.create_exports([two])
        # The read returns 404, as it may do right after another client has created the export.
        shared.faults.add(READ, "NotFound", "not found", status=404, times=2, resource=f"*{two}*")
        shared.faults.add(READ, "NotFound", "not found", status=404, times=1, resource=f"*{one}*")
        finished = run(shared, [two])
    finally:
        shared.world.behavior.blind_updates = "refused"
    done = outcome(finished, two)
    assert done.result is Result.DONE
    assert "200 instead of 201" in done.message


def test_repair_with_an_outdated_etag_is_repeated_on_the_current_export(shared: LocalAzure) -> None:
    """The export is read again, and our fields are set in the current document."""
    new = shared.join_subscription("etag")
    run(shared, [new])
    shared.set_schedule_inactive(new)
    shared.faults.add(WRITE, "Conflict", "The eTag of report: x has changed.", status=409, resource=f"*{new}*")
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.DONE
    assert live(shared, new)["schedule"]["status"] == "Active"


def test_missing_permissions_are_deferred_for_an_hour_and_then_reported(shared: LocalAzure) -> None:
    """A role assignment may need an hour to take effect. The manual step names role, scope and identity."""
    new = shared.join_subscription("no-rights")
    deny_exports(shared, new)
    begun = shared.clock.monotonic()
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.DEFERRED
    assert finished.report["status"] == "ok"
    assert shared.clock.monotonic() - begun < 60
    advance(shared, HOUR + 60)
    late = run(shared, [new])
    assert outcome(late, new).result is Result.MANUAL
    text = messages(late)
    assert f"/subscriptions/{new}" in text
    assert "custom role" in text
    assert shared.principal in text
    shared.clear_faults()
    advance(shared, 2 * HOUR)
    assert outcome(run(shared, [new]), new).result is Result.DONE


def deny_exports(cloud: LocalAzure, subscription: str) -> None:
    """Deny all calls to the exports of a subscription, and the read of the function's permissions on it."""
    for permission in ("Microsoft.CostManagement/exports/*", "Microsoft.Authorization/permissions/read"):
        cloud.faults.add(permission, "AuthorizationFailed", "no", status=403, times=None, resource=f"*{subscription}*")


def test_offer_that_rejects_applications_is_not_reported_as_a_missing_role(shared: LocalAzure) -> None:
    """The function has its role, but Azure denies the write.

    The manual step has the values with which to create the export.
    """
    new = shared.join_subscription("payg", agreement="payg")
    assert outcome(run(shared, [new]), new).result is Result.DEFERRED
    advance(shared, HOUR + 60)
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.MANUAL
    text = messages(finished)
    assert "does not allow applications" in text
    assert f"TailpipeDataExport-{new[-6:]}" in text
    assert f"tailpipe/subscriptions/{new}" in text
    shared.create_exports([new], kind="Usage")


def test_new_subscription_without_cost_data_is_deferred_and_then_reported(shared: LocalAzure) -> None:
    """The function retries after a day, and reports a manual step after two days."""
    new = shared.join_subscription("young", young_s=10 * DAY)
    first = outcome(run(shared, [new]), new)
    assert (first.result, first.code) == (Result.DEFERRED, "no-cost-data-yet")
    assert first.retry_after == timedelta(days=1)
    advance(shared, DAY + 60)
    assert outcome(run(shared, [new]), new).result is Result.DEFERRED
    advance(shared, DAY + 60)
    assert outcome(run(shared, [new]), new).result is Result.MANUAL


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


@pytest.mark.parametrize("agreement", ["sponsored", "students"])
def test_offer_without_cost_data_is_excluded(shared: LocalAzure, agreement: str) -> None:
    """The quota id distinguishes it from a new subscription. The function retries after a week."""
    new = shared.join_subscription(f"unsupported {agreement}", agreement=agreement)
    finished = run(shared, [new])
    done = outcome(finished, new)
    assert (done.result, done.code, done.retry_after) == (Result.EXCLUDED, "offer-unsupported", timedelta(days=7))
    assert "does not support the offer" in done.message


def test_unsupported_dataset_is_excluded_and_another_one_suggested(shared: LocalAzure) -> None:
    """A pay-as-you-go subscription offers no FOCUS export; the reason names a dataset that it offers."""
    new = shared.join_subscription("payg-focus", agreement="webdirect")
    finished = run(shared, [new], EXPORTS="focus")
    done = outcome(finished, new)
    assert (done.result, done.code) == (Result.EXCLUDED, "type-refused")
    assert "it offers the dataset actual, which EXPORTS does not contain" in done.message


def test_source_subscription_is_registered_only_if_azure_requires_it(shared: LocalAzure) -> None:
    """The error names the resource provider. The export is deferred and created by a later run."""
    asked, other = shared.join_subscription("asks"), shared.join_subscription("does-not-ask")
    shared.demand_registration(asked)
    finished = run(shared, [asked, other])
    assert outcome(finished, asked).code == "source-unregistered"
    registered = [call.resource for call in shared.calls.select("*/register/action")]
    assert len(registered) == 1
    assert asked in registered[0]
    advance(shared, HOUR)
    assert outcome(run(shared, [asked]), asked).result is Result.DONE


def test_throttling_delays_exports_but_loses_none(shared: LocalAzure) -> None:
    """After a burst of 429 responses the rate limiter slows down, and every export is created in the same run."""
    ids = [shared.join_subscription(f"throttled-{number}") for number in range(5)]
    shared.throttle(45)
    finished = run(shared, ids)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert all(len(shared.exports(one)) == 1 for one in ids)


def test_principal_that_is_not_replicated_yet_is_retried(shared: LocalAzure) -> None:
    """The write succeeds within the same run."""
    new = shared.join_subscription("identity")
    shared.faults.add(WRITE, "PrincipalNotFound", "Principal does not exist", status=400, times=2, resource=f"*{new}*")
    assert outcome(run(shared, [new]), new).result is Result.DONE


def test_subscription_without_permissions_does_not_block_others(shared: LocalAzure) -> None:
    """The other exports are created in the same run, without waiting."""
    good = [shared.join_subscription(f"good-{number}") for number in range(3)]
    bad = shared.join_subscription("bad", agreement="payg")
    deny_exports(shared, good[0])
    begun = shared.clock.monotonic()
    finished = run(shared, [*good, bad])
    assert [outcome(finished, one).result for one in good[1:]] == [Result.DONE] * 2
    assert outcome(finished, good[0]).result is Result.DEFERRED
    assert shared.clock.monotonic() - begun < 60


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


def test_recent_deliveries_prove_exports_without_a_read(azure: LocalAzure) -> None:
    """With a budget of one read, five of six exports are proven by their deliveries alone."""
    run(azure)
    azure.deliver()
    advance(azure, HOUR)
    azure.calls.clear()
    finished = run(azure, CALL_BUDGET="1")
    assert finished.report["scopes"]["covered"] == 6
    assert azure.calls.count(READ) == 1


def test_deleted_export_is_recreated_despite_recent_data(covered: LocalAzure) -> None:
    """Neither the state nor recent data replaces the periodic read of the export."""
    gone = covered.subscription_ids[3]
    covered.delete_export(gone)
    finished = run(covered)
    assert outcome(finished, gone).result is Result.DONE
    assert len(covered.exports(gone)) == 1


def test_lost_state_leads_to_reads_and_no_writes(covered: LocalAzure) -> None:
    """Exports with data are read and not created again."""
    with covered.blob_client(covered.host_account.name) as client:
        client.get_blob_client("tailpipe-state", "known_subscriptions.json").delete_blob()
    finished = run(covered)
    assert verbs(finished) == {"KEEP": 8}
    assert covered.calls.count(WRITE) == 0


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
