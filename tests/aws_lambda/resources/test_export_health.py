"""The health of an export, by AWS's status and by what was delivered; no cloud is called but for the executions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from aws_lambda.manual_steps import bucket_retention
from aws_lambda.resources.deliveries import Delivered
from aws_lambda.resources.export_health import (
    EMPTY_TOLERATED,
    FIRST_DELIVERY,
    MOST_REPAIRS,
    REPAIR_SETTLES,
    REPAIRS_COUNT,
    ExportSnapshot,
    HealthEvaluator,
)
from aws_lambda.settings import read_settings
from aws_lambda.targets import DATASETS
from shared.errors import CloudError, Denied
from shared.model import EscalationPolicy, Health, Present
from tests.aws_lambda.support import START

ARN = "arn:aws:bcm-data-exports:us-east-1:111122223333:export/tailpipe-dataexport-1"
SECOND = timedelta(seconds=1)
HARM = ("bucket-retention", bucket_retention("bucket", "7 days"))
DELIVERED = Delivered(at=START - timedelta(hours=1))
Pages = Sequence[Mapping[str, Any]]


def evaluator(pages: Pages | CloudError = (), **bucket: Any) -> HealthEvaluator:
    """Return an evaluator at START; `pages` are those of ListExecutions, or its error."""
    waiting = iter([] if isinstance(pages, CloudError) else pages)

    def calls(_service: str, call: Any, **arguments: Any) -> Any:
        return call(**arguments)

    def list_executions(**arguments: Any) -> Mapping[str, Any]:
        if isinstance(pages, CloudError):
            raise pages
        page = next(waiting, {})
        assert arguments == {"ExportArn": ARN, **({"NextToken": page["at"]} if "at" in page else {})}
        return page

    made: Any = {
        "name": "bucket",
        "harm": None,
        "suspects": [],
        "key": "",
        "statement_missing": False,
        "retention": lambda _facts: (None, {}),
        **bucket,
    }
    clients: Any = SimpleNamespace(exports=SimpleNamespace(list_executions=list_executions))
    settings = read_settings({"AWS_REGION": "us-east-1"}).engine
    clock = SimpleNamespace(now=lambda: START)
    run: Any = SimpleNamespace(clock=clock, settings=settings, calls=calls, log=lambda *_, **__: None)
    return HealthEvaluator(clients, run, SimpleNamespace(**made))  # type: ignore[arg-type]  # the part that is used


def snapshot(status: Mapping[str, Any] | None = None, **facts: Any) -> ExportSnapshot:
    """Return the export as it is by default healthy and old."""
    return ExportSnapshot("daily", ARN, status or {"StatusCode": "HEALTHY"}, DATASETS["cur2"], facts)


def evaluated(seen: ExportSnapshot, delivered: Delivered | None = DELIVERED, **bucket: Any) -> Present:
    """Return the observation."""
    return evaluator(**bucket).evaluate(seen, delivered)


def ago(age: timedelta) -> str:
    """Return a time before START as it is remembered."""
    return (START - age).isoformat()


# --- healthy by its status -----------------------------------------------------------------------


@pytest.mark.parametrize("status", [{"StatusCode": "HEALTHY"}, {"CreatedAt": START.isoformat()}])
def test_export_that_delivers_is_healthy(status: dict[str, Any]) -> None:
    """Without a status, which AWS adds to an export later, deliveries count alone."""
    assert evaluated(snapshot(status)) == Present(delivered_at=DELIVERED.at)


def test_healthy_export_forgets_its_last_repair() -> None:
    """A later incident gets its own repair."""
    assert evaluated(snapshot(repaired_at=ago(timedelta(hours=30)))).facts == {"repaired_at": ""}
    assert evaluated(snapshot(), None) == Present()


@pytest.mark.parametrize(
    ("created", "updated", "delivered", "health", "code"),
    [
        (FIRST_DELIVERY - SECOND, None, None, Health.PENDING, "first-delivery"),
        (FIRST_DELIVERY, None, None, Health.PENDING, "first-delivery-late"),
        (timedelta(days=9), timedelta(hours=47), None, Health.PENDING, "first-delivery-late"),
        (timedelta(hours=48) - SECOND, None, None, Health.PENDING, "first-delivery-late"),
        (timedelta(hours=48), None, None, Health.MANUAL, "nothing-delivered"),
        (timedelta(days=9), None, timedelta(hours=48), Health.MANUAL, "nothing-delivered"),
        (timedelta(days=9), None, timedelta(hours=48) - SECOND, Health.HEALTHY, ""),
        (timedelta(days=9), timedelta(hours=1), timedelta(hours=60), Health.HEALTHY, ""),
        (None, None, None, Health.PENDING, "first-delivery"),
    ],
)
def test_delivery_is_overdue_after_creation_change_or_the_last_one(
    created: timedelta | None,
    updated: timedelta | None,
    delivered: timedelta | None,
    health: Health,
    code: str,
) -> None:
    """Sources: up to 24 hours for the first delivery, and at least one refresh a day, Data Exports User Guide."""
    assert timedelta(hours=24) == FIRST_DELIVERY
    times = {"CreatedAt": created, "LastUpdatedAt": updated}
    status = {name: ago(age) for name, age in times.items() if age is not None}
    at = START - delivered if delivered is not None else None
    seen = evaluated(snapshot({"StatusCode": "HEALTHY", **status}), Delivered(at=at))
    assert (seen.health, seen.code, seen.delivered_at) == (health, code, at)
    assert seen.first_data is (health is Health.PENDING)
    if code == "nothing-delivered":
        assert seen.manual_step is not None
        assert seen.detail == seen.manual_step.what
        since = f"since {at:%Y-%m-%d %H:%M} UTC" if at else "so far"
        assert f"delivered nothing {since}; it was never executed" in seen.detail
        assert ARN in seen.manual_step.steps[0]


@pytest.mark.parametrize(
    ("pages", "result"),
    [
        ([{}], "; it was never executed"),
        (
            [
                {
                    "Executions": [
                        {"ExecutionStatus": {"StatusCode": "OLD", "CreatedAt": ago(timedelta(days=2))}},
                        {"ExecutionStatus": {"StatusCode": "UNDATED"}},
                    ],
                    "NextToken": "t1",
                },
                {"at": "t1", "NextToken": "t2"},
                {
                    "at": "t2",
                    "Executions": [
                        {
                            "ExecutionStatus": {
                                "StatusCode": "QUERY_FAILURE",
                                "StatusReason": "INTERNAL_FAILURE",
                                "CreatedAt": ago(timedelta(days=1)),
                            }
                        }
                    ],
                },
            ],
            "; last execution: QUERY_FAILURE INTERNAL_FAILURE",
        ),
        (Denied("denied", "no"), "; its executions could not be read (denied)"),
    ],
)
def test_overdue_delivery_names_the_newest_execution(pages: Pages | CloudError, result: str) -> None:
    """Of all pages; one that cannot be read does not hide the problem."""
    seen = evaluator(pages).evaluate(snapshot(), Delivered(at=START - timedelta(days=3)))
    assert seen.detail.endswith(result)


# --- contents of the deliveries ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivered", "code", "words"),
    [
        (
            {"missing": ("a", "b", "c", "d")},
            "delivery-incomplete",
            "4 files that manifests list are missing: a, b, c",
        ),
        (
            {"shorter": ("one", "two")},
            "delivery-incomplete",
            "files are smaller than when they were delivered: one; two",
        ),
        ({"unreadable": "no JSON"}, "manifest-unreadable", "its newest manifest cannot be read: no JSON"),
    ],
)
def test_lost_files_are_waited_for_and_then_reported(delivered: dict[str, Any], code: str, words: str) -> None:
    """While a delivery overwrites the previous one, files are missing for a while."""
    seen = evaluated(snapshot(), Delivered(at=DELIVERED.at, **delivered))
    assert (seen.health, seen.code, seen.detail) == (Health.WAITING, code, f"export daily: {words}")
    assert seen.escalation == EscalationPolicy(longest=timedelta(hours=26))
    assert seen.manual_step is not None
    assert seen.manual_step.what == seen.detail
    assert ARN in seen.manual_step.steps[1]
    assert seen.manual_step.url == "https://docs.aws.amazon.com/cur/latest/userguide/dataexports-troubleshooting.html"


@pytest.mark.parametrize(
    ("since", "health"),
    [
        (None, Health.PENDING),
        (EMPTY_TOLERATED - SECOND, Health.PENDING),
        (EMPTY_TOLERATED, Health.MANUAL),
    ],
)
def test_deliveries_without_rows_are_tolerated_for_three_days(since: timedelta | None, health: Health) -> None:
    """A month that has just started may have no costs yet; since when is remembered."""
    facts: dict[str, Any] = {} if since is None else {"empty_since": ago(since)}
    seen = evaluated(snapshot(**facts), Delivered(at=DELIVERED.at, empty=True, compared={"m": "1"}))
    assert (seen.health, seen.code) == (health, "delivery-empty")
    begun = START - (since or timedelta(0))
    assert seen.facts == {"manifests": {"m": "1"}, "empty_since": begun.isoformat()}
    assert f"has delivered no rows since {begun:%Y-%m-%d %H:%M} UTC" in seen.detail
    assert timedelta(days=3) == EMPTY_TOLERATED
    if health is Health.MANUAL:
        assert seen.manual_step is not None
        assert seen.manual_step.what == seen.detail
        assert "If it has costs, open an AWS Support case" in seen.manual_step.steps[1]
    else:
        assert seen.escalation == EscalationPolicy(longest=EMPTY_TOLERATED)


def test_facts_of_a_delivery_are_remembered_when_they_change() -> None:
    """An unchanged state document is not written."""
    delivered = Delivered(at=DELIVERED.at, compared={"m": "1"})
    assert evaluated(snapshot(), delivered).facts == {"manifests": {"m": "1"}, "empty_since": ""}
    assert evaluated(snapshot(manifests={"m": "1"}), delivered).facts == {}
    assert evaluated(snapshot(manifests={"m": "1"}, empty_since=ago(SECOND)), delivered).facts["empty_since"] == ""


def test_earlier_period_that_lost_files_stays_reported_until_a_check_finds_them() -> None:
    """AWS does not deliver it again; a check on another day may be of other periods."""
    before, later = "BILLING_PERIOD=2026-01", "BILLING_PERIOD=2026-02"
    found = Delivered(at=DELIVERED.at, older={later: "two files are missing", before: ""})
    seen = evaluated(snapshot(earlier={before: "gone"}), found)
    assert (seen.health, seen.code) == (Health.MANUAL, "period-incomplete")
    assert seen.facts["earlier"] == {later: "two files are missing"}
    assert seen.facts["earlier_on"] == f"{START:%Y-%m-%d}"
    assert seen.manual_step is not None
    assert seen.detail == seen.manual_step.what
    assert "files of 2026-02 changed after they were delivered" in seen.detail
    assert f"{later}: two files are missing" in seen.detail
    assert "from AWS again: open an AWS Support case" in seen.manual_step.steps[1]
    kept = evaluated(snapshot(**seen.facts))
    assert (kept.health, kept.code) == (Health.MANUAL, "period-incomplete")
    assert "earlier" not in kept.facts
    complete = evaluated(snapshot(**seen.facts), Delivered(at=DELIVERED.at, older={later: ""}))
    assert (complete.health, complete.facts["earlier"]) == (Health.HEALTHY, {})


# --- unhealthy by its status ---------------------------------------------------------------------

PERMISSION = {"StatusCode": "UNHEALTHY", "StatusReason": "INSUFFICIENT_PERMISSION"}


@pytest.mark.parametrize(
    ("reason", "health", "words"),
    [
        ("INSUFFICIENT_PERMISSION", Health.BROKEN, ""),
        ("ACCESS_DENIED", Health.BROKEN, ""),
        ("BUCKET_MISSING", Health.BROKEN, ""),
        ("KMS_DISABLED", Health.BROKEN, ""),
        ("BAD_KEY", Health.BROKEN, ""),
        ("NO_PERMISSIONS", Health.BROKEN, ""),
        ("SCHEMA_CHANGED", Health.BROKEN, ""),
        ("UNKNOWN_COLUMN", Health.BROKEN, ""),
        ("INVALID_COLUMNS", Health.BROKEN, ""),
        ("INVALID_QUERY", Health.BROKEN, ""),
        ("BILL_OWNER_CHANGED", Health.MANUAL, "belongs to a former management account"),
        ("PAYER_CHANGED", Health.MANUAL, "belongs to a former management account"),
        ("TABLE_RETIRED", Health.MANUAL, "uses a table or feature that AWS has retired"),
        ("FEATURE_DEPRECATED", Health.MANUAL, "uses a table or feature that AWS has retired"),
        ("TOO_LARGE", Health.MANUAL, "exceeds the size that AWS delivers"),
        ("SIZE_EXCEEDED", Health.MANUAL, "exceeds the size that AWS delivers"),
        ("ROW_LIMIT", Health.MANUAL, "exceeds the size that AWS delivers"),
        ("INTERNAL_FAILURE", Health.WAITING, ""),
        ("", Health.WAITING, ""),
    ],
)
def test_unhealthy_export_is_judged_by_the_words_of_its_reason(reason: str, health: Health, words: str) -> None:
    """AWS adds reasons without notice; one repair is tried where it may help, and an unknown reason is waited for."""
    seen = evaluated(snapshot({"StatusCode": "UNHEALTHY", "StatusReason": reason}))
    assert (seen.health, seen.delivered_at) == (health, DELIVERED.at)
    assert seen.code == f"unhealthy-{(reason or 'no reason given').lower().replace('_', '-').replace(' ', '-')}"
    assert f"AWS reports UNHEALTHY: {reason or 'no reason given'}" in seen.detail
    assert words in seen.detail
    if health is Health.MANUAL:
        assert seen.manual_step is not None
        assert seen.detail == seen.manual_step.what
        assert ARN in " ".join(seen.manual_step.steps)
    if health is Health.WAITING:
        assert seen.escalation == EscalationPolicy(tries=3)
        assert seen.manual_step is not None
        assert seen.manual_step.what.startswith("export daily repeatedly fails inside AWS")
        assert seen.manual_step.what.endswith("; it was never executed")
        assert seen.detail.endswith("; it was never executed")


def test_unhealthy_export_whose_deliveries_are_not_listed_has_no_delivery() -> None:
    """When it last delivered is not known."""
    assert evaluated(snapshot(PERMISSION), None).delivered_at is None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (PERMISSION, "INSUFFICIENT_PERMISSION"),
        ({"StatusCode": "UNHEALTHY", "StatusReason": "INVALID_QUERY"}, "selects columns that its table no longer has"),
    ],
)
def test_repair_has_a_refresh_to_take_effect_and_is_then_a_manual_step(status: dict[str, Any], words: str) -> None:
    """The same repair twice would not help, unless the bucket's statement is missing again."""
    waits = evaluated(snapshot(status, repaired_at=ago(REPAIR_SETTLES - SECOND)))
    assert waits.health is Health.WAITING
    repaired = START - REPAIR_SETTLES + SECOND
    assert waits.detail.endswith(
        f"; repaired {repaired:%Y-%m-%d %H:%M} UTC; the next refresh shows whether that helped"
    )
    assert timedelta(hours=26) == REPAIR_SETTLES
    manual = evaluated(snapshot(status, repaired_at=ago(REPAIR_SETTLES)))
    assert manual.health is Health.MANUAL
    assert manual.manual_step is not None
    assert manual.detail == manual.manual_step.what
    assert words in manual.detail
    again = evaluated(snapshot(status, repaired_at=ago(SECOND)), statement_missing=True)
    assert again.health is (Health.BROKEN if status is PERMISSION else Health.WAITING)


# --- surroundings --------------------------------------------------------------------------------


def surrounded(
    observation: Present,
    *drifted: str,
    facts: Mapping[str, Any] | None = None,
    unread: CloudError | None = None,
    **bucket: Any,
) -> Present:
    """Return the observation with what surrounds the export."""
    return evaluator(**bucket).with_surroundings(snapshot(**(facts or {})), observation, drifted, unread)


@pytest.mark.parametrize(
    ("ages", "kept"),
    [
        ((), 0),
        ((SECOND,), 1),
        ((REPAIRS_COUNT, SECOND), 1),
        ((4 * SECOND, 3 * SECOND, 2 * SECOND, SECOND), MOST_REPAIRS),
    ],
)
def test_repairs_of_the_last_day_count(ages: Sequence[timedelta], kept: int) -> None:
    """The newest three, oldest first; damaged facts count as none."""
    known = [ago(age) for age in ages]
    assert evaluator().repairs({"repairs": known}) == known[len(known) - kept :]
    assert (3, timedelta(days=1)) == (MOST_REPAIRS, REPAIRS_COUNT)
    assert evaluator().repairs({"repairs": "damaged"}) == evaluator().repairs({"repairs": ["damaged"]}) == []


def test_export_that_is_changed_back_each_time_is_contested() -> None:
    """Another tool or person manages it; with fewer repairs, the drift is repaired first."""
    repairs = [ago(SECOND * number) for number in range(MOST_REPAIRS, 0, -1)]
    seen = surrounded(Present(), "columns", facts={"repairs": repairs}, harm=HARM)
    assert (seen.health, seen.code) == (Health.MANUAL, "export-contested")
    assert seen.manual_step is not None
    assert seen.detail == seen.manual_step.what
    assert surrounded(Present(), "columns", facts={"repairs": repairs[1:]}, harm=HARM) == Present()
    assert surrounded(Present(), facts={"repairs": repairs}) == Present()


@pytest.mark.parametrize("health", [Health.HEALTHY, Health.PENDING])
def test_harm_to_the_bucket_is_reported_of_an_export_without_own_problems(health: Health) -> None:
    """A rule that expires files comes before a default retention, and both before an unread listing."""
    seen = surrounded(Present(health=health), harm=HARM, unread=Denied("denied", "no"))
    assert (seen.health, seen.code, seen.manual_step) == (Health.MANUAL, *HARM)
    retained = surrounded(Present(health=health), retention=lambda _: (HARM, {"retention": "7"}))
    assert (retained.health, retained.code, retained.facts) == (Health.MANUAL, HARM[0], {"retention": "7"})
    broken = Present(health=Health.BROKEN, code="unhealthy")
    assert surrounded(broken, harm=HARM) == broken


def test_deliveries_that_may_not_be_listed_are_reported_after_three_runs() -> None:
    """The export itself is healthy by AWS's status."""
    seen = surrounded(Present(), unread=Denied("denied", "may not list", "Grant it."))
    assert (seen.health, seen.code, seen.escalation) == (
        Health.WAITING,
        "deliveries-unread",
        EscalationPolicy(tries=3),
    )
    assert seen.manual_step is not None
    assert seen.detail == seen.manual_step.what
    assert "may not list" in seen.detail
