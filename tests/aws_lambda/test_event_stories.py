"""What events bring about, from the change to the repair, in virtual time and without the schedule."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.cloudtrail import deleted_export, instance_changed
from tests.aws_lambda.event_path import EventPath
from tests.aws_lambda.support import EXPORT, Lines, run


def member_of(cloud: LocalAws) -> str:
    """Return a member account."""
    accounts: dict[str, str] = cloud.accounts()
    return next(account for account in accounts if account != cloud.account)


def test_a_deleted_export_is_back_before_the_next_schedule(covered: LocalAws) -> None:
    """The event is collected for a minute; its run recreates the export and reports how long that took."""
    path = EventPath(covered)
    begun = covered.clock.monotonic()
    covered.delete_export(EXPORT)
    path.settle()
    ((at, report),) = path.runs
    assert list(covered.exports()) == [EXPORT]
    assert (report["trigger"], report["status"]) == ("event", "ok")
    assert 60 <= at - begun < 90
    assert 60 <= report["events"]["latency_s"] < 90


def test_the_runs_own_writes_bring_no_second_run(covered: LocalAws) -> None:
    """Healing everything that has an event starts one run, whose own writes start none."""
    path = EventPath(covered)
    covered.delete_export(EXPORT)
    covered.remove_bucket_policy()
    covered.remove_instance(member_of(covered))
    path.settle(covered.clock.monotonic() + 600)
    assert len(path.runs) <= 2  # without the role's credentials, repairing the policy looks like an operator's write
    assert covered.bucket_policy() is not None
    assert list(covered.exports()) == [EXPORT]
    assert member_of(covered) in covered.instances()
    assert path.pending() == 0


def test_a_new_account_is_covered_within_ten_minutes(covered: LocalAws) -> None:
    """The event of a created account names it, and its run gives it the member role."""
    path = EventPath(covered, delay=lambda _event: 180)
    begun = covered.clock.monotonic()
    account = covered.join_account("newcomer")
    path.settle()
    assert account in covered.instances()
    assert path.runs[0][0] - begun <= 600


def test_a_closed_account_is_no_longer_served(covered: LocalAws) -> None:
    """The result of the closure starts a full run, which finds the account closed and everything else well."""
    path = EventPath(covered)
    closed = member_of(covered)
    covered.close_account(closed)
    assert path.pending() == 1  # CloseAccount itself, whose account is not closed yet, starts nothing
    path.settle()
    ((_, report),) = path.runs
    assert (report["trigger"], report["status"], report["enumeration_complete"]) == ("event", "ok", True)
    active = sum(state == "ACTIVE" for state in covered.accounts().values())
    assert (report["scopes"]["active"], report["scopes"]["covered"]) == (active, active)
    assert report["scopes"]["total"] == active + 1


@pytest.mark.parametrize("how", ["lost", "twice", "reversed"])
def test_lost_repeated_and_reordered_events_end_in_the_same_world(covered: LocalAws, how: str) -> None:
    """Whatever becomes of the events, the next scheduled run finds nothing else to do, or does it."""
    path = EventPath(covered)
    faults = {"loss": float(how == "lost"), "copies": 2 if how == "twice" else 1}
    covered.event_faults(**faults, delay_s=float(how == "reversed"))
    covered.delete_export(EXPORT)
    covered.event_faults(**faults)
    covered.remove_instance(member_of(covered))
    covered.advance(1)
    covered.settle_events()
    path.settle(covered.clock.monotonic() + 600)
    assert bool(path.runs) == (how != "lost")
    covered.advance(3600)
    assert run(covered).report["status"] == "ok"
    assert list(covered.exports()) == [EXPORT]
    assert member_of(covered) in covered.instances()


@pytest.mark.slow  # ten thousand events take ten seconds
def test_a_storm_of_ten_thousand_events_is_at_most_one_run_a_minute(covered: LocalAws) -> None:
    """True, forged and unknown events in ten minutes: every true one has its run, and runs are a minute apart."""
    lines = Lines()
    path = EventPath(covered, sink=lines)
    covered.remove_instance(member_of(covered))
    covered.delete_export(EXPORT)
    rng, member = random.Random(1), member_of(covered)
    storm: list[dict[str, Any]] = []
    for _ in range(10_000):
        kind = rng.choice(["export", "member", "forged"])
        event = deleted_export() if kind == "export" else instance_changed("DELETE", member)
        event["account"] = "999999999999" if kind == "forged" else covered.account
        storm.append(event)
    begun = covered.clock.monotonic()
    for event in storm:
        covered.clock.wait_until(covered.clock.monotonic() + 0.06)
        path.put(event)
        path.settle(covered.clock.monotonic())
    path.settle()
    minutes = (covered.clock.monotonic() - begun) / 60
    starts = [at for at, _ in path.runs]
    assert len(starts) <= minutes + 1
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(starts))
    assert path.pending() == 0
    true = sum(report["events"]["count"] for _, report in path.runs)
    assert true == 2 + sum(event["account"] == covered.account for event in storm)
    assert list(covered.exports()) == [EXPORT]
    assert member in covered.instances()
    assert {line[2]["code"] for line in lines.lines if line[1] == "event-refused"} == {"event-of-another-account"}
