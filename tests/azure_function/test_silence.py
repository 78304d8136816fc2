"""Data that stops, is empty or disappears is reported within days, each case with its remedy."""

from __future__ import annotations

from typing import Literal

import pytest

from localcloud.azure.cloud import LocalAzure
from shared.model import Result, Verb
from tests.azure_function.support import DAY, Lines, advance, messages, outcome, run, run_daily

pytestmark = pytest.mark.long


@pytest.mark.parametrize("status", ["EA to MCA", "DataNotAvailable"])
def test_stopped_data_is_reported_within_a_week_although_runs_succeed(covered: LocalAzure, status: str) -> None:
    """After a change of agreement, runs of the export succeed without data.

    The manual step is to delete the export, which the next run then recreates.
    """
    stopped, *others = covered.subscription_ids
    run_daily(covered, 2)
    if status == "EA to MCA":
        covered.migrate_agreement(stopped, "mca")
    else:
        covered.stop_data(stopped, status)
    assert outcome(run_daily(covered, 3), stopped).result is Result.UNCHANGED
    late = run_daily(covered, 3)
    assert (outcome(late, stopped).result, outcome(late, stopped).code) == (Result.MANUAL, "data-stopped")
    deletion = f"delete --name TailpipeDataExport-{stopped[-6:]} --scope subscriptions/{stopped}"
    assert f"Delete the export (az costmanagement export {deletion})" in messages(late)
    assert late.report["scopes"]["covered"] == len(others)
    assert late.report["deliveries"]["late"] == 1
    covered.delete_export(stopped)
    assert outcome(run(covered), stopped).action.verb is Verb.CREATE
    recovered = run_daily(covered, 2)
    assert recovered.report["scopes"]["covered"] == recovered.report["scopes"]["delivering"] == len(others) + 1


def test_subscription_that_never_had_rows_is_excluded_until_the_first_ones(azure: LocalAzure) -> None:
    """It is neither a manual step nor covered; its first rows end the exclusion."""
    idle = azure.subscription_ids[2]
    run(azure)
    azure.empty_data(idle)
    finished = run_daily(azure, 7)
    assert (outcome(finished, idle).result, outcome(finished, idle).code) == (Result.EXCLUDED, "no-cost-rows")
    assert finished.report["excluded"] == [{"reason": "no-cost-rows", "count": 1, "examples": [idle]}]
    assert finished.report["manual"] == []
    azure.set_schedule_inactive(idle)
    advance(azure, 3 * DAY)
    assert outcome(run(azure), idle).action.verb is Verb.REPAIR, "an excluded export is still repaired"
    azure.resume_data(idle)
    assert outcome(run_daily(azure, 2), idle).result is Result.UNCHANGED


@pytest.mark.parametrize(("by", "words"), [("policy", "immutability policy"), ("legal-hold", "legal hold")])
def test_immutable_container_is_reported(covered: LocalAzure, by: Literal["policy", "legal-hold"], words: str) -> None:
    """Exports overwrite their files daily, which an immutability policy or a legal hold forbids."""
    home = covered.subscription_ids[0]
    covered.hold_container(by)
    finished = run(covered)
    container = outcome(finished, home, "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-immutable")
    assert words in messages(finished)
    assert finished.report["scopes"]["covered"] == 0, "every export depends on the destination"
    covered.hold_container("")
    assert run(covered).report["scopes"]["covered"] == 6


@pytest.mark.parametrize(
    ("days", "prefix", "reported"),
    [(7, "", True), (61, "dataexport/", True), (7, "dataexport/tailpipe/subscriptions/", True),
     (62, "", False), (7, "other/", False)],
)  # fmt: skip
def test_lifecycle_rule_is_reported_if_it_deletes_recent_exports(
    covered: LocalAzure, days: float, prefix: str, reported: bool
) -> None:
    """A rule that deletes blobs in our folder within two months loses data. Any other rule is ignored."""
    covered.expire_blobs(days, prefix=prefix)
    finished = run(covered)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.code == "destination-expires") is reported
    assert (f"rule expire deletes blobs after {days} days" in messages(finished)) is reported


def test_archived_deliveries_are_reported_without_additional_calls(covered: LocalAzure) -> None:
    """The manual step has the name of a blob and the command to rehydrate it, and disappears with the cause."""
    archived = covered.subscription_ids[1]
    blobs = covered.archive_blobs(archived)
    covered.calls.clear()
    finished = run(covered)
    container = outcome(finished, covered.subscription_ids[0], "container")
    assert (container.result, container.code) == (Result.MANUAL, "destination-archived")
    assert f"{blobs} blobs" in messages(finished)
    assert f"tailpipe/subscriptions/{archived}/" in messages(finished)
    assert "az storage blob set-tier" in messages(finished)
    calls = finished.report["calls"]
    covered.archive_blobs(archived, "Hot")
    quiet = run(covered)
    assert quiet.report["scopes"]["covered"] == 6
    assert quiet.report["calls"] == calls, "the listing that every run makes is enough"


def test_archived_deliveries_of_old_months_are_ignored(covered: LocalAzure) -> None:
    """The deployment archives blobs after more than a year; only this month and the last one must be readable."""
    covered.archive_blobs(covered.subscription_ids[1])
    for _ in range(9):
        advance(covered, 7 * DAY)
        covered.deliver()
    finished = run_daily(covered, 2)
    assert outcome(finished, covered.subscription_ids[0], "container").result is Result.UNCHANGED


def test_unreadable_lifecycle_rules_and_containers_do_not_stop_the_run(covered: LocalAzure) -> None:
    """Older deployments do not have the permission to read them."""
    covered.hold_container("policy")
    for action in ("managementPolicies/read", "blobServices/containers/read"):
        covered.deny(f"Microsoft.Storage/storageAccounts/{action}", covered.principal)
    lines = Lines()
    assert run(covered, sink=lines).report["scopes"]["covered"] == 6
    skipped = [fields for _, event, fields in lines.lines if event == "detail-unread"]
    assert len(skipped) == 2, "each unreadable detail is logged"
    assert {one["code"] for one in skipped} == {"rights-missing"}
