"""The health of one account's export, from what a run observed and what is remembered: pure functions."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from gcp_function.resources.export_health import Evidence, ExportHealth
from gcp_function.settings import read_settings
from shared.model import Absent, EscalationPolicy, Health, Observation, Present, Unknown
from shared.target_state import TargetState

NOW = datetime(2026, 12, 20, 12, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
ACCOUNT = "012345-6789AB-CDEF01"
ENABLED = Evidence(dataset_exists=True, granted=True, table_exists=False)
NEVER_ENABLED = Evidence(dataset_exists=True, granted=False, table_exists=False)
WITHOUT_ROWS = Evidence(dataset_exists=True, granted=True, table_exists=True)


def health_of(**settings: str) -> ExportHealth:
    """Return the evaluation with these settings."""
    return ExportHealth(read_settings({"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport", **settings}))


def evaluated(seen: Evidence, entry: TargetState | None = None, kind: str = "standard", **settings: str) -> Observation:
    """Return what is said of an export."""
    return health_of(**settings).evaluate(ACCOUNT, kind, seen, entry, NOW)


def delivered(ages: tuple[float, ...], older: bool = False) -> Evidence:
    """Return the evidence of an export whose rows arrived so many days ago, the newest first."""
    times = [NOW - timedelta(days=age) for age in ages]
    return Evidence(True, True, True, fresh=times[0], arrivals=frozenset(one.date() for one in times), older=older)


def entry(state: str = "", since: timedelta | None = None, **facts: Any) -> TargetState:
    """Return an entry with this state since so long ago, and with these facts."""
    return TargetState(NOW, state=state, since=None if since is None else NOW - since, remembered=facts)


def test_missing_dataset_is_reported_before_anything_else() -> None:
    """A person can enable the export only once the function has created the dataset."""
    seen = evaluated(Evidence(dataset_exists=False, granted=None, table_exists=False))
    assert isinstance(seen, Absent)
    assert (seen.code, seen.proof) == ("dataset-missing", ("get",))
    assert seen.manual_step is not None
    assert "the function creates the dataset" in seen.manual_step.what
    again = evaluated(Evidence(False, None, False), entry("dataset-missing", DAY))
    assert isinstance(again, Absent)
    assert again.detail == f"{seen.detail} (since 2026-12-19 12:00 UTC)"


@pytest.mark.parametrize(
    ("state", "age", "shown"),
    [
        ("console-step", HOUR, " (since 2026-12-20 11:00 UTC)"),
        ("console-step", HOUR - SECOND, ""),
        ("console-step", None, ""),
        ("stale", DAY, ""),
    ],
)
def test_step_says_since_when_it_is_open(state: str, age: timedelta | None, shown: str) -> None:
    """Not in its first hour, and not for the time in which something else was wrong."""
    seen = evaluated(NEVER_ENABLED, entry(state, age))
    assert isinstance(seen, Absent)
    assert seen.detail == f"Google's export has no access entry in dataset billing_export{shown}"
    assert seen.manual_step is not None
    assert seen.manual_step.what.endswith(f"dataset tailpipe-dataexport.billing_export{shown}")


@pytest.mark.parametrize(
    ("seen", "proof", "words"),
    [
        (NEVER_ENABLED, ("access-entries",), "has no access entry"),
        (Evidence(True, True, False, others=True), ("tables",), "other accounts have theirs"),
    ],
)
def test_export_that_was_never_enabled_is_absent(seen: Evidence, proof: tuple[str, ...], words: str) -> None:
    """The access entry of other accounts proves nothing about this one."""
    found = evaluated(seen)
    assert isinstance(found, Absent)
    assert (found.code, found.proof) == ("console-step", proof)
    assert words in found.detail


@pytest.mark.parametrize(
    ("kind", "location", "before"),
    [
        ("standard", "US", datetime(2027, 1, 1, tzinfo=UTC)),
        ("detailed", "eu", datetime(2027, 1, 1, tzinfo=UTC)),
        ("standard", "europe-west3", None),
        ("focus", "US", None),
    ],
)
def test_first_enabling_brings_the_previous_month(kind: str, location: str, before: datetime | None) -> None:
    """Of usage data in the multi-regions only: the step is urgent until the month ends, also in December."""
    found = evaluated(NEVER_ENABLED, kind=kind, DATASET_LOCATION=location)
    assert isinstance(found, Absent)
    assert found.manual_step is not None
    assert found.manual_step.before == before


def test_month_that_a_first_enabling_brings_is_that_before_the_next_one() -> None:
    """In November, it is due before December."""
    seen = health_of().evaluate(ACCOUNT, "standard", NEVER_ENABLED, None, NOW - 30 * DAY)
    assert isinstance(seen, Absent)
    assert seen.manual_step is not None
    assert seen.manual_step.before == datetime(2026, 12, 1, tzinfo=UTC)


def test_access_entries_that_may_not_be_read_say_nothing() -> None:
    """The step to grant the right is reported at once, since waiting does not help."""
    seen = evaluated(Evidence(dataset_exists=True, granted=None, table_exists=False))
    assert isinstance(seen, Unknown)
    assert (seen.code, seen.escalation) == ("rights", EscalationPolicy(tries=0))
    assert seen.manual_step is not None
    assert "Grant bigquery.datasets.getIamPolicy on the dataset" in seen.manual_step.steps[0]
    assert seen.detail == seen.manual_step.what


@pytest.mark.parametrize("seen", [ENABLED, WITHOUT_ROWS, Evidence(True, None, True), Evidence(True, False, True)])
def test_enabled_export_awaits_its_first_rows(seen: Evidence) -> None:
    """A table, or Google's access entry, proves that it is enabled."""
    found = evaluated(seen)
    assert isinstance(found, Present)
    assert (found.health, found.code, found.first_data) == (Health.PENDING, "table-pending", True)
    assert found.facts == {"pending_since": NOW.isoformat()}
    assert found.detail.endswith("since 2026-12-20 12:00 UTC")


@pytest.mark.parametrize(
    ("state", "waited", "code"),
    [
        ("pending", 5 * DAY - SECOND, "table-pending"),
        ("pending", 5 * DAY, "table-overdue"),
        ("table-overdue", 5 * DAY, "table-overdue"),
        ("stale", 9 * DAY, "table-pending"),
    ],
)
def test_first_rows_are_overdue_after_five_days_of_waiting(state: str, waited: timedelta, code: str) -> None:
    """Only waiting counts, and the time at which it began is kept."""
    began = NOW - waited
    found = evaluated(WITHOUT_ROWS, entry(state, pending_since=began.isoformat()))
    assert isinstance(found, Present)
    assert found.code == code
    assert found.facts == {"pending_since": (NOW if state == "stale" else began).isoformat()}
    assert (found.health is Health.MANUAL) is (found.manual_step is not None) is (code == "table-overdue")
    if found.manual_step:
        assert found.manual_step.what == found.detail
        assert (
            f"has written no rows since it was enabled for dataset billing_export on {began:%Y-%m-%d}" in found.detail
        )


def test_wait_without_a_recorded_beginning_begins_now() -> None:
    """A state of an earlier version may lack it."""
    found = evaluated(WITHOUT_ROWS, entry("pending"))
    assert isinstance(found, Present)
    assert found.facts == {"pending_since": NOW.isoformat()}


def test_table_that_is_no_longer_listed_is_lost_once_a_second_read_agrees() -> None:
    """Until then nothing is concluded."""
    known = entry("as-wanted", fresh=(NOW - DAY).isoformat())
    unsure = evaluated(ENABLED, known)
    assert isinstance(unsure, Unknown)
    assert (unsure.code, unsure.manual_step) == ("not-listed", None)
    gone = Evidence(dataset_exists=True, granted=True, table_exists=False, confirmed=True)
    lost = evaluated(gone, known)
    assert isinstance(lost, Absent)
    assert (lost.code, lost.proof) == ("table-lost", ("list", "get"))
    assert lost.detail.endswith("its last rows are from 2026-12-19 12:00 UTC")
    assert lost.manual_step is not None
    assert lost.manual_step.what == lost.detail
    later = evaluated(gone, entry("table-lost", 2 * DAY, fresh=(NOW - DAY).isoformat()))
    assert isinstance(later, Absent)
    assert later.detail == f"{lost.detail} (since 2026-12-18 12:00 UTC)"


@pytest.mark.parametrize(
    ("ages", "older", "limit"),
    [
        ((1,), False, 10 * DAY),
        ((1,), True, 35 * DAY),
        ((1, 4), False, 35 * DAY),
        ((1, 3), False, 3 * DAY),
        ((1, 2), False, 2 * DAY),
        ((1, 4, 7), False, 4.5 * DAY),
    ],
)
def test_rows_are_overdue_by_the_rhythm_of_the_account(ages: tuple[float, ...], older: bool, limit: timedelta) -> None:
    """Two arrivals within two days, or three arrivals, show the rhythm; a single one may be monthly."""
    found = evaluated(delivered(ages, older=older))
    assert isinstance(found, Present)
    assert (found.health, found.silent_after) == (Health.HEALTHY, limit)
    assert found.delivered_at == NOW - DAY
    assert found.facts == {"fresh": (NOW - DAY).isoformat()}


def test_remembered_arrivals_show_the_rhythm_too() -> None:
    """The catalog shows only those of the partitions that exist."""
    remembered = TargetState(NOW, arrivals=(date(2026, 12, 17), date(2026, 12, 18)))
    found = evaluated(delivered((1,)), remembered)
    assert isinstance(found, Present)
    assert found.silent_after == 2 * DAY


@pytest.mark.parametrize(
    ("ages", "code", "words"),
    [
        ((10,), "single-delivery", "delivered on one day, 2026-12-10 UTC, and not since"),
        ((2, 3), "stale", "is stale: its newest rows are from 2026-12-18 12:00 UTC"),
    ],
)
def test_overdue_rows_are_a_manual_step(ages: tuple[float, ...], code: str, words: str) -> None:
    """A single delivery asks whether the account is billed monthly; the limit itself is overdue."""
    found = evaluated(delivered(ages))
    assert isinstance(found, Present)
    assert (found.health, found.code) == (Health.MANUAL, code)
    assert found.detail.endswith(words)
    assert found.manual_step is not None
    assert found.manual_step.what == found.detail
    assert found.delivered_at == NOW - ages[0] * DAY
    assert found.facts == {"fresh": found.delivered_at.isoformat()}
    assert found.silent_after == (10 * DAY if len(ages) == 1 else 2 * DAY)
    again = evaluated(delivered(ages), entry(code, DAY))
    assert isinstance(again, Present)
    assert again.detail == f"{found.detail} (since 2026-12-19 12:00 UTC)"


def test_arriving_rows_end_the_wait() -> None:
    """Otherwise a later wait would seem to have begun long ago."""
    found = evaluated(delivered((0,)), entry("pending", pending_since=NOW.isoformat()))
    assert isinstance(found, Present)
    assert found.facts == {"fresh": NOW.isoformat(), "pending_since": ""}


@pytest.mark.parametrize(("whole", "health"), [(True, Health.MANUAL), (False, Health.WAITING)])
def test_hidden_rows_are_reported_at_once_or_after_a_day(whole: bool, health: Health) -> None:
    """Rows that a query does not return may just have been deleted, unless it returns none."""
    found = health_of().rows_hidden("table", "why", whole)
    assert isinstance(found, Present)
    assert (found.health, found.code, found.escalation) == (health, "rows-hidden", EscalationPolicy(longest=DAY))
    assert found.manual_step is not None
    assert found.detail == found.manual_step.what


def test_unexpected_schema_is_a_manual_step() -> None:
    """Such a table can be neither observed nor copied."""
    found = health_of().unexpected_schema(ACCOUNT, "table", "no export_time")
    assert isinstance(found, Present)
    assert (found.health, found.code) == (Health.MANUAL, "surprising-schema")
    assert found.manual_step is not None
    assert found.detail == found.manual_step.what


def test_account_that_exports_elsewhere_keeps_the_proof_of_its_absence() -> None:
    """Only the step changes: it says what redirecting the export means."""
    seen = evaluated(NEVER_ENABLED)
    assert isinstance(seen, Absent)
    found = health_of().redirected(seen, ACCOUNT, "standard", "other_dataset")
    assert (found.code, found.proof) == ("exports-elsewhere", seen.proof)
    assert found.manual_step is not None
    assert found.detail == found.manual_step.what
    assert "goes to dataset other_dataset of project tailpipe-dataexport" in found.detail
