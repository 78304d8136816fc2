"""The console step: seen, explained, dated, and closed by itself."""

from __future__ import annotations

import pytest

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from shared.model import Result, Verb
from tests.gcp_function.support import DAY, HOUR, Lines, accounts, action, day_of, local_gcp, messages, outcome, run

ONLY = {"EXPORTS": "standard", "COPY": "standard"}


def test_the_ladder_from_nothing_to_healthy() -> None:
    """One account goes up every rung: no step, step done and pending, healthy; each closes by itself."""
    with local_gcp(accounts=1, done=0, history_days=0, behavior=Behavior(table_delay_s=6 * HOUR)) as cloud:
        (account,) = accounts(cloud)
        first = run(cloud, environment=ONLY)
        assert action(first, "export").reason == "console-step"
        cloud.console_step(account, ["standard"])
        pending = run(cloud, environment=ONLY)
        assert outcome(pending, "export").result is Result.PENDING
        assert pending.report["status"] == "ok"
        cloud.advance(7 * HOUR)
        assert outcome(run(cloud, environment=ONLY), "export").result is Result.PENDING
        cloud.stream(days=1, rows=3)
        healthy = run(cloud, environment=ONLY)
        assert outcome(healthy, "export").result is Result.UNCHANGED
        assert healthy.report["manual"] == []
        assert healthy.report["scopes"]["covered"] == 1


def test_the_step_names_everything_a_person_needs(gcp: LocalGcp) -> None:
    """Link to the account's export page, project, dataset and switch are in the report, and in the log at WARNING."""
    gcp.add_account("new")
    lines = Lines()
    finished = run(gcp, sink=lines)
    new = accounts(gcp)[-1]
    steps = {one["what"]: one for one in finished.report["manual"]}
    (told,) = [one for what, one in steps.items() if "Detailed usage cost" in what]
    assert told["scope"] == new
    assert told["url"] == f"https://console.cloud.google.com/billing/{new}/export/bigquery"
    text = " ".join(told["steps"])
    assert "Project: tailpipe-dataexport. Dataset: billing_export." in text
    warned = [fields for level, event, fields in lines.lines if (level, event) == ("warning", "manual-step")]
    assert {one["scope"] for one in warned} == {new}
    assert finished.report["status"] == "ok"


def test_it_says_since_when_it_has_been_asking(gcp: LocalGcp) -> None:
    """A step that is still open after a day says since when."""
    gcp.add_account("new")
    run(gcp)
    gcp.advance(DAY)
    gcp.stream(days=1, rows=2)
    assert "(since 2026-11-23 09:00 UTC)" in messages(run(gcp))


def test_pending_becomes_a_step_after_five_days() -> None:
    """Without rows for five days after Google was admitted, a person is asked; not a day before."""
    behavior = Behavior(table_delay_s=30 * DAY)
    with local_gcp(accounts=1, done=1, history_days=0, behavior=behavior, kinds=("standard",)) as cloud:
        for day in range(7):
            finished = run(cloud, environment=ONLY)
            expected = Verb.KEEP if day < 5 else Verb.MANUAL
            assert action(finished, "export").verb is expected, day
            cloud.advance(DAY)


def test_one_missing_kind_is_asked_for_and_the_others_go_on(gcp: LocalGcp) -> None:
    """Where only the standard export is on, its copies are made and the step for the detailed one is asked for."""
    new = gcp.add_account("half")
    gcp.console_step(new, ["standard", "pricing"])
    gcp.stream(days=1, rows=3, accounts=[new])
    finished = run(gcp)
    assert action(finished, "export", new, "detailed").reason == "console-step"
    assert action(finished, "export", new, "standard").verb is Verb.KEEP
    assert outcome(finished, "copy", new, f"standard/{day_of()}").result is Result.DONE


def test_entries_that_may_not_be_read_are_unknown_and_never_not_done(gcp: LocalGcp) -> None:
    """Without bigquery.datasets.getIamPolicy nobody is sent to the console: the missing right is named."""
    new = gcp.add_account("new")
    gcp.deny("bigquery.datasets.getIamPolicy")
    finished = run(gcp)
    assert action(finished, "export", new, "standard").reason == "rights"
    assert "bigquery.datasets.getIamPolicy" in messages(finished)
    assert "is not enabled for dataset" not in messages(finished)
    assert action(finished, "export", accounts(gcp)[0], "standard").verb is Verb.KEEP
    gcp.allow("bigquery.datasets.getIamPolicy")
    assert action(run(gcp), "export", new, "standard").reason == "console-step"


def test_a_stale_table_is_a_persons_business_until_rows_come_again(covered: LocalGcp) -> None:
    """No new export_time for 48 hours: the step is shown with the last moment; new rows close it."""
    account = accounts(covered)[0]
    covered.advance(47 * HOUR)
    for other in accounts(covered)[1:]:
        covered.late_data(other, day_of(), "standard")
    assert action(run(covered), "export", account, "standard").verb is Verb.KEEP
    covered.advance(2 * HOUR)
    stale = run(covered)
    assert action(stale, "export", account, "standard").reason == "stale"
    assert "its newest rows are from 2026-11-23 09:00 UTC" in messages(stale)
    assert action(stale, "export", accounts(covered)[1], "standard").verb is Verb.KEEP
    covered.stream(days=1, rows=2)
    assert action(run(covered), "export", account, "standard").verb is Verb.KEEP


def test_a_table_stale_for_longer_than_the_window_is_stale_and_not_pending() -> None:
    """A cold start over a table whose last rows are months old does not take it for a new one."""
    with local_gcp(accounts=1, done=1, history_days=3) as cloud:
        cloud.advance(60 * DAY)
        finished = run(cloud)
        assert action(finished, "export", name="standard").reason == "stale"
        assert action(finished, "export", name="detailed").reason == "stale"


def test_freshness_is_watched_where_nothing_is_copied(gcp: LocalGcp) -> None:
    """With copies switched off exports still get healthy and stale, asking only tables that were written."""
    account = accounts(gcp)[0]
    assert action(run(gcp, COPY="off"), "export", account, "standard").verb is Verb.KEEP
    gcp.clear_calls()
    assert action(run(gcp, COPY="off"), "export", account, "standard").verb is Verb.KEEP
    assert gcp.calls.count("bigquery.jobs.query") == 1
    gcp.advance(49 * HOUR)
    assert action(run(gcp, COPY="off"), "export", account, "standard").reason == "stale"
    assert gcp.copies() == []


def test_a_lost_table_is_confirmed_twice_before_it_is_called_lost(covered: LocalGcp) -> None:
    """A table that was there is reported as lost only when a second, other read agrees."""
    account = accounts(covered)[0]
    covered.delete_table(account, "standard")
    finished = run(covered)
    assert action(finished, "export", account, "standard").reason == "table-lost"
    assert covered.calls.count("bigquery.tables.get") == 1
    assert "its last rows are from" in messages(finished)


def test_prices_are_wanted_of_the_paying_account_only(gcp: LocalGcp) -> None:
    """Google exports prices of the account that pays for the project: for the others they do not apply, for ever."""
    payer, *others = accounts(gcp)
    for day in range(15):
        gcp.advance(DAY)
        gcp.stream(days=1, rows=2)
        finished = run(gcp, EXPORTS="standard,pricing", COPY="off")
        assert not [one for one in finished.outcomes if one.key.kind == "copy"]
        assert action(finished, "export", payer, "pricing").verb is Verb.KEEP, day
        assert {action(finished, "export", one, "pricing").reason for one in others} == {"not-the-payer"}
        assert finished.report["manual"] == []
        assert finished.report["scopes"]["covered"] == finished.report["scopes"]["active"]


def test_prices_follow_the_account_that_pays(gcp: LocalGcp) -> None:
    """When another account pays for the project, its prices are wanted from the next run on."""
    first, second, _ = accounts(gcp)
    gcp.link_billing(second)
    finished = run(gcp, EXPORTS="pricing", COPY="off")
    assert action(finished, "export", first, "pricing").reason == "not-the-payer"
    assert action(finished, "export", second, "pricing").reason == "console-step"
    gcp.stream(days=1, rows=2)
    assert action(run(gcp, EXPORTS="pricing", COPY="off"), "export", second, "pricing").verb is Verb.KEEP


@pytest.mark.parametrize(
    ("enabled", "pending", "missing"), [("pricing", "pricing", "standard"), ("standard", "standard", "pricing")]
)
def test_each_writer_of_google_tells_of_its_own_kind(enabled: str, pending: str, missing: str) -> None:
    """Usage and prices are written by different principals: the entry of one proves nothing for the other."""
    behavior = Behavior(table_delay_s=DAY)
    with local_gcp(accounts=1, done=0, history_days=0, behavior=behavior) as cloud:
        cloud.console_step(accounts(cloud)[0], [enabled])
        finished = run(cloud, EXPORTS="standard,pricing", COPY="off")
        assert action(finished, "export", name=pending).reason == "pending"
        assert action(finished, "export", name=missing).reason == "console-step"


def test_a_stale_export_of_prices_names_its_own_writer(gcp: LocalGcp) -> None:
    """The step says whose access entry to look for: that of the kind which is stale."""
    run(gcp, EXPORTS="pricing", COPY="off")
    gcp.advance(3 * DAY)
    assert "cloud-account-pricing@cloud-account-pricing.iam.gserviceaccount.com" in messages(
        run(gcp, EXPORTS="pricing", COPY="off")
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("standard", ("Billing Account Costs Manager", "BigQuery User")),
        ("pricing", ("Billing Account Administrator", "BigQuery Admin", "resourcemanager.projects.update")),
    ],
)
def test_the_step_names_the_roles_and_what_redirecting_costs(kind: str, words: tuple[str, ...]) -> None:
    """Whoever takes the step knows beforehand which roles it needs, and that editing brings no back data."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud:
        told = messages(run(cloud, EXPORTS=kind, COPY="off"))
        for one in (*words, "redirects it, without a backfill", "first enabled"):
            assert one in told


def test_focus_is_watched_where_its_linked_dataset_is(gcp: LocalGcp) -> None:
    """An account that shares FOCUS data is watched for it; the others are not asked to."""
    first, second, _ = accounts(gcp)
    gcp.console_step(first, ["focus"])
    gcp.stream(days=1, rows=2, accounts=[first], kinds=["focus"])
    finished = run(gcp)
    assert action(finished, "export", first, "focus").verb is Verb.KEEP
    assert action(finished, "export", second, "focus").verb is Verb.SKIP


def test_a_table_of_another_shape_is_named_and_spoils_no_other(covered: LocalGcp) -> None:
    """Without export_time a table can be neither watched nor copied: that is said, and the others go on."""
    first, second, _ = accounts(covered)
    covered.rename_column(first, "export_time", "exported")
    covered.late_data(second, day_of(1), "standard")
    covered.late_data(first, day_of(1), "detailed")
    covered.world.warehouse.query("SELECT 1")
    table = covered.world.exports.enabled[first, "standard"]
    assert table.table.startswith("gcp_billing_export_v1_")
    covered.late_data(first, day_of(1), "standard")
    finished = run(covered)
    assert action(finished, "export", first, "standard").reason == "surprising-schema"
    assert action(finished, "copy", first, f"standard/{day_of(1)}").verb is Verb.SKIP
    assert outcome(finished, "copy", second, f"standard/{day_of(1)}").result is Result.DONE
    assert outcome(finished, "copy", first, f"detailed/{day_of(1)}").result is Result.DONE


def test_an_added_column_is_copied_like_the_others(covered: LocalGcp) -> None:
    """Google adds columns from time to time: nothing has to be told to the function."""
    account = accounts(covered)[0]
    covered.add_column(account, "brand_new")
    covered.late_data(account, day_of(1))
    assert outcome(run(covered), "copy", account, f"standard/{day_of(1)}").result is Result.DONE
