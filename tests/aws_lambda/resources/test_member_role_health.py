"""Each status of a stack instance maps to a health of the member role."""

from __future__ import annotations

import pytest

from aws_lambda.resources.member_role_health import RoleHealthEvaluator
from aws_lambda.settings import read_settings
from aws_lambda.targets import MEMBER_ROLE
from shared.model import Health, Key, Present, Target
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
