"""What the deliveries of a run prove about its exports, with as few calls as possible."""

from __future__ import annotations

from typing import Literal

import pytest

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.model import Result
from tests.azure_function.support import (
    DAY,
    HOUR,
    READ,
    WRITE,
    advance,
    local_azure,
    outcome,
    run,
    run_daily,
    verbs,
)


@pytest.mark.parametrize("shape", ["header", "null", "no-blobs"])
def test_deliveries_without_rows_do_not_count_as_data(
    azurite: Azurite, shape: Literal["header", "null", "no-blobs"]
) -> None:
    """Files with only a header, and manifests without files, count as empty. A null row count alone proves nothing."""
    with local_azure(subscriptions=3, azurite=azurite) as cloud:
        first, second, _ = cloud.subscription_ids
        run(cloud)
        cloud.deliver()
        advance(cloud, HOUR)
        assert run(cloud).report["scopes"]["delivering"] == 3
        cloud.empty_data(second, shape)
        last = run_daily(cloud, 7)
        assert outcome(last, first).result is Result.UNCHANGED
        if shape == "null":
            assert outcome(last, second).result is Result.UNCHANGED
            return
        assert (outcome(last, second).result, outcome(last, second).code) == (Result.MANUAL, "data-stopped")
        assert last.report["scopes"]["delivering"] == 2
        cloud.resume_data(second)
        back = run_daily(cloud, 1)
        assert outcome(back, second).result is Result.UNCHANGED
        assert back.report["scopes"]["covered"] == back.report["scopes"]["delivering"] == 3


def test_incomplete_delivery_is_executed_again(covered: LocalAzure) -> None:
    """One execution produces a complete delivery."""
    lost = covered.subscription_ids[1]
    run_daily(covered, 1)
    covered.lose_parts(lost)
    advance(covered, HOUR)
    before = covered.exports(lost)[0]["properties"]["runHistory"]["value"][0]["name"]
    # A manifest is read once, so only the next delivery reveals the loss.
    covered.deliver([lost])
    covered.lose_parts(lost)
    advance(covered, HOUR)
    finished = run(covered)
    assert outcome(finished, lost).action.reason == "delivery-incomplete"
    assert "is missing" in outcome(finished, lost).action.detail
    after = covered.exports(lost)[0]["properties"]["runHistory"]["value"][0]
    assert (after["properties"]["executionType"], after["name"] != before) == ("OnDemand", True)
    advance(covered, HOUR)
    assert run(covered).report["scopes"]["covered"] == 6
    assert covered.calls.count(WRITE) == 0


def test_manifest_is_read_once_and_within_the_call_budget(covered: LocalAzure) -> None:
    """Each delivery of a day takes two storage calls, only in the first run after it."""
    run_daily(covered, 1)
    covered.calls.clear()
    quiet = run(covered)
    advance(covered, DAY)
    covered.deliver()
    busy, bounded = run(covered, CALL_BUDGET="2"), run(covered, CALL_BUDGET="2")
    storage = [one.report["calls"]["storage"] for one in (quiet, busy, bounded)]
    assert [storage[1] - storage[0], storage[2] - storage[0]] == [4, 4]


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
