"""Verification on AWS: no finding for a working deployment, and exactly one for each kind of damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.deployment.model import Finding
from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import run
from tests.cli.support.aws import FUNCTION, account, at, sign_in
from tests.localcloud.aws.iam.sessions import document

CONNECTOR = "tailpipe-connector-role"


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAws]:
    """Return a deployment in an organization of three accounts, after one run of the function."""
    with account(accounts=3) as cloud:
        assert run(cloud).report["status"] == "ok"
        yield cloud


@pytest.fixture
def aws(lasting: LocalAws, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return the shared deployment, signed in, and restore it after the test."""
    sign_in(lasting, monkeypatch)
    found = lasting.client("scheduler").get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    yield lasting
    lasting.clear_faults()
    restore(lasting, {name: found[name] for name in SCHEDULE})


SCHEDULE = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target", "State")


def restore(aws: LocalAws, found: dict[str, Any]) -> None:
    """Restore everything that a test here damages."""
    client = aws.client("scheduler")
    try:
        client.update_schedule(**found)
    except client.exceptions.ResourceNotFoundException:
        client.create_schedule(**found)
    trust(aws, {"Principal": {"AWS": aws.deployment.principal}, "Condition": asking(aws)})
    configure(aws)
    if "tailpipe-dataexport" in aws.exports():
        aws.set_export_health("tailpipe-dataexport", None)
    assert run(aws, force=True).report["status"] == "ok"


def broken() -> list[Finding]:
    """Return the findings that are not well."""
    operator = at()
    return [one for one in operator.verify() if one.ok is not True]


def test_working_deployment_has_no_findings(aws: LocalAws) -> None:
    """Schedule, destination, export and connector are checked."""
    operator = at()
    found = operator.verify()
    assert [one.ok for one in found] == [True] * 6
    assert aws.deployment.external_id not in str(found)


def configure(aws: LocalAws, **settings: str) -> None:
    """Add settings to the function."""
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": aws.deployment.settings() | settings}
    )


def schedule(aws: LocalAws, **changed: Any) -> None:
    """Change the schedule."""
    client = aws.client("scheduler")
    kept = client.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    client.update_schedule(**{name: kept[name] for name in SCHEDULE} | changed)


def trust(aws: LocalAws, *statements: dict[str, Any]) -> None:
    """Change the trust policy of the connector role."""
    text = document(*({"Action": "sts:AssumeRole", **one} for one in statements))
    aws.client("iam").update_assume_role_policy(RoleName=CONNECTOR, PolicyDocument=text)


def asking(aws: LocalAws, external_id: str = "") -> dict[str, Any]:
    """Return the condition on the External ID, by default the correct one."""
    return {"StringEquals": {"sts:ExternalId": external_id or aws.deployment.external_id}}


def _disable(aws: LocalAws) -> None:
    schedule(aws, State="DISABLED")


def _other_target(aws: LocalAws) -> None:
    kept = aws.client("scheduler").get_schedule(Name=FUNCTION, GroupName=FUNCTION)["Target"]
    schedule(aws, Target={**kept, "Arn": kept["Arn"].replace(FUNCTION, "another-function")})


def _no_schedule(aws: LocalAws) -> None:
    aws.client("scheduler").delete_schedule(Name=FUNCTION, GroupName=FUNCTION)


def _no_statement(aws: LocalAws) -> None:
    aws.remove_bucket_policy_statement("TailpipeDataExports")


def _no_policy(aws: LocalAws) -> None:
    aws.remove_bucket_policy()


def _no_export(aws: LocalAws) -> None:
    aws.delete_export("tailpipe-dataexport")


def _sick_export(aws: LocalAws) -> None:
    aws.set_export_health("tailpipe-dataexport", "INSUFFICIENT_PERMISSION")


def _other_external_id(aws: LocalAws) -> None:
    trust(aws, {"Principal": {"AWS": aws.deployment.principal}, "Condition": asking(aws, "another-external-id")})


def _no_external_id(aws: LocalAws) -> None:
    trust(aws, {"Principal": {"AWS": aws.deployment.principal}})


def _another_account(aws: LocalAws) -> None:
    arn = "arn:aws:iam::999988887777:root"
    own = {"Principal": {"AWS": aws.deployment.principal}, "Condition": asking(aws)}
    trust(aws, own, {"Principal": {"AWS": arn}, "Condition": asking(aws)})


def _a_service_too(aws: LocalAws) -> None:
    both = {"AWS": aws.deployment.principal, "Service": "ec2.amazonaws.com"}
    trust(aws, {"Principal": both, "Condition": asking(aws)})


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (_disable, "the schedule starts the function"),
        (_other_target, "the schedule starts the function"),
        (_no_schedule, "the schedule starts the function"),
        (_no_statement, "the export service may write to"),
        (_no_policy, "the export service may write to"),
        (_no_export, "the export"),
        (_sick_export, "export tailpipe-dataexport"),
        (_other_external_id, f"role {CONNECTOR} requires the given External ID"),
        (_no_external_id, f"role {CONNECTOR} requires the given External ID"),
        (_another_account, f"role {CONNECTOR} trusts only Tailpipe"),
        (_a_service_too, f"role {CONNECTOR} trusts only Tailpipe"),
    ],
)
def test_each_damage_has_exactly_one_finding(aws: LocalAws, harm: Callable[[LocalAws], None], what: str) -> None:
    """The finding has a remedy and no External ID."""
    harm(aws)
    (found,) = broken()
    assert (found.ok, found.what.startswith(what)) == (False, True), found
    assert found.remedy
    for secret in (aws.deployment.external_id, "another-external-id"):
        assert secret not in str(found)


def test_role_that_anyone_can_assume_is_detected_by_assuming_it(aws: LocalAws) -> None:
    """The role must refuse the operator."""
    trust(aws, {"Principal": {"AWS": "*"}})
    assert [one.what for one in broken()] == [
        f"role {CONNECTOR} trusts only Tailpipe",
        f"role {CONNECTOR} requires the given External ID",
        "the role is refused without the External ID",
    ]
    assert broken()[-1].ok is False


def test_denied_check_of_the_verification_is_unknown(aws: LocalAws) -> None:
    """It is neither well nor broken."""
    for action in ("scheduler:GetSchedule", "s3:GetBucketPolicy", "iam:GetRole", "bcm-data-exports:ListExports"):
        aws.deny(action)
    found = broken()
    assert [one.ok for one in found] == [None] * 4, found


def test_invalid_settings_of_the_function_are_reported(aws: LocalAws) -> None:
    """The next run would fail; dependent checks are not guessed."""
    configure(aws, CALL_BUDGET="many")
    (found,) = broken()
    assert (found.what, found.ok) == ("the function's settings", False)
    assert "CALL_BUDGET" in found.detail
