"""What exports depend on: storage account, container, and provider registration."""

from __future__ import annotations

import pytest

from azure_function.resources.deliveries import Deliveries
from azure_function.resources.other_exports import LISTED_A_RUN
from localcloud.azure.cloud import LocalAzure
from shared.errors import Denied
from shared.model import Result, Unknown, Verb
from tests.azure_function.support import (
    HOUR,
    READ,
    WRITE,
    action,
    advance,
    destination_of,
    local_azure,
    messages,
    outcome,
    run,
)


def test_deleted_container_is_recreated_before_its_exports(azure: LocalAzure) -> None:
    """Container and exports are created in one run."""
    azure.delete_container()
    finished = run(azure)
    home = azure.subscription_ids[0]
    assert outcome(finished, home, "container").result is Result.DONE
    assert finished.report["scopes"]["covered"] == 6


def test_missing_storage_account_is_reported_with_its_setting(azure: LocalAzure) -> None:
    """No export is created without a destination; the manual step names DESTINATION."""
    wrong = azure.destinations[0].id.replace("tailpipedataexport", "tailpipenowhere")
    finished = run(azure, DESTINATION=wrong)
    assert outcome(finished, azure.subscription_ids[0], "container").result is Result.MANUAL
    assert "DESTINATION" in messages(finished)
    assert azure.exports() == []


def test_account_that_disallows_key_access_requires_exports_with_an_identity(azure: LocalAzure) -> None:
    """The account's properties show it before any export is written."""
    azure.set_shared_key(False)
    finished = run(azure)
    assert "EXPORT_IDENTITY=system" in messages(finished)
    assert azure.calls.count("Microsoft.CostManagement/exports/write") == 0


def test_closed_network_of_the_account_is_reported(azure: LocalAzure) -> None:
    """The account's properties show it before any export is written."""
    azure.set_firewall(True)
    finished = run(azure)
    assert finished.report["scopes"]["covered"] == 0
    assert "its network is closed" in messages(finished)
    assert azure.calls.count(WRITE) == 0


def test_limit_of_role_assignments_is_reported_and_blocks_only_new_exports() -> None:
    """The manual step is to add another storage account."""
    with local_azure(subscriptions=3, identity_exports=True) as cloud:
        cloud.fill_role_assignments(cloud.destinations[0].subscription, left=1)
        finished = run(cloud)
        assert len(cloud.exports()) == 1
        assert "4,000" in messages(finished)


def test_second_storage_account_gets_only_new_exports() -> None:
    """New subscriptions are spread over both accounts. Existing exports stay, even without the state."""
    with local_azure(subscriptions=12, storage_accounts=2) as cloud:
        one, two = (account.id for account in cloud.destinations)
        run(cloud, DESTINATION=one)
        cloud.deliver()
        advance(cloud, HOUR)
        before = {export["id"]: destination_of(export["properties"])["resourceId"] for export in cloud.exports()}
        assert set(before.values()) == {one}
        with cloud.blob_client(cloud.host_account.name) as client:
            client.get_blob_client("tailpipe-state", "known_subscriptions.json").delete_blob()
        new = [cloud.join_subscription(f"new-{number}") for number in range(12)]
        cloud.calls.clear()
        finished = run(cloud, DESTINATION=f"{one},{two}")
        assert finished.report["status"] == "ok", finished.report["failures"]
        after = {export["id"]: destination_of(export["properties"])["resourceId"] for export in cloud.exports()}
        assert {key: after[key] for key in before} == before
        spread = {destination_of(cloud.exports(own)[0]["properties"])["resourceId"] for own in new}
        assert spread == {one, two}
        assert cloud.calls.count(READ) <= 12 + 2 + LISTED_A_RUN


def test_failed_listing_makes_the_container_unknown(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every export is read, and none is written before the container has been seen."""
    azure.create_exports(azure.subscription_ids[:3])
    for one in azure.subscription_ids[:3]:
        azure.actions._change(one, "", {"partitionData": True})

    def refused(*_: object) -> None:
        raise Denied("rights-missing", "no right to list blobs")

    monkeypatch.setattr(Deliveries, "_page", refused)
    finished = run(azure)
    home = azure.subscription_ids[0]
    assert isinstance(action(finished, home, "container").observation, Unknown)
    assert azure.calls.count(READ) == 6
    assert azure.calls.count(WRITE) == 0
    verbs = [action(finished, one).verb for one in azure.subscription_ids]
    assert verbs[:3] == [Verb.KEEP] * 3
    assert set(verbs[3:]) <= {Verb.DEFER, Verb.BLOCK}, "no export is written while its container is unknown"
