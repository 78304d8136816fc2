"""Finds existing resources, and the identifiers by which a CloudFormation stack imports them.

Source: the primary identifiers in the schemas of the resource types ("IDs for imported resources").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws.adopt import LOOKS
from cli.deployment.aws.session import Session, code_of, gone

HIDDEN = "****"  # in place of the value of a parameter with NoEcho
# By resource type: Terraform's type and its arguments for the resource of a name, and the identifier of its import id.
_Arguments = Callable[[Session, str, str], dict[str, Any]]
_Identifier = Callable[[Session, str, str, str], dict[str, str]]


def identifier(session: Session, region: str, kind: str, name: str) -> dict[str, str]:
    """Return the identifier of an existing resource, empty if it does not exist. Raises ClientError."""
    terraform, arguments, identified = _KINDS[kind]
    try:
        found = LOOKS[terraform](session, arguments(session, region, name), region)
    except ClientError as error:
        if gone(error) or code_of(error) == "ValidationError":
            return {}
        raise
    return identified(session, region, name, found) if found else {}


def live_role(session: Session, name: str) -> dict[str, Any]:
    """Return a role as properties of AWS::IAM::Role, as it is now. Raises ClientError.

    Without its path, which never changes and which the template does not set.
    """
    client = session.aws.client("iam")
    role = client.get_role(RoleName=name)["Role"]
    inline = client.list_role_policies(RoleName=name)["PolicyNames"]
    documents = {one: client.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"] for one in inline}
    attached = client.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    found = {
        "RoleName": name,
        "AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"],
        "Description": role.get("Description"),
        "PermissionsBoundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "Policies": [{"PolicyName": one, "PolicyDocument": document} for one, document in documents.items()],
        "ManagedPolicyArns": [one["PolicyArn"] for one in attached],
        "Tags": _tags(role.get("Tags", [])),
    }
    return {key: value for key, value in found.items() if value}


def live_stack_set(session: Session, name: str) -> dict[str, Any]:
    """Return a StackSet as properties of AWS::CloudFormation::StackSet, as it is now. Raises ClientError.

    Without the values that CloudFormation hides.
    """
    made = session.aws.client("cloudformation").describe_stack_set(StackSetName=name)["StackSet"]
    kept = ("StackSetName", "Description", "PermissionModel", "Capabilities", "AutoDeployment", "ManagedExecution")
    parameters = [
        {key: one[key] for key in ("ParameterKey", "ParameterValue")}
        for one in made.get("Parameters", [])
        if one.get("ParameterValue", HIDDEN) != HIDDEN
    ]
    found = {key: made.get(key) for key in kept}
    found |= {"Parameters": parameters, "TemplateBody": made["TemplateBody"], "Tags": _tags(made.get("Tags", []))}
    return {key: value for key, value in found.items() if value}


def _tags(listed: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return tags without those that AWS sets itself, which no template may set."""
    return [one for one in listed if not one["Key"].startswith("aws:")]


def _named(argument: str) -> _Arguments:
    return lambda _session, _region, name: {argument: name}


def _same(key: str) -> _Identifier:
    return lambda _session, _region, name, _found: {key: name}


def _arn(session: Session, service: str, region: str, tail: str) -> str:
    return f"arn:{session.aws.partition}:{service}:{region}:{session.place.id}:{tail}"


def _stack_set(session: Session, _region: str, name: str, _found: str) -> dict[str, str]:
    found = session.aws.client("cloudformation").describe_stack_set(StackSetName=name)["StackSet"]
    return {"StackSetId": str(found["StackSetId"])}


_KINDS: dict[str, tuple[str, _Arguments, _Identifier]] = {
    "AWS::CloudFormation::StackSet": ("aws_cloudformation_stack_set", _named("name"), _stack_set),
    "AWS::CloudWatch::Alarm": ("aws_cloudwatch_metric_alarm", _named("alarm_name"), _same("AlarmName")),
    "AWS::CloudWatch::Dashboard": ("aws_cloudwatch_dashboard", _named("dashboard_name"), _same("DashboardName")),
    "AWS::Events::Rule": (
        "aws_cloudwatch_event_rule",
        _named("name"),
        lambda session, region, name, _found: {"Arn": _arn(session, "events", region, f"rule/{name}")},
    ),
    "AWS::IAM::Role": ("aws_iam_role", _named("name"), _same("RoleName")),
    "AWS::Lambda::EventInvokeConfig": (
        "aws_lambda_function_event_invoke_config",
        _named("function_name"),
        lambda _session, _region, name, _found: {"FunctionName": name, "Qualifier": "$LATEST"},
    ),
    "AWS::Lambda::EventSourceMapping": (
        "aws_lambda_event_source_mapping",
        lambda session, region, name: {"event_source_arn": _arn(session, "sqs", region, name)},
        lambda _session, _region, _name, found: {"Id": found},
    ),
    "AWS::Lambda::Function": ("aws_lambda_function", _named("function_name"), _same("FunctionName")),
    "AWS::Logs::LogGroup": ("aws_cloudwatch_log_group", _named("name"), _same("LogGroupName")),
    "AWS::S3::Bucket": ("aws_s3_bucket", _named("bucket"), _same("BucketName")),
    "AWS::S3::BucketPolicy": ("aws_s3_bucket_policy", _named("bucket"), _same("Bucket")),
    "AWS::SNS::Topic": (
        "aws_sns_topic",
        _named("name"),
        lambda _session, _region, _name, found: {"TopicArn": found},
    ),
    "AWS::SQS::Queue": (
        "aws_sqs_queue",
        _named("name"),
        lambda _session, _region, _name, found: {"QueueUrl": found},
    ),
    "AWS::Scheduler::Schedule": (
        "aws_scheduler_schedule",
        lambda _session, _region, name: {"name": name, "group_name": name},
        _same("Name"),
    ),
    "AWS::Scheduler::ScheduleGroup": ("aws_scheduler_schedule_group", _named("name"), _same("Name")),
}
