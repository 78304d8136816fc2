"""Read what a deployment made on the local AWS by the services' own calls, in a form that can be compared.

A reader of each service lists everything there, so that a resource which only one of two deployments has is seen too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from tests.infra.compared_aws import flat, rights

# Resources by kind and name → path of a setting → value.
Live = dict[tuple[str, str], dict[str, str]]
Reader = Callable[[Callable[[str], Any]], Iterator[tuple[str, dict[str, Any]]]]

# What is different for each resource, or says how its engine works instead of what it made.
VOLATILE = frozenset(
    {
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "AlarmConfigurationUpdatedTimestamp",
        "CreateDate",
        "CreatedTimestamp",
        "CreationDate",
        "LastModificationDate",
        "LastModified",
        "LastModifiedTimestamp",
        "ResponseMetadata",
        "RevisionId",
        "RoleId",
        "RoleLastUsed",
        "StackSetId",
        "StateReason",
        "StateTransitionedTimestamp",
        "StateUpdatedTimestamp",
        "StateValue",
        "SubscriptionArn",
        "UUID",
    }
)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH = re.compile(r"(?:[0-9a-f]{2})+:[0-9a-f]{64}")
_DOCUMENTS = ("AssumeRolePolicyDocument", "Policy", "PolicyDocument")


def live(cloud: LocalAws, without: str = "") -> Live:
    """Return everything in the account, except what has a name that matches the pattern `without`."""
    found: Live = {}
    for place in ("", "@home"):
        for kind, reader in (READERS | (GLOBAL if not place else {})).items():
            for name, body in reader(lambda service, at=place: cloud.client(f"{service}{at}")):  # type: ignore[misc] # the default binds the place
                if not (without and re.fullmatch(without, name)):
                    found[f"{kind}{place}", name] = flat(_normal(body))
    return found


def differences(one: Live, two: Live, names: tuple[str, str]) -> Iterator[str]:
    """Yield each difference of two deployments, begun by kind and setting; `names` says what made each of them."""
    for key in sorted(one.keys() | two.keys()):
        kind, name = key
        if key not in one or key not in two:
            yield f"{kind} {name}: only {names[key in two]} has it"
            continue
        for path in sorted(one[key].keys() | two[key].keys()):
            left, right = one[key].get(path, "nothing"), two[key].get(path, "nothing")
            if left != right:
                yield f"{kind} {path} of {name}: {names[0]} {left}, {names[1]} {right}"


def _normal(value: Any, name: str = "") -> Any:
    """Return a value without what is volatile, with documents as sets of rights and tags by name."""
    if isinstance(value, Mapping):
        return {key: _normal(one, str(key)) for key, one in value.items() if key not in VOLATILE}
    if name in _DOCUMENTS and value:
        return rights(json.loads(value) if isinstance(value, str) else value)
    if isinstance(value, list):
        if value and all(isinstance(one, Mapping) and {"Key", "Value"} == {*one} for one in value):
            return {one["Key"]: one["Value"] for one in value}
        listed = [_normal(one) for one in value]
        return sorted(listed, key=lambda one: json.dumps(one, sort_keys=True, default=str))
    if isinstance(value, str):
        if value[:1] in "{[":
            with suppress(ValueError):
                return _normal(json.loads(value))
        return _HASH.sub("SALTED-HASH", _UUID.sub("UUID", value))
    return value


def _or_nothing(call: Callable[..., Any], **arguments: Any) -> Mapping[str, Any]:
    """Return an answer, empty where the resource has no such part."""
    try:
        answer: Mapping[str, Any] = call(**arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code.startswith("NoSuch") or code.endswith(("NotFound", "NotFoundError", "NotFoundException")):
            return {}
        raise
    return {key: one for key, one in answer.items() if key != "ResponseMetadata"}


def _functions(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    functions = client("lambda")
    for one in functions.list_functions()["Functions"]:
        name = one["FunctionName"]
        found = functions.get_function(FunctionName=name)
        yield (
            name,
            {
                **found["Configuration"],
                "Tags": found.get("Tags", {}),
                "Concurrency": found.get("Concurrency", {}),
                "Policy": _or_nothing(functions.get_policy, FunctionName=name).get("Policy", ""),
                "Invocations": _or_nothing(functions.get_function_event_invoke_config, FunctionName=name),
            },
        )


def _mappings(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in client("lambda").list_event_source_mappings()["EventSourceMappings"]:
        yield one["EventSourceArn"], one


def _queues(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    queues = client("sqs")
    for url in queues.list_queues().get("QueueUrls", []):
        made = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        yield url.rpartition("/")[2], made | {"Tags": queues.list_queue_tags(QueueUrl=url).get("Tags", {})}


def _topics(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    topics = client("sns")
    for one in topics.list_topics()["Topics"]:
        arn = one["TopicArn"]
        yield (
            arn,
            {
                **topics.get_topic_attributes(TopicArn=arn)["Attributes"],
                "Tags": topics.list_tags_for_resource(ResourceArn=arn)["Tags"],
                "Subscriptions": topics.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"],
            },
        )


def _rules(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    events = client("events")
    for one in events.list_rules()["Rules"]:
        targets = events.list_targets_by_rule(Rule=one["Name"])["Targets"]
        yield (
            one["Name"],
            {**one, "Targets": targets, "Tags": events.list_tags_for_resource(ResourceARN=one["Arn"])["Tags"]},
        )


def _schedules(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    schedules = client("scheduler")
    for one in schedules.list_schedules()["Schedules"]:
        yield one["Name"], schedules.get_schedule(Name=one["Name"], GroupName=one["GroupName"])
    for one in schedules.list_schedule_groups()["ScheduleGroups"]:
        yield f"group {one['Name']}", one | {"Tags": schedules.list_tags_for_resource(ResourceArn=one["Arn"])["Tags"]}


def _logs(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    logs = client("logs")
    for one in logs.describe_log_groups()["logGroups"]:
        tags = logs.list_tags_log_group(logGroupName=one["logGroupName"])["tags"]
        yield one["logGroupName"], {"retention": one.get("retentionInDays"), "key": one.get("kmsKeyId"), "Tags": tags}


def _alarms(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    alarms = client("cloudwatch")
    for one in alarms.describe_alarms()["MetricAlarms"]:
        yield one["AlarmName"], one | {"Tags": alarms.list_tags_for_resource(ResourceARN=one["AlarmArn"])["Tags"]}


def _dashboards(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    dashboards = client("cloudwatch")
    for one in dashboards.list_dashboards()["DashboardEntries"]:
        body = dashboards.get_dashboard(DashboardName=one["DashboardName"])["DashboardBody"]
        yield one["DashboardName"], {"body": json.loads(body)}


def _machines(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in client("stepfunctions").list_state_machines()["stateMachines"]:
        yield one["name"], {}


def _stack_sets(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    stacks = client("cloudformation")
    for one in stacks.list_stack_sets(Status="ACTIVE")["Summaries"]:
        name = one["StackSetName"]
        listed = stacks.list_stack_instances(StackSetName=name)["Summaries"]
        instances = [f"{each['Account']} {each['Region']} {each['Status']}" for each in listed]
        made = stacks.describe_stack_set(StackSetName=name)["StackSet"]
        yield name, made | {"Instances": instances}


def _roles(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    iam = client("iam")
    for one in iam.list_roles()["Roles"]:
        name = one["RoleName"]
        inline = {
            each: iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"]
            for each in iam.list_role_policies(RoleName=name)["PolicyNames"]
        }
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        policies = {each: {"PolicyDocument": document} for each, document in inline.items()}
        yield name, iam.get_role(RoleName=name)["Role"] | {"Policies": policies, "Attached": attached}


def _buckets(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    s3 = client("s3")
    for one in s3.list_buckets()["Buckets"]:
        name = one["Name"]
        parts = {
            part: _or_nothing(getattr(s3, f"get_{part}"), Bucket=name)
            for part in (
                "bucket_encryption",
                "bucket_lifecycle_configuration",
                "bucket_location",
                "bucket_logging",
                "bucket_notification_configuration",
                "bucket_ownership_controls",
                "bucket_policy",
                "bucket_tagging",
                "bucket_versioning",
                "public_access_block",
            )
        }
        yield name, parts


def _exports(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    exports = client("bcm-data-exports")
    for one in exports.list_exports()["Exports"]:
        arn = one["ExportArn"]
        made = exports.get_export(ExportArn=arn)["Export"]
        yield one["ExportName"], made | {"Tags": exports.list_tags_for_resource(ResourceArn=arn)["ResourceTags"]}


def _access(client: Callable[[str], Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "StackSets", {"status": client("cloudformation").describe_organizations_access()["Status"]}


# In each region.
READERS: dict[str, Reader] = {
    "function": _functions,
    "event source": _mappings,
    "queue": _queues,
    "topic": _topics,
    "rule": _rules,
    "schedule": _schedules,
    "log group": _logs,
    "alarm": _alarms,
    "dashboard": _dashboards,
    "state machine": _machines,
}
# Once.
GLOBAL: dict[str, Reader] = {
    "stack set": _stack_sets,
    "role": _roles,
    "bucket": _buckets,
    "export": _exports,
    "access to the organization": _access,
}
