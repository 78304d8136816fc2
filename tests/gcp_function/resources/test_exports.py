"""Exports: enabling one is a manual step, which the run detects, explains, dates and closes."""

from __future__ import annotations

import pytest

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from shared.model import Result, Verb
from tests.gcp_function.support import DAY, HOUR, Lines, accounts, action, day_of, local_gcp, messages, outcome, run

ONLY = {"EXPORTS": "standard", "COPY": "standard"}


def test_export_goes_from_manual_to_pending_to_healthy() -> None:
    """Each stage closes the one before: console step, enabled without data, data arrives."""
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


def test_console_step_names_link_project_dataset_and_export(gcp: LocalGcp) -> None:
    """The step is in the report, and in the log at WARNING."""
    gcp.add_account("new")
    lines = Lines()
    finished = run(gcp, sink=lines)
    new = accounts(gcp)[-1]
    steps = {one["what"]: one for one in finished.report["manual"]}
    (step,) = [one for what, one in steps.items() if "Detailed usage cost" in what]
    assert step["scope"] == new
    assert step["url"] == f"https://console.cloud.google.com/billing/{new}/export/bigquery"
    text = " ".join(step["steps"])
    assert "Project: tailpipe-dataexport. Dataset: billing_export." in text
    warned = [fields for level, event, fields in lines.lines if (level, event) == ("warning", "manual-step")]
    assert {one["scope"] for one in warned} == {new}
    assert finished.report["status"] == "ok"


def test_step_open_for_a_day_shows_when_it_began(gcp: LocalGcp) -> None:
    """The step has the time of the first run that reported it."""
    gcp.add_account("new")
    run(gcp)
    gcp.advance(DAY)
    gcp.stream(days=1, rows=2)
    assert "(since 2026-11-23 09:00 UTC)" in messages(run(gcp))


def test_enabled_export_without_rows_becomes_manual_after_five_days() -> None:
    """The export stays pending for five days after Google's access entry appears."""
    behavior = Behavior(table_delay_s=30 * DAY)
    with local_gcp(accounts=1, done=1, history_days=0, behavior=behavior, kinds=("standard",)) as cloud:
        for day in range(7):
            finished = run(cloud, environment=ONLY)
            expected = Verb.KEEP if day < 5 else Verb.MANUAL
            assert action(finished, "export").verb is expected, day
            cloud.advance(DAY)


def test_missing_kind_is_reported_and_the_others_are_copied(gcp: LocalGcp) -> None:
    """With only the standard export enabled, it is copied, and the step asks for the detailed export."""
    new = gcp.add_account("half")
    gcp.console_step(new, ["standard", "pricing"])
    gcp.stream(days=1, rows=3, accounts=[new])
    finished = run(gcp)
    assert action(finished, "export", new, "detailed").reason == "console-step"
    assert action(finished, "export", new, "standard").verb is Verb.KEEP
    assert outcome(finished, "copy", new, f"standard/{day_of()}").result is Result.DONE


def test_denied_read_of_access_entries_is_not_a_missing_export(gcp: LocalGcp) -> None:
    """Without bigquery.datasets.getIamPolicy, the run reports the permission instead of the console step."""
    new = gcp.add_account("new")
    gcp.deny("bigquery.datasets.getIamPolicy")
    finished = run(gcp)
    assert action(finished, "export", new, "standard").reason == "rights"
    assert "bigquery.datasets.getIamPolicy" in messages(finished)
    assert "is not enabled for dataset" not in messages(finished)
    assert action(finished, "export", accounts(gcp)[0], "standard").verb is Verb.KEEP
    gcp.allow("bigquery.datasets.getIamPolicy")
    assert action(run(gcp), "export", new, "standard").reason == "console-step"


def test_stale_table_is_reported_until_new_rows_arrive(covered: LocalGcp) -> None:
    """After 48 hours without a newer export_time, the step shows the last one; new rows close it."""
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


def test_table_without_rows_in_the_window_is_stale_and_not_pending() -> None:
    """A first run does not mistake a table with months-old rows for a new one."""
    with local_gcp(accounts=1, done=1, history_days=3) as cloud:
        cloud.advance(60 * DAY)
        finished = run(cloud)
        assert action(finished, "export", name="standard").reason == "stale"
        assert action(finished, "export", name="detailed").reason == "stale"


def test_staleness_is_detected_without_copies(gcp: LocalGcp) -> None:
    """With copies off, the run queries only tables that were written since."""
    account = accounts(gcp)[0]
    assert action(run(gcp, COPY="off"), "export", account, "standard").verb is Verb.KEEP
    gcp.clear_calls()
    assert action(run(gcp, COPY="off"), "export", account, "standard").verb is Verb.KEEP
    assert gcp.calls.count("bigquery.jobs.query") == 1
    gcp.advance(49 * HOUR)
    assert action(run(gcp, COPY="off"), "export", account, "standard").reason == "stale"
    assert gcp.copies() == []


def test_lost_table_is_confirmed_by_a_second_read(covered: LocalGcp) -> None:
    """A known table is reported as lost only if a different read agrees."""
    account = accounts(covered)[0]
    covered.delete_table(account, "standard")
    finished = run(covered)
    assert action(finished, "export", account, "standard").reason == "table-lost"
    assert covered.calls.count("bigquery.tables.get") == 1
    assert "its last rows are from" in messages(finished)


def test_pricing_is_expected_only_from_the_account_that_pays_for_the_project(gcp: LocalGcp) -> None:
    """Google exports pricing only for that account; for the others it never applies."""
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


def test_pricing_is_expected_from_the_new_account_after_a_billing_change(gcp: LocalGcp) -> None:
    """The change applies from the next run on."""
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
def test_access_entry_proves_only_the_kinds_of_its_writer(enabled: str, pending: str, missing: str) -> None:
    """Different Google principals write usage and pricing."""
    behavior = Behavior(table_delay_s=DAY)
    with local_gcp(accounts=1, done=0, history_days=0, behavior=behavior) as cloud:
        cloud.console_step(accounts(cloud)[0], [enabled])
        finished = run(cloud, EXPORTS="standard,pricing", COPY="off")
        assert action(finished, "export", name=pending).reason == "pending"
        assert action(finished, "export", name=missing).reason == "console-step"


def test_stale_pricing_export_names_the_pricing_writer(gcp: LocalGcp) -> None:
    """The step names the access entry of the stale kind."""
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
def test_console_step_names_the_roles_and_the_missing_backfill(kind: str, words: tuple[str, ...]) -> None:
    """The step lists the required roles, and says that redirecting an export backfills nothing."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud:
        text = messages(run(cloud, EXPORTS=kind, COPY="off"))
        for one in (*words, "redirects it, without a backfill", "first enabled"):
            assert one in text


def test_focus_is_expected_only_where_it_is_enabled(gcp: LocalGcp) -> None:
    """An account with FOCUS data is observed for it; for the others it is skipped."""
    first, second, _ = accounts(gcp)
    gcp.console_step(first, ["focus"])
    gcp.stream(days=1, rows=2, accounts=[first], kinds=["focus"])
    finished = run(gcp)
    assert action(finished, "export", first, "focus").verb is Verb.KEEP
    assert action(finished, "export", second, "focus").verb is Verb.SKIP


def test_table_with_another_schema_is_reported_and_the_others_are_copied(covered: LocalGcp) -> None:
    """A table without export_time can be neither observed nor copied."""
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


def test_added_column_is_copied(covered: LocalGcp) -> None:
    """Google adds columns over time; no setting has to change."""
    account = accounts(covered)[0]
    covered.add_column(account, "brand_new")
    covered.late_data(account, day_of(1))
    assert outcome(run(covered), "copy", account, f"standard/{day_of(1)}").result is Result.DONE
