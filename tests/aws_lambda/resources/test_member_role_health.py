"""Each status of a stack instance maps to a health of the member role."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aws_lambda.resources.member_role_health import RoleHealthEvaluator
from aws_lambda.settings import read_settings
from aws_lambda.targets import MEMBER_ROLE
from shared.model import EscalationPolicy, Health, Key, Present, Target
from shared.target_state import TargetState
from tests.aws_lambda.support import START


def health_of(reason: str, *states: tuple[str, str]) -> Present:
    """Return the observation of a role whose instances have these states."""
    settings = read_settings({"AWS_REGION": "eu-west-1"})
    target = Target(Key("210000000000", MEMBER_ROLE.name, settings.member_role), MEMBER_ROLE)
    instances = [
        {"Status": status, "StackInstanceStatus": {"DetailedStatus": detailed}, "StatusReason": reason, "Region": "r"}
        for status, detailed in states
    ]
    return RoleHealthEvaluator(settings, START, lambda _operation: False).evaluate(target, instances)


@pytest.mark.parametrize(
    ("status", "detailed", "health"),
    [
        ("CURRENT", "SUCCEEDED", Health.HEALTHY),
        ("CURRENT", "", Health.HEALTHY),
        ("OUTDATED", "PENDING", Health.PENDING),
        ("OUTDATED", "RUNNING", Health.PENDING),
        ("OUTDATED", "SUCCEEDED", Health.BROKEN),
        ("OUTDATED", "", Health.BROKEN),
        ("OUTDATED", "FAILED", Health.BROKEN),
        ("OUTDATED", "CANCELLED", Health.BROKEN),
        ("INOPERABLE", "INOPERABLE", Health.MANUAL),
        ("OUTDATED", "FAILED_IMPORT", Health.MANUAL),
        ("OUTDATED", "SKIPPED_SUSPENDED_ACCOUNT", Health.BROKEN),
    ],
)
def test_each_instance_status_has_a_health(status: str, detailed: str, health: Health) -> None:
    """Running instances are pending; INOPERABLE and FAILED_IMPORT ones need a person.

    The function repairs failed, canceled, outdated and skipped ones; only active accounts are evaluated.
    """
    assert health_of("Cancelled since failure tolerance has exceeded", (status, detailed)).health is health


def test_one_healthy_instance_is_enough_for_an_account() -> None:
    """The role is global: an instance in a second region fails because the first one created the role."""
    seen = health_of("Role tailpipe-child-connector already exists", ("OUTDATED", "FAILED"), ("CURRENT", "SUCCEEDED"))
    assert seen.health is Health.HEALTHY


# --- by what is remembered -----------------------------------------------------------------------

SECOND = timedelta(seconds=1)
FAILED = {"StackInstanceStatus": {"DetailedStatus": "FAILED"}, "Status": "OUTDATED", "LastOperationId": "op-2"}
ROLE = "tailpipe-child-connector"


def seen_of(
    instance: dict[str, Any],
    state: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    *,
    ended: bool = False,
    requested: bool = False,
) -> Present:
    """Return the observation of a role with one instance; without `state` and `facts`, nothing is remembered."""
    settings = read_settings({"AWS_REGION": "eu-west-1"})
    known = TargetState(at=START, remembered=facts, **(state or {})) if state or facts else None
    target = Target(Key("210000000000", MEMBER_ROLE.name, ROLE), MEMBER_ROLE, state=known)
    evaluator = RoleHealthEvaluator(settings, START, lambda operation: ended and operation == "op-2")
    return evaluator.evaluate(target, [instance], **({"requested": True} if requested else {}))


def test_canceled_operation_counts_as_a_failed_one() -> None:
    """StackSets cancels the rest of an operation once too many accounts failed."""
    seen = seen_of({**FAILED, "StackInstanceStatus": {"DetailedStatus": "CANCELLED"}})
    assert (seen.health, seen.code) == (Health.BROKEN, "instance-cancelled")
    assert seen.facts == {"failures": 1, "failed_operation": "op-2"}


@pytest.mark.parametrize(
    ("failures", "operation", "counted", "health"),
    [
        (0, "", 1, Health.BROKEN),
        (1, "op-1", 2, Health.BROKEN),
        (1, "op-2", 1, Health.BROKEN),
        (2, "op-1", 3, Health.MANUAL),
        (3, "op-1", 3, Health.MANUAL),
        (3, "op-2", 3, Health.MANUAL),
        (4, "op-2", 0, Health.BROKEN),
        (-1, "op-2", 0, Health.BROKEN),
        ("damaged", "op-2", 0, Health.BROKEN),
    ],
)
def test_failed_instance_is_repaired_a_few_times(failures: Any, operation: str, counted: int, health: Health) -> None:
    """Each operation counts once, however often it is seen; damaged facts count as none."""
    facts = {"failures": failures, "failed_operation": operation}
    seen = seen_of(FAILED, {"applied_at": START - timedelta(hours=1)}, facts)
    assert (seen.health, seen.code) == (health, "instance-failed")
    assert seen.facts == {"failures": counted, "failed_operation": "op-2"}
    assert (seen.manual_step is not None) is (health is Health.MANUAL)


@pytest.mark.parametrize(
    ("applied", "since", "requested", "health"),
    [
        (timedelta(hours=24) - SECOND, timedelta(days=9), False, Health.MANUAL),
        (timedelta(hours=24), SECOND, False, Health.BROKEN),
        (None, timedelta(hours=24) - SECOND, False, Health.MANUAL),
        (None, timedelta(hours=24), False, Health.BROKEN),
        (None, None, False, Health.MANUAL),
        (SECOND, None, True, Health.BROKEN),
    ],
)
def test_instance_that_keeps_failing_is_repaired_once_a_day_or_on_request(
    applied: timedelta | None, since: timedelta | None, requested: bool, health: Health
) -> None:
    """So that a fix by a person takes effect."""
    times = {"applied_at": applied, "since": since}
    state = {name: START - age for name, age in times.items() if age is not None}
    facts = {"failures": 3, "failed_operation": "op-2"}
    assert seen_of(FAILED, state, facts, requested=requested).health is health


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (f"Role {ROLE} already exists", "member-role-foreign"),
        (f"Role {ROLE} ALREADY EXISTS", "member-role-foreign"),
        ("Role other already exists", ""),
        (f"Role {ROLE} failed", ""),
        (
            "is not authorized to perform iam:CreateRole with an explicit deny in a service control policy",
            "denied-by-scp",
        ),
    ],
)
def test_failure_that_a_retry_cannot_fix_is_reported_at_once(reason: str, code: str) -> None:
    """A role of another owner, and a policy that denies the creation."""
    seen = seen_of({**FAILED, "StatusReason": reason})
    assert seen.health is (Health.MANUAL if code else Health.BROKEN)
    if code:
        assert seen.code == code
        assert seen.manual_step is not None


@pytest.mark.parametrize(
    ("applied", "health"),
    [
        (None, Health.BROKEN),
        (timedelta(hours=6) - SECOND, Health.WAITING),
        (timedelta(hours=6), Health.BROKEN),
    ],
)
def test_reopened_account_is_updated_and_then_waited_for(applied: timedelta | None, health: Health) -> None:
    """StackSets skips it until its instance is updated."""
    instance = {"Status": "OUTDATED", "StackInstanceStatus": {"DetailedStatus": "SKIPPED_SUSPENDED_ACCOUNT"}}
    state = {} if applied is None else {"applied_at": START - applied}
    seen = seen_of(instance, state)
    assert (seen.health, seen.code) == (health, "instance-skipped-suspended-account")


@pytest.mark.parametrize("detailed", ["PENDING", "RUNNING"])
@pytest.mark.parametrize(
    ("operation", "ended", "state", "stranded"),
    [
        ("op-2", False, {}, False),
        ("op-2", True, {}, True),
        ("op-3", True, {}, False),
        ("", False, {}, False),
        ("", True, {"state": "pending", "since": START - timedelta(hours=1) + SECOND}, False),
        ("", False, {"state": "pending", "since": START - timedelta(hours=1)}, True),
        ("", False, {"state": "drift", "since": START - timedelta(days=1)}, False),
    ],
)
def test_instance_of_an_operation_that_ended_is_stranded(
    detailed: str, operation: str, ended: bool, state: dict[str, Any], stranded: bool
) -> None:
    """Without an operation's id, the time that a creation takes decides."""
    instance = {"StackInstanceStatus": {"DetailedStatus": detailed}, "LastOperationId": operation}
    seen = seen_of(instance, state, ended=ended)
    if stranded:
        assert (seen.health, seen.code) == (Health.BROKEN, "instance-stranded")
    else:
        assert (seen.health, seen.code) == (Health.PENDING, f"instance-{detailed.lower()}")
        assert seen.escalation == EscalationPolicy(longest=timedelta(hours=24))


def test_drifted_instance_is_a_manual_step() -> None:
    """Someone changed the role: only a person knows why."""
    seen = seen_of({"Status": "CURRENT", "DriftStatus": "DRIFTED", "Region": "eu-west-1"})
    assert (seen.health, seen.code) == (Health.MANUAL, "instance-drifted")
    assert seen.manual_step is not None
    assert seen.detail == seen.manual_step.what
    assert "--regions eu-west-1 " in seen.manual_step.steps[0]
    assert seen_of({"Status": "CURRENT", "DriftStatus": "IN_SYNC"}) == Present()
    outdated = seen_of({"Status": "OUTDATED"})
    assert (outdated.health, outdated.code) == (Health.BROKEN, "instance-outdated")


def test_healthy_role_forgets_its_failures() -> None:
    """A later incident gets all its retries."""
    current = {"Status": "CURRENT"}
    assert seen_of(current, None, {"failures": 2, "failed_operation": "op-1"}) == Present(
        facts={"failures": 0, "failed_operation": ""}
    )
    assert seen_of(current, None, {"operation": "op-1"}) == Present()


@pytest.mark.parametrize(
    "instance", [{"Status": "INOPERABLE"}, {"StackInstanceStatus": {"DetailedStatus": "INOPERABLE"}}]
)
def test_inoperable_instance_names_its_reason(instance: dict[str, Any]) -> None:
    """A person has to delete it."""
    seen = seen_of({**instance, "StatusReason": "x" * 400, "Region": "eu-west-1"})
    assert (seen.health, seen.code) == (Health.MANUAL, "instance-inoperable")
    assert seen.detail == f"{'x' * 300}… (100 more characters)"
    assert seen.manual_step is not None
    assert "--regions eu-west-1 " in seen.manual_step.steps[0]
