"""Live exports compared with the desired fields: ownership, adoption, and what a person has changed."""

from __future__ import annotations

from typing import Any

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from shared.model import Result, Verb
from tests.azure_function.support import (
    DAY,
    HOUR,
    READ,
    WRITE,
    action,
    advance,
    destination_of,
    focus_version,
    live,
    local_azure,
    messages,
    outcome,
    run,
)


def test_preferred_type_is_kept_when_the_agreement_now_offers_it(shared: LocalAzure) -> None:
    """The state records Usage, but after a change of agreement a person chose ActualCost."""
    new = shared.join_subscription("upgraded", agreement="webdirect")
    run(shared, [new])
    shared.set_agreement(new, "ea")
    shared.change_type(new, "ActualCost")
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert action(run(shared, [new]), new).verb is Verb.KEEP
    assert live(shared, new)["definition"]["type"] == "ActualCost"


def test_exports_of_the_customer_are_left_alone(shared: LocalAzure) -> None:
    """An export whose name only starts with ours is not ours."""
    new = shared.join_subscription("customer")
    run(shared, [new])
    shared.create_exports([new], name=f"TailpipeDataExport-{new[-6:]}-2", kind="Usage")
    finished = run(shared, [new])
    assert action(finished, new).verb is Verb.KEEP
    assert len(shared.exports(new)) == 2


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


def test_later_focus_version_of_a_live_export_is_kept(azurite: Azurite) -> None:
    """A later version is not drift, and the repair of another field keeps it."""
    known = ("1.0", "1.2-preview", "1.3")
    with local_azure(Behavior(focus_versions=known), subscriptions=2, azurite=azurite) as cloud:
        new = cloud.subscription_ids[1]
        run(cloud, EXPORTS="focus")
        cloud.actions._change(new, "", {"definition.dataSet.configuration": {"dataVersion": "1.3"}})
        assert outcome(run(cloud, [new], EXPORTS="focus"), new).action.verb is Verb.KEEP
        cloud.set_schedule_inactive(new)
        assert outcome(run(cloud, [new], EXPORTS="focus"), new).action.verb is Verb.REPAIR
        assert focus_version(cloud, new) == "1.3"
        drop_clients()


@pytest.mark.parametrize("answers", ["documented", "recorded"])
def test_documented_and_recorded_responses_lead_to_the_same_actions(azurite: Azurite, answers: Any) -> None:
    """Recorded responses have ids without a slash, unsorted runs, times with seven decimals, and null values."""
    with local_azure(Behavior(answers=answers), subscriptions=4, azurite=azurite) as cloud:
        lost, failing = cloud.subscription_ids[1:3]
        assert run(cloud).report["scopes"]["covered"] == 4
        cloud.deliver()
        advance(cloud, HOUR)
        cloud.delete_export(lost)
        assert outcome(run(cloud, [lost]), lost).action.verb is Verb.CREATE
        cloud.fail_runs(failing, times=3)
        for _ in range(3):
            advance(cloud, DAY)
            cloud.deliver()
        broken = run(cloud)
        assert outcome(broken, failing).action.reason == "runs-failed"
        cloud.calls.clear()
        advance(cloud, HOUR)
        assert run(cloud).report["scopes"]["covered"] == 4
        advance(cloud, DAY)
        cloud.deliver()
        assert run(cloud).report["scopes"]["delivering"] == 4
        assert cloud.calls.count(WRITE) == 0
        assert cloud.calls.count(READ) > 0
        drop_clients()
