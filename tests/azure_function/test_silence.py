"""Data that stops, comes empty or goes away: told within days, each with its cure, against the local Azure."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.model import Result, Verb
from shared.reconcile import RunResult
from tests.azure_function.support import DAY, HOUR, WRITE, Lines, advance, local_azure, messages, outcome, run

pytestmark = pytest.mark.long


def days_of(cloud: LocalAzure, days: int, **settings: Any) -> RunResult:
    """Let so many days pass, each with a delivery and a run; return the last run."""
    runs = []
    for _ in range(days):
        advance(cloud, DAY)
        cloud.deliver()
        runs.append(run(cloud, **settings))
    return runs[-1]


@pytest.mark.parametrize("status", ["EA to MCA", "DataNotAvailable"])
def test_data_that_stops_behind_good_runs_is_told_within_a_week(covered: LocalAzure, status: str) -> None:
    """After an agreement changed, runs end well and bring nothing: the step is told, and cured by a new export."""
    stopped, *others = covered.subscription_ids
    days_of(covered, 2)
    if status == "EA to MCA":
        covered.migrate_agreement(stopped, "mca")
    else:
        covered.stop_data(stopped, status)
    assert outcome(days_of(covered, 3), stopped).result is Result.UNCHANGED
    told = days_of(covered, 3)
    assert (outcome(told, stopped).result, outcome(told, stopped).code) == (Result.MANUAL, "data-stopped")
    deletion = f"delete --name TailpipeDataExport-{stopped[-6:]} --scope subscriptions/{stopped}"
    assert f"Delete the export (az costmanagement export {deletion})" in messages(told)
    assert told.report["scopes"]["covered"] == len(others)
    assert told.report["deliveries"]["late"] == 1
    covered.delete_export(stopped)
    assert outcome(run(covered), stopped).action.verb is Verb.CREATE
    healed = days_of(covered, 2)
    assert healed.report["scopes"]["covered"] == healed.report["scopes"]["delivering"] == len(others) + 1


@pytest.mark.parametrize("shape", ["header", "null", "no-blobs"])
def test_deliveries_without_rows_are_no_deliveries(
    azurite: Azurite, shape: Literal["header", "null", "no-blobs"]
) -> None:
    """Files of a header alone and manifests without files are told; null counts alone are no proof of emptiness."""
    with local_azure(subscriptions=3, azurite=azurite) as cloud:
        first, second, _ = cloud.subscription_ids
        run(cloud)
        cloud.deliver()
        advance(cloud, HOUR)
        assert run(cloud).report["scopes"]["delivering"] == 3
        cloud.empty_data(second, shape)
        last = days_of(cloud, 7)
        assert outcome(last, first).result is Result.UNCHANGED
        if shape == "null":
            assert outcome(last, second).result is Result.UNCHANGED
            return
        assert (outcome(last, second).result, outcome(last, second).code) == (Result.MANUAL, "data-stopped")
        assert last.report["scopes"]["delivering"] == 2
        cloud.resume_data(second)
        back = days_of(cloud, 1)
        assert outcome(back, second).result is Result.UNCHANGED
        assert back.report["scopes"]["covered"] == back.report["scopes"]["delivering"] == 3


def test_a_subscription_that_never_had_rows_is_excluded_with_the_reason(azure: LocalAzure) -> None:
    """Where there is nothing to export nobody is asked, and nothing is called covered; the first rows end it."""
    idle = azure.subscription_ids[2]
    run(azure)
    azure.empty_data(idle)
    finished = days_of(azure, 7)
    assert (outcome(finished, idle).result, outcome(finished, idle).code) == (Result.EXCLUDED, "no-cost-rows")
    assert finished.report["excluded"] == [{"reason": "no-cost-rows", "count": 1, "examples": [idle]}]
    assert finished.report["manual"] == []
    azure.set_schedule_inactive(idle)
    advance(azure, 3 * DAY)
    assert outcome(run(azure), idle).action.verb is Verb.REPAIR, "what was changed is repaired all the same"
    azure.resume_data(idle)
    assert outcome(days_of(azure, 2), idle).result is Result.UNCHANGED


def test_a_delivery_that_lacks_files_is_made_again_and_then_told(covered: LocalAzure) -> None:
    """One execution brings a whole delivery; where files are lost again and again, a person hears it."""
    lost = covered.subscription_ids[1]
    days_of(covered, 1)
    covered.lose_parts(lost)
    advance(covered, HOUR)
    before = covered.exports(lost)[0]["properties"]["runHistory"]["value"][0]["name"]
    # What was read once is not read again: the next delivery shows the loss.
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


def test_a_manifest_is_read_once_and_within_the_budget(covered: LocalAzure) -> None:
    """A day's deliveries cost two storage calls each, in the run after them and in no other."""
    days_of(covered, 1)
    covered.calls.clear()
    quiet = run(covered)
    advance(covered, DAY)
    covered.deliver()
    busy, bounded = run(covered, CALL_BUDGET="2"), run(covered, CALL_BUDGET="2")
    storage = [one.report["calls"]["storage"] for one in (quiet, busy, bounded)]
    assert [storage[1] - storage[0], storage[2] - storage[0]] == [4, 4]


@pytest.mark.parametrize(("by", "words"), [("policy", "immutability policy"), ("legal-hold", "legal hold")])
def test_a_container_whose_blobs_are_held_is_told(
    covered: LocalAzure, by: Literal["policy", "legal-hold"], words: str
) -> None:
    """Exports replace their files every day: what forbids it is in the container's own document."""
    home = covered.subscription_ids[0]
    covered.hold_container(by)
    finished = run(covered)
    container = outcome(finished, home, "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-immutable")
    assert words in messages(finished)
    assert finished.report["scopes"]["covered"] == 0, "everything rests on the destination"
    covered.hold_container("")
    assert run(covered).report["scopes"]["covered"] == 6


@pytest.mark.parametrize(
    ("days", "prefix", "told"),
    [(7, "", True), (61, "dataexport/", True), (7, "dataexport/tailpipe/subscriptions/", True),
     (62, "", False), (7, "other/", False)],
)  # fmt: skip
def test_a_lifecycle_rule_that_takes_exports_away_is_told(
    covered: LocalAzure, days: float, prefix: str, told: bool
) -> None:
    """A rule that reaches our folder within two months loses data; any other is the customer's own business."""
    covered.expire_blobs(days, prefix=prefix)
    finished = run(covered)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.code == "destination-expires") is told
    assert (f"rule expire deletes blobs after {days} days" in messages(finished)) is told


def test_deliveries_in_the_archive_tier_are_told_from_the_listing(covered: LocalAzure) -> None:
    """What has to be read cannot be: the step names a blob and the command; once they are back, or old, it ends."""
    archived = covered.subscription_ids[1]
    blobs = covered.archive_blobs(archived)
    covered.calls.clear()
    finished = run(covered)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-archived")
    assert f"{blobs} blobs" in messages(finished)
    assert f"tailpipe/subscriptions/{archived}/" in messages(finished)
    assert "az storage blob set-tier" in messages(finished)
    told, _ = finished.report["calls"], covered.archive_blobs(archived, "Hot")
    quiet = run(covered)
    assert quiet.report["scopes"]["covered"] == 6
    assert quiet.report["calls"] == told, "the listing that a run makes in any case shows it"


def test_old_deliveries_may_lie_in_the_archive_tier(covered: LocalAzure) -> None:
    """The deployment's own rule archives them after more than a year: only this month and the last one count."""
    covered.archive_blobs(covered.subscription_ids[1])
    for _ in range(9):
        advance(covered, 7 * DAY)
        covered.deliver()
    finished = days_of(covered, 2)
    assert outcome(finished, covered.subscription_ids[0], "container").result is Result.UNCHANGED


def test_rules_that_may_not_be_read_stop_nothing(covered: LocalAzure) -> None:
    """An older deployment lacks the right to read them: its runs go on as before."""
    covered.hold_container("policy")
    for action in ("managementPolicies/read", "blobServices/containers/read"):
        covered.deny(f"Microsoft.Storage/storageAccounts/{action}", covered.principal)
    lines = Lines()
    assert run(covered, sink=lines).report["scopes"]["covered"] == 6
    skipped = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert len(skipped) == 2, "what is not known is logged"
    assert {one["code"] for one in skipped} == {"rights-missing"}
