"""Bring resources of Terraform's state and of an evaluated CloudFormation template into one form, and compare them.

`PAIRS` lists every type of the module with its counterpart, `WITHOUT` those that a template cannot have, `ACCEPTED` the
properties that differ. A type, an argument of the module or a property of the template that is in no list is a
difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.infra.cloudformation import Stack
from tools import modules

# Resources as both are compared: type and name → path of a property → value.
Flat = dict[tuple[str, str], dict[str, str]]
Renames = Mapping[str, str]


@dataclass(frozen=True)
class Pair:
    """The counterpart of a Terraform type: `key` is the argument with its name; several may describe one resource.

    `renamed`: arguments whose name differs by more than its letters' case. `shape` changes the form of all arguments.
    `also`: arguments that the module leaves at their default and the template writes out.
    """

    type: str
    key: str
    renamed: Renames = field(default_factory=dict)
    shape: Callable[[dict[str, Any]], dict[str, Any]] = dict
    also: tuple[str, ...] = ()


def _pascal(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _under(name: str, *without: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a shape that puts all but a resource's name below a property."""

    def shape(made: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in made.items() if key in ("BucketName", *without)}
        return kept | {name: {key: value for key, value in made.items() if key not in kept}}

    return shape


def _target(made: dict[str, Any]) -> dict[str, Any]:
    rule = made.pop("Name")
    return {"Name": rule, "Targets": [made]}


def _inline(made: dict[str, Any]) -> dict[str, Any]:
    return {"RoleName": made["RoleName"], "Policies": {made["PolicyName"]: made["PolicyDocument"]}}


def _encryption(made: dict[str, Any]) -> dict[str, Any]:
    rules = made["Rule"] if isinstance(made["Rule"], list) else [made["Rule"]]
    return {"BucketName": made["BucketName"], "BucketEncryption": {"ServerSideEncryptionConfiguration": rules}}


def _ownership(made: dict[str, Any]) -> dict[str, Any]:
    return {"BucketName": made["BucketName"], "OwnershipControls": {"Rules": [made["Rule"]]}}


def _eventbridge(made: dict[str, Any]) -> dict[str, Any]:
    bridge = {"EventBridgeConfiguration": {"EventBridgeEnabled": made["Eventbridge"]}}
    return {"BucketName": made["BucketName"], "NotificationConfiguration": bridge}


def _lifecycle(made: dict[str, Any]) -> dict[str, Any]:
    """Return the rules as CloudFormation writes them: a filter for a prefix is a property."""
    rules = []
    for rule in made["Rule"]:
        one = {key: value for key, value in rule.items() if key not in ("Filter", "Expiration", "Transition")}
        one |= {"Prefix": prefix} if (prefix := rule.get("Filter", {}).get("Prefix")) else {}
        expiration = rule.get("Expiration", {})
        one |= {"ExpirationInDays": expiration["Days"]} if expiration.get("Days") else {}
        if expiration.get("ExpiredObjectDeleteMarker"):
            one["ExpiredObjectDeleteMarker"] = True
        if transitions := rule.get("Transition"):
            ordered = sorted(transitions, key=lambda each: int(each["Days"]))  # a set, without an order
            one["Transitions"] = [
                {"TransitionInDays": each["Days"], "StorageClass": each["StorageClass"]} for each in ordered
            ]
        rules.append(one)
    return {"BucketName": made["BucketName"], "LifecycleConfiguration": {"Rules": rules}}


_POLICY = {"policy": "PolicyDocument"}
PAIRS: dict[str, Pair] = {
    "aws_cloudformation_stack_set": Pair("AWS::CloudFormation::StackSet", "name", {"name": "StackSetName"}),
    "aws_cloudwatch_dashboard": Pair("AWS::CloudWatch::Dashboard", "dashboard_name"),
    "aws_cloudwatch_event_rule": Pair("AWS::Events::Rule", "name"),
    "aws_cloudwatch_event_target": Pair(
        "AWS::Events::Rule",
        "rule",
        {"rule": "Name", "target_id": "Id", "input_paths": "InputPathsMap"},
        _target,
    ),
    "aws_cloudwatch_log_group": Pair("AWS::Logs::LogGroup", "name", {"name": "LogGroupName"}),
    "aws_cloudwatch_metric_alarm": Pair("AWS::CloudWatch::Alarm", "alarm_name", {"ok_actions": "OKActions"}),
    "aws_iam_role": Pair(
        "AWS::IAM::Role", "name", {"name": "RoleName", "assume_role_policy": "AssumeRolePolicyDocument"}
    ),
    "aws_iam_role_policy": Pair(
        "AWS::IAM::Role", "role", {"role": "RoleName", "name": "PolicyName", **_POLICY}, _inline
    ),
    "aws_lambda_event_source_mapping": Pair("AWS::Lambda::EventSourceMapping", "event_source_arn"),
    "aws_lambda_function": Pair("AWS::Lambda::Function", "function_name"),
    "aws_lambda_function_event_invoke_config": Pair(
        "AWS::Lambda::EventInvokeConfig", "function_name", also=("qualifier",)
    ),
    "aws_s3_bucket": Pair("AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}),
    "aws_s3_bucket_lifecycle_configuration": Pair("AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}, _lifecycle),
    "aws_s3_bucket_notification": Pair("AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}, _eventbridge),
    "aws_s3_bucket_ownership_controls": Pair("AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}, _ownership),
    "aws_s3_bucket_policy": Pair("AWS::S3::BucketPolicy", "bucket", _POLICY),
    "aws_s3_bucket_public_access_block": Pair(
        "AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}, _under("PublicAccessBlockConfiguration")
    ),
    "aws_s3_bucket_server_side_encryption_configuration": Pair(
        "AWS::S3::Bucket",
        "bucket",
        {
            "bucket": "BucketName",
            "apply_server_side_encryption_by_default": "ServerSideEncryptionByDefault",
            "sse_algorithm": "SSEAlgorithm",
            "kms_master_key_id": "KMSMasterKeyID",
        },
        _encryption,
    ),
    "aws_s3_bucket_versioning": Pair("AWS::S3::Bucket", "bucket", {"bucket": "BucketName"}),
    "aws_scheduler_schedule": Pair("AWS::Scheduler::Schedule", "name", also=("state",)),
    "aws_scheduler_schedule_group": Pair("AWS::Scheduler::ScheduleGroup", "name"),
    "aws_sns_topic": Pair("AWS::SNS::Topic", "name", {"name": "TopicName"}),
    "aws_sns_topic_policy": Pair("AWS::SNS::TopicPolicy", "arn", {"arn": "Topics", **_POLICY}),
    "aws_sns_topic_subscription": Pair("AWS::SNS::Subscription", "endpoint"),
    "aws_sqs_queue": Pair(
        "AWS::SQS::Queue",
        "name",
        {
            "name": "QueueName",
            "message_retention_seconds": "MessageRetentionPeriod",
            "visibility_timeout_seconds": "VisibilityTimeout",
        },
    ),
    "aws_sqs_queue_policy": Pair("AWS::SQS::QueuePolicy", "queue_url", {"queue_url": "Queues", **_POLICY}),
}
# The property of a CloudFormation type that holds what `key` holds on Terraform's side.
NAMES = {
    pair.type: pair.renamed.get(pair.key, _pascal(pair.key))
    for name, pair in PAIRS.items()
    if name not in ("aws_cloudwatch_event_target", "aws_iam_role_policy")
}
WITHOUT = {
    "aws_iam_role_policies_exclusive": "CloudFormation removes no policy that is not in the template",
    "aws_iam_role_policy_attachments_exclusive": "CloudFormation detaches no policy that is not in the template",
    "terraform_data": "inputs are rules, salt is in ExternalIdHash, organizations_access is one command",
    "aws_sfn_state_machine": "only with fleet, which a template does not have",
    "aws_s3_object": "only with fleet, which a template does not have",
}
# Arguments that describe how Terraform acts, not what it creates.
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "timeouts", "override_provider"}
# Type and path of properties that differ, as a pattern, with the reason.
ACCEPTED = {
    r"AWS::Lambda::Function (Filename|SourceCodeHash)": "the archive is read from S3",
    r"AWS::Lambda::Function Code\.S3\w+": "the archive is read from S3",
    r"AWS::Lambda::EventInvokeConfig Qualifier": "$LATEST is what Terraform means by no qualifier",
    r"AWS::Lambda::Function ReservedConcurrentExecutions of \S+ in \S+: Terraform -1,": "-1 is Terraform's none",
    r"AWS::CloudFormation::StackSet OperationPreferences\.(FailureTolerance|MaxConcurrent)Count .*: Terraform 0,": (
        "the provider stores 0 for what is not set"
    ),
    r"AWS::CloudFormation::StackSet AutoDeployment\.RetainStacks\w+ .*: Terraform false, template nothing": (
        "without automatic deployment, the provider does not send it, and AWS refuses it"
    ),
    r"AWS::S3::Bucket ForceDestroy": "the template retains the bucket in any case",
}
_DOCUMENTS = ("PolicyDocument", "AssumeRolePolicyDocument")
_JSON = ("RedrivePolicy", "EventPattern", "DashboardBody", "Input", *_DOCUMENTS)


def from_terraform(resources: Iterable[Mapping[str, Any]], module: modules.Module, regions: tuple[str, str]) -> Flat:
    """Return the resources of one module call in Terraform's state; `regions` are the function's and the home."""
    found: Flat = {}
    for one in resources:
        if one["mode"] != "managed" or one["type"] in WITHOUT:
            continue
        pair, values = PAIRS[one["type"]], one["values"]
        body = module.resources[f"{one['type']}.{one['name']}"]
        wanted = (
            {*body, *(name for block in body.get("dynamic", ()) for name in block), *pair.also} - META - {"dynamic"}
        )
        made = {
            pair.renamed.get(name, _pascal(name)): _converted(values[name], pair.renamed)
            for name in sorted(wanted)
            if not _empty(values.get(name))
        }
        region = regions[1] if one["name"] == "home" else regions[0]
        key = _key(
            pair.type,
            str(values[pair.key]).split(":function:")[-1] if pair.key == "function_name" else str(values[pair.key]),
            region,
        )
        found.setdefault(key, {}).update(flat(_normal(pair.shape(made))))
    return found


def from_template(stack: Stack, region: str, tags: Mapping[str, str]) -> Flat:
    """Return the resources of an evaluated template; `tags` are those of the stack."""
    found: Flat = {}
    for resource in stack.resources.values():
        properties = _normal(resource.properties)
        if "Tags" in properties:
            properties["Tags"] = {**properties["Tags"], **tags}
        name = properties[NAMES[resource.type]]
        found[_key(resource.type, name[0] if isinstance(name, list) else name, region)] = flat(properties)
    return found


def differences(terraform: Flat, template: Flat) -> Iterator[str]:
    """Yield each difference, begun by type and path."""
    for key in sorted(terraform.keys() | template.keys()):
        type_, name = key
        if key not in template or key not in terraform:
            yield f"{type_} {name}: only {'Terraform' if key in terraform else 'the template'} creates it"
            continue
        one, two = terraform[key], template[key]
        for path in sorted(one.keys() | two.keys()):
            if one.get(path) != two.get(path):
                values = f"Terraform {one.get(path, 'nothing')}, template {two.get(path, 'nothing')}"
                yield f"{type_} {path} of {name}: {values}"


def _key(type_: str, name: str, region: str) -> tuple[str, str]:
    """Return the key of a resource: roles are in no region, and a queue is known by the end of its address."""
    if type_ == "AWS::SQS::QueuePolicy":
        name = name.rpartition("/")[2]
    return type_, name if type_ == "AWS::IAM::Role" else f"{name} in {region}"


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, list) and all(_empty(one) for one in value))


def _converted(value: Any, renamed: Renames) -> Any:
    """Return a value of Terraform's state with CloudFormation's names; a block that occurs once is no list."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        made = [
            {renamed.get(key, _pascal(key)): _converted(one, renamed) for key, one in block.items() if not _empty(one)}
            for block in value
        ]
        return made[0] if len(made) == 1 else made
    return value


def _normal(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return properties in one form: documents parsed, lists of names and values as mappings."""
    made: dict[str, Any] = {}
    for name, value in properties.items():
        if name == "Policies":
            named = {one["PolicyName"]: one["PolicyDocument"] for one in value} if isinstance(value, list) else value
            made[name] = {key: _normal({"PolicyDocument": one})["PolicyDocument"] for key, one in named.items()}
        elif name in ("Tags", "Dimensions", "Parameters") and isinstance(value, list):
            made[name] = {_first(one): _second(one) for one in value}
        elif name in ("Queues", "Topics"):
            listed = value if isinstance(value, list) else [value]
            # A queue's address has the name of a host, which is another one for the local AWS.
            made[name] = [one.rpartition("/")[2] for one in listed] if name == "Queues" else listed
        elif name in _JSON:
            document = json.loads(value) if isinstance(value, str) else value
            made[name] = rights(document) if name in _DOCUMENTS else document
        else:
            made[name] = _normal(value) if isinstance(value, Mapping) and name not in ("Variables", "Tags") else value
    return made


def _first(one: Mapping[str, Any]) -> str:
    return str(next(one[key] for key in ("Key", "Name", "ParameterKey") if key in one))


def _second(one: Mapping[str, Any]) -> Any:
    return next(one[key] for key in ("Value", "ParameterValue") if key in one)


def rights(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the set of rights of a policy: principal, action, resource and condition of each statement, one by one."""
    found = {}
    for statement in document["Statement"]:
        kept = {
            key: value
            for key, value in statement.items()
            if key not in ("Action", "Resource", "Principal", "Condition")
        }
        principals = statement.get("Principal", {"": ""})
        principals = principals if isinstance(principals, Mapping) else {"": principals}
        conditions = {
            operator: {key: sorted(_listed(one)) for key, one in tests.items()}
            for operator, tests in statement.get("Condition", {}).items()
        }
        for kind, principal in ((kind, one) for kind, many in principals.items() for one in _listed(many)):
            for action in _listed(statement["Action"]):
                for resource in _listed(statement.get("Resource", "")):
                    right = [kept, f"{kind} {principal}", action, resource, conditions]
                    found[json.dumps(right, sort_keys=True)] = "granted"
    return {"rights": found, "version": document["Version"]}


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def flat(value: Any, path: str = "") -> dict[str, str]:
    """Return the leaves by path, as text: a parameter of a template is a text where Terraform has a number."""
    if isinstance(value, Mapping):
        return {k: v for key, one in value.items() for k, v in flat(one, f"{path}.{key}".lstrip(".")).items()}
    if isinstance(value, list):
        return {k: v for place, one in enumerate(value) for k, v in flat(one, f"{path}[{place}]").items()}
    return {path: _text(value)}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    number = re.fullmatch(r"(-?\d+)(?:\.0+)?", str(value))
    return number[1] if number else str(value)
