"""What a run does when nothing has to be done, what it costs, and what it plans."""

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
    """A deployed project is covered by one run; the next one finds everything as wanted."""
    first = run(gcp)
    assert first.report["status"] == "ok"
    assert first.report["scopes"]["covered"] == 3
    assert verbs(first)["CREATE"] == 18
    gcp.advance(HOUR)
    second = run(gcp)
    assert set(verbs(second)) == {"KEEP", "SKIP"}


def test_steady_state_makes_ten_calls_beyond_the_pages() -> None:
    """However many accounts there are, only the pages of accounts, copies and tables grow."""
    with local_gcp(accounts=4, done=3, history_days=38, rows=1) as cloud:
        for _ in range(3):
            run(cloud)
            cloud.advance(HOUR)
        cloud.clear_calls()
        assert run(cloud).report["status"] == "ok"
        calls = cloud.calls.by_method()
        beyond = sum(number for method, number in calls.items() if method not in PAGES) - 1  # a page of tables
        assert beyond <= 10, calls
        assert calls["storage.objects.list"] <= 5, calls


def test_a_long_history_costs_no_page_of_the_listing() -> None:
    """Three years of copies are one history's business a run: the window's listing does not see them."""
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
        assert counts[1] - counts[0] == 400 // 50, "the one history that this run looks at"


def test_dry_run_plans_the_same_and_writes_nothing(gcp: LocalGcp) -> None:
    """A dry run has the real run's plan and hash, and changes nothing, not even the state."""
    planned = run(gcp, dry_run=True)
    assert set(gcp.calls.by_method()) <= {
        "bigquery.datasets.get", "bigquery.datasets.list", "bigquery.jobs.query", "cloudbilling.billingAccounts.list",
        "cloudbilling.projects.getBillingInfo",
        "cloudresourcemanager.projects.get", "serviceusage.services.batchGet", "storage.buckets.get",
        "storage.objects.get", "storage.objects.list",
    }  # fmt: skip
    assert gcp.objects("tailpipe-state-tailpipe-dataexport") == []
    assert planned.report["plan_hash"] == run(gcp).report["plan_hash"]


def test_a_lost_state_costs_calls_and_nothing_else(covered: LocalGcp) -> None:
    """Manifests tell what they are copies of: without memory nothing is copied again, and no watermark asked."""
    covered.delete_objects("tailpipe-state-tailpipe-dataexport")
    assert set(verbs(run(covered))) == {"KEEP", "SKIP"}
    # The tables of all kinds together, and the newest prices.
    assert covered.calls.count("bigquery.jobs.query") == 2


def test_the_function_needs_no_right_beyond_its_deployments(covered: LocalGcp) -> None:
    """Every permission that a run with copies, repairs and deletes asks for is one that the deployment gives."""
    for _ in range(3):
        covered.late_data(accounts(covered)[0], day_of(1))
        covered.advance(HOUR)
        run(covered)
    assert covered.calls.permissions() <= covered.deployment.permissions()


def test_an_account_that_appears_is_taken_in(covered: LocalGcp) -> None:
    """A new account is asked for its console step, and copied as soon as it has data."""
    new = covered.add_account("new")
    assert "is not enabled for dataset" in messages(run(covered))
    covered.console_step(new)
    covered.stream(days=1, rows=2, accounts=[new])
    covered.advance(HOUR)
    finished = run(covered)
    assert finished.report["manual"] == []
    assert [name for name in covered.copies(f"{new}/") if name.endswith("manifest.json")]


def test_thirty_five_thousand_copies_are_planned_in_little_time() -> None:
    """Targets and plan of 500 accounts with two kinds and 35 days take seconds neither of time nor of patience."""
    settings = read_settings({"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"})
    scopes = [Scope(f"{number:06X}-000000-000000", traits={"standing": "account"}) for number in range(500)]
    began = time.process_time()
    targets = targets_of(Enumeration("projects/x", tuple(scopes)), settings, START.date())
    kept = Present()
    plan = make_plan(targets, {one.id: one for one in scopes}, {one.key: kept for one in targets}, START)
    assert len(plan.actions) == 500 * (4 + 2 + 70)
    assert plan.writes() == []
    # Ten times what it takes: only a plan that grows with the square of its size would be caught here.
    assert time.process_time() - began < 5
