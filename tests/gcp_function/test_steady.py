"""The steady state: what a run writes, calls and plans when nothing has changed."""

from __future__ import annotations

import time
from datetime import timedelta

from gcp_function.settings import read_settings
from gcp_function.targets import targets_of
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from shared.model import Enumeration, Present, Scope
from shared.plan import make_plan
from tests.gcp_function.support import HOUR, START, accounts, day_of, local_gcp, messages, run, verbs

PAGES = {"cloudbilling.billingAccounts.list", "storage.objects.list"}


def test_first_run_covers_everything_and_the_second_writes_nothing(gcp: LocalGcp) -> None:
    """One run covers a newly deployed project; the next run keeps everything."""
    first = run(gcp)
    assert first.report["status"] == "ok"
    assert first.report["scopes"]["covered"] == 3
    assert verbs(first)["CREATE"] == 18
    gcp.advance(HOUR)
    second = run(gcp)
    assert set(verbs(second)) == {"KEEP", "SKIP"}


def test_steady_state_makes_at_most_ten_calls_besides_pages() -> None:
    """Only the pages of accounts, copies and tables grow with the number of accounts."""
    with local_gcp(accounts=4, done=3, history_days=6, rows=1) as cloud:
        for _ in range(3):
            run(cloud)
            cloud.advance(HOUR)
        cloud.clear_calls()
        assert run(cloud).report["status"] == "ok"
        calls = cloud.calls.by_method()
        beyond = sum(number for method, number in calls.items() if method not in PAGES) - 1  # a page of tables
        assert beyond <= 10, calls
        assert calls["storage.objects.list"] <= 5, calls


def test_long_history_adds_no_page_to_the_listing_of_the_window() -> None:
    """Of three years of copies, a run lists only the one history that it verifies."""
    with local_gcp(accounts=4, done=4, history_days=4, rows=1, behavior=Behavior(page_size=50)) as cloud:
        for _ in range(3):
            run(cloud, COPY_DAYS="3")
            cloud.advance(HOUR)
        counts = []
        for _ in range(2):
            cloud.clear_calls()
            assert run(cloud, COPY_DAYS="3").report["status"] == "ok"
            counts.append(cloud.calls.count("storage.objects.list"))
            now = START - timedelta(days=100)
            for account in accounts(cloud):
                for age in range(400):
                    day = (now - timedelta(days=age)).date().isoformat()
                    cloud.put_object(f"{account}/{day}/standard/manifest.json", "{}")
                    cloud.put_object(f"{account}/{day}/detailed/manifest.json", "{}")
        assert counts[1] - counts[0] == 400 // 50, "only the history that this run verifies"


def test_dry_run_has_the_same_plan_and_writes_nothing(gcp: LocalGcp) -> None:
    """The plan hash equals that of the real run, and not even the state is saved."""
    planned = run(gcp, dry_run=True)
    assert set(gcp.calls.by_method()) <= {
        "bigquery.datasets.get", "bigquery.datasets.list", "bigquery.jobs.query", "cloudbilling.billingAccounts.list",
        "cloudbilling.projects.getBillingInfo",
        "cloudresourcemanager.projects.get", "serviceusage.services.batchGet", "storage.buckets.get",
        "storage.objects.get", "storage.objects.list",
    }  # fmt: skip
    assert gcp.objects("tailpipe-state-tailpipe-dataexport") == []
    assert planned.report["plan_hash"] == run(gcp).report["plan_hash"]


def test_run_without_state_copies_nothing_again(covered: LocalGcp) -> None:
    """The manifests identify what they are copies of, so no copy and no watermark query is repeated."""
    covered.delete_objects("tailpipe-state-tailpipe-dataexport")
    assert set(verbs(run(covered))) == {"KEEP", "SKIP"}
    # One query for the tables of all kinds, and one for the newest prices.
    assert covered.calls.count("bigquery.jobs.query") == 2


def test_run_needs_only_the_deployed_permissions(covered: LocalGcp) -> None:
    """Runs with copies, repairs and deletions use only permissions that the deployment grants."""
    for _ in range(3):
        covered.late_data(accounts(covered)[0], day_of(1))
        covered.advance(HOUR)
        run(covered)
    assert covered.calls.permissions() <= covered.deployment.permissions()


def test_new_account_gets_a_manual_step_and_then_copies(covered: LocalGcp) -> None:
    """The run reports the console step, and copies the data as soon as it arrives."""
    new = covered.add_account("new")
    assert "is not enabled for dataset" in messages(run(covered))
    covered.console_step(new)
    covered.stream(days=1, rows=2, accounts=[new])
    covered.advance(HOUR)
    finished = run(covered)
    assert finished.report["manual"] == []
    assert [name for name in covered.copies(f"{new}/") if name.endswith("manifest.json")]


def test_thirty_five_thousand_copies_are_planned_within_five_seconds() -> None:
    """Targets and plan for 500 accounts, two copied kinds and 35 days."""
    settings = read_settings({"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"})
    scopes = [Scope(f"{number:06X}-000000-000000", traits={"standing": "account"}) for number in range(500)]
    began = time.process_time()
    targets = targets_of(Enumeration("projects/x", tuple(scopes)), settings, START.date())
    kept = Present()
    plan = make_plan(targets, {one.id: one for one in scopes}, {one.key: kept for one in targets}, START)
    assert len(plan.actions) == 500 * (4 + 2 + 70)
    assert plan.writes() == []
    # Ten times the measured time: this detects only quadratic growth.
    assert time.process_time() - began < 5
