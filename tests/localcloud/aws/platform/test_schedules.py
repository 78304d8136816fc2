"""Schedules act as EventBridge Scheduler does, and fire only on request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.iam.sessions import document, make_role
from tests.localcloud.aws.runtime.zips import ECHO, RAISE, create_function, messages, queue
from tests.localcloud.control_client import ControlClient, ControlError

SCHEDULER = {"Service": "scheduler.amazonaws.com"}
GROUP = "arn:aws:scheduler:eu-west-1:111122223333:schedule-group/default"
ONE = "arn:aws:scheduler:eu-west-1:111122223333:schedule/default/hourly"
START = {"Action": "lambda:InvokeFunction", "Resource": "arn:aws:lambda:*:*:function:function"}


def create_schedule(cloud: LocalAws, role: str, target: dict[str, Any] | None = None, **more: Any) -> None:
    """Create an hourly schedule of the function `function`."""
    base_target = {
        "Arn": f"arn:{cloud.partition.name}:lambda:{cloud.region}:{cloud.account}:function:function",
        "RoleArn": role,
    }
    cloud.client("scheduler").create_schedule(
        Name="hourly",
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=base_target | (target or {}),
        **more,
    )


def test_fired_schedule_runs_the_function_with_its_input(cloud: LocalAws) -> None:
    """The schedule's role invokes it asynchronously, and the response has the outcome of the run."""
    create_function(cloud, ECHO)
    role = make_role(cloud, "schedule", START, trusts=SCHEDULER)
    text = '{"at": "<aws.scheduler.scheduled-time>", "of": "<aws.scheduler.schedule-arn>"}'
    create_schedule(cloud, role, {"Input": text})
    assert cloud.await_functions() == []
    outcome = ControlClient(cloud.endpoint).fire_schedule(name="hourly")
    assert (outcome["fired"], outcome["delivered"], outcome["run"]["outcome"]) == (True, True, "succeeded")
    assert outcome["run"]["payload"] == {"at": "2026-03-15T12:00:00Z", "of": ONE}
    function = f"arn:aws:lambda:{cloud.region}:{cloud.account}:function:function"
    assert cloud.calls.accesses(role) == [(role, "lambda:InvokeFunction", function)]
    assert ("scheduler.amazonaws.com", "sts:AssumeRole", role) in cloud.calls.accesses()


@pytest.mark.parametrize("partition", ["aws-us-gov", "aws-cn", "aws-eusc"])
def test_schedule_works_in_other_partitions(partition: str) -> None:
    """Every ARN has the partition."""
    with LocalAws(accounts=1, kind="standalone", partition=partition) as cloud:
        create_function(cloud, ECHO)
        start = {"Action": "lambda:InvokeFunction", "Resource": f"arn:{partition}:lambda:*:*:function:function"}
        create_schedule(cloud, make_role(cloud, "schedule", start, trusts=SCHEDULER), {"Input": '{"a": 1}'})
        assert cloud.fire_schedule("hourly")["run"]["payload"] == {"a": 1}
        used = {resource.split(":")[1] for principal, _, resource in cloud.calls.accesses() if ":role/" in principal}
        assert used == {partition}


def test_schedule_without_an_input_sends_the_schedulers_event(cloud: LocalAws) -> None:
    """The event has source, detail-type and the schedule's ARN."""
    create_function(cloud, ECHO)
    create_schedule(cloud, make_role(cloud, "schedule", START, trusts=SCHEDULER))
    event = cloud.fire_schedule("hourly")["run"]["payload"]
    assert (event["source"], event["detail-type"], event["resources"]) == ("aws.scheduler", "Scheduled Event", [ONE])


def test_failed_run_is_a_successful_delivery(cloud: LocalAws) -> None:
    """Scheduler only delivers; Lambda handles the function's errors."""
    create_function(cloud, RAISE)
    arn = queue(cloud)
    role = make_role(cloud, "schedule", START, {"Action": "sqs:SendMessage", "Resource": arn}, trusts=SCHEDULER)
    create_schedule(cloud, role, {"DeadLetterConfig": {"Arn": arn}})
    outcome = cloud.fire_schedule("hourly")
    assert (outcome["delivered"], outcome["error"], outcome["run"]["outcome"]) == (True, None, "failed")
    assert messages(cloud) == []


def test_disabled_schedule_does_not_fire(cloud: LocalAws) -> None:
    """Nothing is invoked, and this is not a failure."""
    create_function(cloud, ECHO)
    create_schedule(cloud, make_role(cloud, "schedule", START, trusts=SCHEDULER), State="DISABLED")
    assert cloud.fire_schedule("hourly")["fired"] is False
    assert cloud.await_functions() == []


def test_denied_invocation_goes_to_the_dead_letter_queue(cloud: LocalAws) -> None:
    """The message's attributes have the reason; without permission to send there, it is dropped."""
    create_function(cloud, ECHO)
    arn = queue(cloud)
    role = make_role(cloud, "schedule", {"Action": "sqs:SendMessage", "Resource": arn}, trusts=SCHEDULER)
    create_schedule(cloud, role, {"DeadLetterConfig": {"Arn": arn}, "Input": '{"a": 1}'})
    outcome = cloud.fire_schedule("hourly")
    assert (outcome["delivered"], outcome["dead_lettered"]) == (False, True)
    assert outcome["error"].startswith("AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/schedule/")
    (message,) = messages(cloud)
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    assert json.loads(message["Body"]) == {"a": 1}
    assert (attributes["ERROR_CODE"], attributes["SCHEDULE_ARN"]) == ("AccessDeniedException", ONE)
    cloud.client("iam").delete_role_policy(RoleName="schedule", PolicyName="own")
    assert cloud.fire_schedule("hourly")["dead_lettered"] is False
    assert cloud.await_functions() == []


@pytest.mark.parametrize(("source", "delivered"), [(GROUP, True), (ONE, False)])
def test_role_trust_is_evaluated_with_the_schedule_group(cloud: LocalAws, source: str, delivered: bool) -> None:
    """Scheduler's source ARN is the group, so a trust policy with the schedule's ARN never matches."""
    create_function(cloud, ECHO)
    role = make_role(cloud, "schedule", START, trusts=SCHEDULER)
    condition = {"StringEquals": {"aws:SourceAccount": cloud.account}, "ArnLike": {"aws:SourceArn": source}}
    trust = document({"Principal": SCHEDULER, "Action": "sts:AssumeRole", "Condition": condition})
    cloud.client("iam").update_assume_role_policy(RoleName="schedule", PolicyDocument=trust)
    create_schedule(cloud, role)
    assert cloud.fire_schedule("hourly")["delivered"] is delivered


def test_unknown_schedule_is_refused(cloud: LocalAws) -> None:
    """The error names it, also over HTTP."""
    with pytest.raises(ControlError, match="no schedule 'hourly' in group 'other'"):
        ControlClient(cloud.endpoint).fire_schedule(name="hourly", group="other")


def test_second_group_of_a_name_is_refused(cloud: LocalAws) -> None:
    """The schedules of the first one are kept."""
    scheduler = cloud.client("scheduler")
    scheduler.create_schedule_group(Name="ours")
    with pytest.raises(ClientError) as refused:
        scheduler.create_schedule_group(Name="ours")
    assert refused.value.response["Error"]["Code"] == "ConflictException"
