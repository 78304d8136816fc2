"""Writes of exports: created without overwriting, repaired with the current eTag, or deferred."""

from __future__ import annotations

from datetime import timedelta

import pytest

from azure_function.resources.export_writer import UNSEEN
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.state import Behavior
from shared.model import Absent, Result, Verb
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
    outcome,
    run,
    verbs,
)


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


def test_exports_are_created_without_a_read_if_azure_rejects_overwriting(azure: LocalAzure) -> None:
    """One read and one probe show that Azure rejects updates without an eTag; other creations are one call each."""
    first = run(azure, CALLS_AT_ONCE="1")
    assert verbs(first)["CREATE"] == 6
    assert azure.calls.count(WRITE, status=201) == 6
    assert azure.calls.count(WRITE, status=400) == 1
    assert azure.calls.count(READ) == 1 + 6  # each scope's exports are listed once, for those of others
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


@pytest.mark.parametrize("agreement", ["sponsored", "students"])
def test_offer_without_cost_data_is_excluded(shared: LocalAzure, agreement: str) -> None:
    """The quota id distinguishes it from a new subscription. The function retries after a week."""
    new = shared.join_subscription(f"unsupported {agreement}", agreement=agreement)
    finished = run(shared, [new])
    done = outcome(finished, new)
    assert (done.result, done.code, done.retry_after) == (Result.EXCLUDED, "offer-unsupported", timedelta(days=7))
    assert "does not support the offer" in done.message


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
