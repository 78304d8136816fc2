"""Finds the resources of a plan that already exist in AWS, and their import ids.

Source of the ids: the "Import" section of each resource in the AWS provider's documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws.session import Session, code_of, gone
from cli.deployment.model import Adoption, Change

Values = Mapping[str, Any]
# Returns the import id of an existing resource, else None. Raises ClientError.
Look = Callable[[Session, Values, str], str | None]


def adoptions(session: Session, changes: Sequence[Change]) -> Iterator[Adoption]:
    """Yield the planned resources that already exist. Raises ClientError for a denied read."""
    for change in changes:
        look = LOOKS.get(change.type)
        if look is None:
            continue
        # The module's second provider is for the home region.
        region = session.aws.home if "home" in change.address.rsplit(".", 1)[-1] else session.aws.region
        try:
            found = look(session, change.after, region)
        except ClientError as error:
            if gone(error) or code_of(error) == "ValidationError":
                continue
            raise
        if found:
            yield Adoption(change.address, found, f"{change.type} {found}")


def _bucket(session: Session, values: Values, _region: str) -> str | None:
    name = str(values["bucket"])
    session.aws.client("s3").head_bucket(**session.owned(name))
    return name


def _of_bucket(read: str) -> Look:
    """Return the look-up of a part of a bucket: it exists if it can be read, and is imported by the bucket's name."""

    def look(session: Session, values: Values, _region: str) -> str | None:
        name = values.get("bucket")
        if not name:
            return None
        getattr(session.aws.client("s3"), read)(**session.owned(name))
        return str(name)

    return look


def _object(session: Session, values: Values, _region: str) -> str | None:
    name, key = values.get("bucket"), values["key"]
    if not name:
        return None
    session.aws.client("s3").head_object(**session.owned(str(name)), Key=key)
    return f"{name}/{key}"


def _notification(session: Session, values: Values, _region: str) -> str | None:
    name = values.get("bucket")
    if not name:
        return None
    answer = session.aws.client("s3").get_bucket_notification_configuration(**session.owned(name))
    return str(name) if "EventBridgeConfiguration" in answer else None


def _versioning(session: Session, values: Values, _region: str) -> str | None:
    name = values.get("bucket")
    if not name:
        return None
    answer = session.aws.client("s3").get_bucket_versioning(**session.owned(name))
    return str(name) if answer.get("Status") else None


def _role(session: Session, values: Values, _region: str) -> str | None:
    session.aws.client("iam").get_role(RoleName=values["name"])
    return str(values["name"])


def _role_policy(session: Session, values: Values, _region: str) -> str | None:
    role, name = values.get("role"), values.get("name")
    if not (role and name):
        return None
    session.aws.client("iam").get_role_policy(RoleName=role, PolicyName=name)
    return f"{role}:{name}"


def _function(session: Session, values: Values, _region: str) -> str | None:
    session.aws.client("lambda").get_function_configuration(FunctionName=values["function_name"])
    return str(values["function_name"])


def _invoke_config(session: Session, values: Values, _region: str) -> str | None:
    session.aws.client("lambda").get_function_event_invoke_config(FunctionName=values["function_name"])
    return str(values["function_name"])


def _permission(session: Session, values: Values, _region: str) -> str | None:
    name, sid = values["function_name"], values.get("statement_id")
    policy = session.aws.client("lambda").get_policy(FunctionName=name)["Policy"]
    return f"{name}/{sid}" if sid and f'"{sid}"' in policy else None


def _log_group(session: Session, values: Values, region: str) -> str | None:
    name = values["name"]
    answer = session.aws.client("logs", region).describe_log_groups(logGroupNamePrefix=name)
    return str(name) if any(one["logGroupName"] == name for one in answer["logGroups"]) else None


def _schedule(session: Session, values: Values, _region: str) -> str | None:
    group = values.get("group_name") or "default"
    session.aws.client("scheduler").get_schedule(Name=values["name"], GroupName=group)
    return f"{group}/{values['name']}"


def _schedule_group(session: Session, values: Values, _region: str) -> str | None:
    session.aws.client("scheduler").get_schedule_group(Name=values["name"])
    return str(values["name"])


def _queue(session: Session, values: Values, region: str) -> str | None:
    return str(session.aws.client("sqs", region).get_queue_url(QueueName=values["name"])["QueueUrl"])


def _mapping(session: Session, values: Values, region: str) -> str | None:
    queue = values.get("event_source_arn")
    if not queue:
        return None
    answer = session.aws.client("lambda", region).list_event_source_mappings(EventSourceArn=queue)
    return next((str(one["UUID"]) for one in answer["EventSourceMappings"]), None)


def _state_machine(session: Session, values: Values, region: str) -> str | None:
    arn = f"arn:{session.aws.partition}:states:{region}:{session.place.id}:stateMachine:{values['name']}"
    session.aws.client("stepfunctions", region).describe_state_machine(stateMachineArn=arn)
    return arn


def _topic(session: Session, values: Values, region: str) -> str | None:
    arn = f"arn:{session.aws.partition}:sns:{region}:{session.place.id}:{values['name']}"
    session.aws.client("sns", region).get_topic_attributes(TopicArn=arn)
    return arn


def _queue_policy(session: Session, values: Values, region: str) -> str | None:
    url = values.get("queue_url")
    if not url:
        return None
    answer = session.aws.client("sqs", region).get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    return str(url) if "Policy" in answer.get("Attributes", {}) else None


def _topic_policy(session: Session, values: Values, region: str) -> str | None:
    arn = values.get("arn")
    if not arn:
        return None
    # Every topic has a policy: the default one, unless another was set.
    session.aws.client("sns", region).get_topic_attributes(TopicArn=arn)
    return str(arn)


def _exclusive(session: Session, values: Values, _region: str) -> str | None:
    name = values.get("role_name")
    if not name:
        return None
    session.aws.client("iam").get_role(RoleName=name)
    return str(name)


def _alarm(session: Session, values: Values, region: str) -> str | None:
    name = values["alarm_name"]
    answer = session.aws.client("cloudwatch", region).describe_alarms(AlarmNames=[name])
    return str(name) if answer["MetricAlarms"] or answer.get("CompositeAlarms") else None


def _dashboard(session: Session, values: Values, region: str) -> str | None:
    name = values["dashboard_name"]
    session.aws.client("cloudwatch", region).get_dashboard(DashboardName=name)
    return str(name)


def _rule(session: Session, values: Values, region: str) -> str | None:
    bus = values.get("event_bus_name") or "default"
    session.aws.client("events", region).describe_rule(Name=values["name"], EventBusName=bus)
    return f"{bus}/{values['name']}"


def _target(session: Session, values: Values, region: str) -> str | None:
    bus, rule, name = values.get("event_bus_name") or "default", values["rule"], values.get("target_id")
    listed = session.aws.client("events", region).list_targets_by_rule(Rule=rule, EventBusName=bus)["Targets"]
    return f"{bus}/{rule}/{name}" if any(one["Id"] == name for one in listed) else None


def _stack_set(session: Session, values: Values, _region: str) -> str | None:
    found = session.aws.client("cloudformation").describe_stack_set(StackSetName=values["name"])["StackSet"]
    return str(values["name"]) if found.get("Status") == "ACTIVE" else None


LOOKS: dict[str, Look] = {
    "aws_s3_bucket": _bucket,
    "aws_s3_bucket_policy": _of_bucket("get_bucket_policy"),
    "aws_s3_bucket_public_access_block": _of_bucket("get_public_access_block"),
    "aws_s3_bucket_server_side_encryption_configuration": _of_bucket("get_bucket_encryption"),
    "aws_s3_bucket_lifecycle_configuration": _of_bucket("get_bucket_lifecycle_configuration"),
    "aws_s3_bucket_ownership_controls": _of_bucket("get_bucket_ownership_controls"),
    "aws_s3_bucket_versioning": _versioning,
    "aws_s3_bucket_notification": _notification,
    "aws_s3_object": _object,
    "aws_iam_role": _role,
    "aws_iam_role_policy": _role_policy,
    "aws_iam_role_policies_exclusive": _exclusive,
    "aws_iam_role_policy_attachments_exclusive": _exclusive,
    "aws_lambda_function": _function,
    "aws_lambda_function_event_invoke_config": _invoke_config,
    "aws_lambda_event_source_mapping": _mapping,
    "aws_lambda_permission": _permission,
    "aws_cloudwatch_log_group": _log_group,
    "aws_scheduler_schedule": _schedule,
    "aws_scheduler_schedule_group": _schedule_group,
    "aws_sfn_state_machine": _state_machine,
    "aws_sqs_queue": _queue,
    "aws_sqs_queue_policy": _queue_policy,
    "aws_sns_topic": _topic,
    "aws_sns_topic_policy": _topic_policy,
    "aws_cloudwatch_metric_alarm": _alarm,
    "aws_cloudwatch_dashboard": _dashboard,
    "aws_cloudwatch_event_rule": _rule,
    "aws_cloudwatch_event_target": _target,
    "aws_cloudformation_stack_set": _stack_set,
}
