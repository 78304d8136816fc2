"""Exports against the local Azure: created, adopted, repaired, refused; each test has subscriptions of its own."""

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


def test_a_new_subscription_gets_its_export_of_the_documented_shape(shared: LocalAzure) -> None:
    """Name, folder and shape are the public contract's, and the export is marked as ours."""
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


def test_a_creation_that_waits_across_midnight_is_accepted(azure: LocalAzure) -> None:
    """Refused for the quota shortly before midnight, an export is written after it, with a start not in the past."""
    now = azure.clock.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    advance(azure, (midnight - now).total_seconds() - 5)
    azure.fault(WRITE, "TooManyRequests", status=429, headers={"Retry-After": "60"})
    finished = run(azure)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert azure.clock.now() > midnight
    assert all(azure.exports(one) for one in azure.subscription_ids)


def test_further_datasets_and_parquet(shared: LocalAzure) -> None:
    """Each dataset is an export of its own; parquet comes with snappy."""
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


def test_pay_as_you_go_falls_back_to_usage_and_it_is_remembered(shared: LocalAzure) -> None:
    """The agreement's refusal teaches the allowed type; a dataset it does not offer excludes the scope."""
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


def test_a_better_type_than_was_once_refused_is_kept(shared: LocalAzure) -> None:
    """When the agreement has changed and somebody chose ActualCost, the remembered Usage does not put it back."""
    new = shared.join_subscription("upgraded", agreement="webdirect")
    run(shared, [new])
    shared.set_agreement(new, "ea")
    shared.change_type(new, "ActualCost")
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert live(shared, new)["definition"]["type"] == "ActualCost"


@pytest.mark.parametrize("drift", ["schedule", "folder", "container", "type", "end", "account"])
def test_drift_is_repaired_with_the_stored_start_and_the_current_etag(shared: LocalAzure, drift: str) -> None:
    """Inactive schedule, another destination, folder or type, and a near end date are put right, the start kept."""
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


def test_more_than_asked_is_no_drift(shared: LocalAzure) -> None:
    """Exports of the customer's own beside ours are left alone, and are none of ours by their name's beginning."""
    new = shared.join_subscription("customer")
    run(shared, [new])
    shared.create_exports([new], name=f"TailpipeDataExport-{new[-6:]}-2", kind="Usage")
    finished = run(shared, [new])
    assert action(finished, new).verb is Verb.KEEP
    assert len(shared.exports(new)) == 2


def test_a_script_made_export_without_data_is_adopted_by_its_refusal(shared: LocalAzure) -> None:
    """A creation that Azure refuses because the export exists leads to a look, and to one write where it differs."""
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
def test_exports_of_the_earlier_scripts_are_taken_over_in_their_real_shape(
    shared: LocalAzure, delivering: bool
) -> None:
    """Gzip CSV in one file, no columns chosen, a region without an identity: only partitions are added to it."""
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


def test_an_export_of_the_earlier_scripts_gets_an_identity_where_exports_have_one(azurite: Azurite) -> None:
    """The region that the scripts named is the identity's; nothing of what they chose is lost."""
    with local_azure(subscriptions=2, azurite=azurite, identity_exports=True) as cloud:
        old = cloud.subscription_ids[1]
        cloud.create_exports([old])
        assert run(cloud).report["status"] == "ok"
        (after,) = cloud.exports(old)
        assert (after["identity"]["type"], after["location"]) == ("SystemAssigned", "centralus")
        assert after["properties"]["definition"]["dataSet"]["configuration"] == {"columns": []}
        drop_clients()


def test_an_export_of_a_policy_on_another_account_is_adopted_and_repaired(shared: LocalAzure) -> None:
    """Our name and our folder make it ours to keep, wherever it delivered to before."""
    new = shared.join_subscription("policy")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name)
    finished = run(shared, [new])
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert destination_of(live(shared, new))["resourceId"] == shared.destinations[0].id


def test_a_foreign_export_of_our_name_is_left_alone(shared: LocalAzure) -> None:
    """Neither our account nor our folder nor our mark: it is reported with where it delivers, and not touched."""
    new = shared.join_subscription("foreign")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name, folder="finance/reports")
    before = live(shared, new)
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.MANUAL
    assert "finance/reports" in messages(finished)
    assert live(shared, new) == before


@pytest.mark.parametrize("schedule", [{"status": "Inactive", "recurrence": "Daily"}, {}], ids=["inactive", "one-time"])
def test_a_stopped_or_one_time_export_that_delivers_elsewhere_is_not_adopted(
    shared: LocalAzure, schedule: dict[str, str]
) -> None:
    """Our folder on another account is adopted only while it runs daily: otherwise someone has made it for once."""
    new = shared.join_subscription(f"stopped {schedule}")
    shared.create_exports([new])
    shared.change_destination(new, account=shared.host_account.name)
    shared.actions._change(new, "", {"schedule": schedule})
    before = live(shared, new)
    finished = run(shared, [new])
    assert (outcome(finished, new).result, outcome(finished, new).code) == (Result.MANUAL, "foreign")
    assert live(shared, new) == before


def test_what_azure_protects_is_created_unseen_in_one_call(azure: LocalAzure) -> None:
    """One look and one probe a run show that Azure refuses blind updates; every other subscription costs one call."""
    first = run(azure, CALLS_AT_ONCE="1")
    assert verbs(first)["CREATE"] == 6
    assert azure.calls.count(WRITE, status=201) == 6
    assert azure.calls.count(WRITE, status=400) == 1
    assert azure.calls.count(READ) == 1
    proofs = [one.action.observation.proof for one in first.outcomes if isinstance(one.action.observation, Absent)]
    assert proofs.count((UNSEEN,)) == 5


def test_where_blind_updates_pass_every_unseen_one_is_looked_at_first() -> None:
    """A probe that is accepted changes the manner: nothing that exists is ever overwritten unseen."""
    with local_azure(Behavior(blind_updates="accepted"), subscriptions=6) as cloud:
        existing = cloud.subscription_ids[-2:]
        cloud.create_exports(existing)
        cloud.set_end_date(existing[0], days=2000)
        for one in existing:
            cloud.actions._change(one, "", {"partitionData": True})  # else it is repaired, after a look
        before = [live(cloud, one) for one in existing]
        finished = run(cloud, CALLS_AT_ONCE="1")
        assert finished.report["status"] == "ok"
        assert cloud.calls.count(WRITE, status=201) == 4
        assert cloud.calls.count(WRITE, status=200) <= 1  # the probe's own
        assert cloud.calls.count(READ) >= 6
        assert [live(cloud, one) for one in existing] == before


def test_a_creation_that_overwrote_is_looked_at_and_reported(shared: LocalAzure) -> None:
    """200 instead of 201 says that something was there: the report tells, and the run looks first from then on."""
    one, two = (shared.join_subscription(f"overwritten-{number}") for number in range(2))
    shared.world.behavior.blind_updates = "accepted"
    try:
        shared.create_exports([two])
        # The look answers that there is nothing, as it may just after somebody else's creation.
        shared.faults.add(READ, "NotFound", "not found", status=404, times=2, resource=f"*{two}*")
        shared.faults.add(READ, "NotFound", "not found", status=404, times=1, resource=f"*{one}*")
        finished = run(shared, [two])
    finally:
        shared.world.behavior.blind_updates = "refused"
    told = outcome(finished, two)
    assert told.result is Result.DONE
    assert "200 instead of 201" in told.message


def test_an_etag_that_changed_in_between_is_read_again(shared: LocalAzure) -> None:
    """A repair refused for its eTag reads what is there now and puts our fields into that."""
    new = shared.join_subscription("etag")
    run(shared, [new])
    shared.set_schedule_inactive(new)
    shared.faults.add(WRITE, "Conflict", "The eTag of report: x has changed.", status=409, resource=f"*{new}*")
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.DONE
    assert live(shared, new)["schedule"]["status"] == "Active"


def test_missing_rights_are_deferred_for_an_hour_and_then_a_persons_step(shared: LocalAzure) -> None:
    """Rights may be spreading; after an hour the exact role, scope and identity are named, and nothing waited."""
    new = shared.join_subscription("no-rights")
    refuse(shared, new)
    begun = shared.clock.monotonic()
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.DEFERRED
    assert finished.report["status"] == "ok"
    assert shared.clock.monotonic() - begun < 60
    advance(shared, HOUR + 60)
    late = run(shared, [new])
    assert outcome(late, new).result is Result.MANUAL
    told = messages(late)
    assert f"/subscriptions/{new}" in told
    assert "custom role" in told
    assert shared.principal in told
    shared.clear_faults()
    advance(shared, 2 * HOUR)
    assert outcome(run(shared, [new]), new).result is Result.DONE


def refuse(cloud: LocalAzure, subscription: str) -> None:
    """Let Azure refuse exports of a subscription, and show no role of ours on it."""
    for permission in ("Microsoft.CostManagement/exports/*", "Microsoft.Authorization/permissions/read"):
        cloud.faults.add(permission, "AuthorizationFailed", "no", status=403, times=None, resource=f"*{subscription}*")


def test_an_offer_that_accepts_no_app_is_told_apart_from_a_missing_role(shared: LocalAzure) -> None:
    """The role is there and Azure refuses all the same: a person creates the export, with these values."""
    new = shared.join_subscription("payg", agreement="payg")
    assert outcome(run(shared, [new]), new).result is Result.DEFERRED
    advance(shared, HOUR + 60)
    finished = run(shared, [new])
    assert outcome(finished, new).result is Result.MANUAL
    told = messages(finished)
    assert "does not allow applications" in told
    assert f"TailpipeDataExport-{new[-6:]}" in told
    assert f"tailpipe/subscriptions/{new}" in told
    shared.create_exports([new], kind="Usage")


def test_young_subscriptions_are_deferred_a_day_and_reported_after_three(shared: LocalAzure) -> None:
    """Cost Management has no data for a new subscription yet: a day later it is tried again."""
    new = shared.join_subscription("young", young_s=10 * DAY)
    first = outcome(run(shared, [new]), new)
    assert (first.result, first.code) == (Result.DEFERRED, "no-cost-data-yet")
    assert first.retry_after == timedelta(days=1)
    advance(shared, DAY + 60)
    assert outcome(run(shared, [new]), new).result is Result.DEFERRED
    advance(shared, DAY + 60)
    assert outcome(run(shared, [new]), new).result is Result.MANUAL


@pytest.mark.parametrize(
    ("words", "told", "other"),
    [
        ("'AO View Charges' must be enabled on the enrollment", "Account owners can view charges", "Customers"),
        ("Access to cost data is disabled by the partner", "Customers, this customer", "Account owners"),
        ("Access to cost data has been disabled for this account.", "Account owners can view charges", "nowhere"),
    ],
)
def test_hidden_charges_are_a_step_of_the_agreements_administrator(
    shared: LocalAzure, words: str, told: str, other: str
) -> None:
    """Where charges are hidden, no export exists and the scope is not covered: its step says who clicks where."""
    new = shared.join_subscription(f"hidden {words}")
    shared.faults.add(WRITE, "AccountCostDisabled", words, status=400, times=None, resource=f"*{new}*")
    finished = run(shared, [new])
    assert (outcome(finished, new).result, outcome(finished, new).code) == (Result.MANUAL, "costs-hidden")
    assert finished.report["scopes"]["covered"] == 0
    assert told in messages(finished)
    assert other not in messages(finished)
    assert shared.exports(new) == []


@pytest.mark.parametrize("agreement", ["sponsored", "students"])
def test_an_offer_without_cost_data_is_excluded_with_the_reason(shared: LocalAzure, agreement: str) -> None:
    """Its quota id tells it from a new subscription at once; it is tried again after a week."""
    new = shared.join_subscription(f"unsupported {agreement}", agreement=agreement)
    finished = run(shared, [new])
    done = outcome(finished, new)
    assert (done.result, done.code, done.retry_after) == (Result.EXCLUDED, "offer-unsupported", timedelta(days=7))
    assert "does not support the offer" in done.message


def test_a_dataset_that_the_agreement_lacks_names_the_setting_that_would_cover_it(shared: LocalAzure) -> None:
    """FOCUS alone excludes a pay-as-you-go subscription, and the reason says which other dataset it takes."""
    new = shared.join_subscription("payg-focus", agreement="webdirect")
    finished = run(shared, [new], EXPORTS="focus")
    done = outcome(finished, new)
    assert (done.result, done.code) == (Result.EXCLUDED, "type-refused")
    assert "it offers the dataset actual, which EXPORTS does not contain" in done.message


def test_a_source_subscription_is_registered_only_when_azure_asks(shared: LocalAzure) -> None:
    """The refusal names the provider: it is registered there, the export deferred and made by a later run."""
    asked, other = shared.join_subscription("asks"), shared.join_subscription("does-not-ask")
    shared.demand_registration(asked)
    finished = run(shared, [asked, other])
    assert outcome(finished, asked).code == "source-unregistered"
    registered = [call.resource for call in shared.calls.select("*/register/action")]
    assert len(registered) == 1
    assert asked in registered[0]
    advance(shared, HOUR)
    assert outcome(run(shared, [asked]), asked).result is Result.DONE


def test_throttling_slows_down_and_loses_nothing(shared: LocalAzure) -> None:
    """A burst of 429 answers is waited out by the shared limiter; every subscription is covered in the end."""
    ids = [shared.join_subscription(f"throttled-{number}") for number in range(5)]
    shared.throttle(45)
    finished = run(shared, ids)
    assert finished.report["status"] == "ok", finished.report["failures"]
    assert all(len(shared.exports(one)) == 1 for one in ids)


def test_passing_identity_troubles_are_tried_again(shared: LocalAzure) -> None:
    """A principal that has not reached every corner yet is tried again within the run."""
    new = shared.join_subscription("identity")
    shared.faults.add(WRITE, "PrincipalNotFound", "Principal does not exist", status=400, times=2, resource=f"*{new}*")
    assert outcome(run(shared, [new]), new).result is Result.DONE


def test_one_subscription_without_rights_blocks_no_other(shared: LocalAzure) -> None:
    """Whatever one subscription says, the others are covered in the same run."""
    good = [shared.join_subscription(f"good-{number}") for number in range(3)]
    bad = shared.join_subscription("bad", agreement="payg")
    refuse(shared, good[0])
    begun = shared.clock.monotonic()
    finished = run(shared, [*good, bad])
    assert [outcome(finished, one).result for one in good[1:]] == [Result.DONE] * 2
    assert outcome(finished, good[0]).result is Result.DEFERRED
    assert shared.clock.monotonic() - begun < 60


def test_failed_runs_are_executed_once_and_then_reported(shared: LocalAzure) -> None:
    """Three failed runs in a row: one execution; when a day later it has not helped, a person is asked."""
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


def test_two_days_of_silence_lead_to_one_execution(shared: LocalAzure) -> None:
    """An export that looks right and delivers nothing is executed once."""
    new = shared.join_subscription("silent")
    run(shared, [new])
    advance(shared, 4 * DAY)
    finished = run(shared, [new])
    assert (action(finished, new).verb, action(finished, new).reason) == (Verb.REPAIR, "nothing-delivered")
    seen = action(finished, new).observation
    assert isinstance(seen, Present)
    assert seen.verified


def test_fresh_deliveries_prove_an_export_without_a_call(azure: LocalAzure) -> None:
    """Within the budget of one read, five of six exports are proven by their data alone."""
    run(azure)
    azure.deliver()
    advance(azure, HOUR)
    azure.calls.clear()
    finished = run(azure, CALL_BUDGET="1")
    assert finished.report["scopes"]["covered"] == 6
    assert azure.calls.count(READ) == 1


def test_a_deleted_export_comes_back_although_its_data_is_fresh(covered: LocalAzure) -> None:
    """What memory and yesterday's data say is never believed over the cloud: the round of reads finds it."""
    gone = covered.subscription_ids[3]
    covered.delete_export(gone)
    finished = run(covered)
    assert outcome(finished, gone).result is Result.DONE
    assert len(covered.exports(gone)) == 1


def test_an_empty_memory_costs_reads_and_no_write(covered: LocalAzure) -> None:
    """Exports with data are looked at, not created, when the state was lost."""
    with covered.blob_client(covered.host_account.name) as client:
        client.get_blob_client("tailpipe-state", "known_subscriptions.json").delete_blob()
    finished = run(covered)
    assert verbs(finished) == {"KEEP": 8}
    assert covered.calls.count(WRITE) == 0


def test_identity_exports_are_made_with_an_identity() -> None:
    """Where the deployment chose it, exports write with an identity of their own, and accounts may refuse keys."""
    with local_azure(subscriptions=3, identity_exports=True) as cloud:
        finished = run(cloud)
        assert finished.report["status"] == "ok", finished.report["failures"]
        assert {one["identity"]["type"] for one in cloud.exports()} == {"SystemAssigned"}
        advance(cloud, HOUR)
        assert set(verbs(run(cloud))) == {"KEEP"}
        without = run(cloud, EXPORT_IDENTITY="none")
        assert "disallows key access" in messages(without)


def test_no_secret_and_only_the_roles_actions(shared: LocalAzure) -> None:
    """A run asks for nothing but the actions of the deployment's custom role."""
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
        "Microsoft.Storage/storageAccounts/write",  # asked for by Azure, of whoever names an account in an export
    }
    assert shared.calls.actions(app=shared.principal) <= allowed
