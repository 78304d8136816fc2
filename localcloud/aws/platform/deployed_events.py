"""Create what delivers events to the deployed function: rules, their queue, and the collector with its role."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from localcloud.aws.iam import grants
from localcloud.aws.platform.deployed_deliveries import make_rule, map_queue
from localcloud.aws.platform.deployed_function import TAGS
from localcloud.aws.platform.deployment import FUNCTION, Clients, Deployment
from localcloud.aws.runtime.function_code import PLACEHOLDER
from tailpipe_exports import FILES

PATTERNS = FILES / "infra" / "aws" / "events.json"
COLLECTOR = f"{FUNCTION}-events"
WINDOW_S = 60
TIMEOUT_S = 60
_SETTINGS = (
    "BUCKET_NAME",
    "BUCKET_REGION",
    "CONNECTOR_ROLE_NAME",
    "DELIVERY_TOPIC",
    "DELTAS",
    "EXPORTS",
    "STACKSET_NAME",
)
_VARIABLE = re.compile(r"\$\{(\w+)\}")


def rules(names: Mapping[str, str], conditions: Collection[str], path: Path = PATTERNS) -> dict[str, dict[str, Any]]:
    """Return the rules that apply under `conditions`, by name, from the file that the Terraform module reads.

    `names` are the values of the file's ``${…}`` placeholders. Raises KeyError for a missing name.
    """
    text = _VARIABLE.sub(lambda match: names[match[1]], path.read_text(encoding="utf-8"))
    return {name: rule for name, rule in json.loads(text).items() if not rule["when"] or rule["when"] in conditions}


def shaping(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a rule's target that says which fields of an event the queue gets; {}: the whole event."""
    only = rule["only"]
    return {"InputTransformer": {"InputPathsMap": only["paths"], "InputTemplate": only["template"]}} if only else {}


def make_events(deployment: Deployment, clients: Clients, runtime: str, conditions: Collection[str]) -> None:
    """Create the rules, the queue with its dead-letter queue, and the collector; the main function must exist."""
    queue = make_queue(deployment, clients)
    place = f"{deployment.region}:{deployment.account}"
    redrive = {
        "deadLetterTargetArn": f"arn:{deployment.partition.name}:sqs:{place}:{FUNCTION}-failed",
        "maxReceiveCount": 5,
    }
    sqs = clients("sqs", deployment.account)
    url = sqs.get_queue_url(QueueName=COLLECTOR)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(redrive)})
    _make_collector(deployment, clients, runtime, queue, conditions)
    make_rules(deployment, clients, conditions, queue)
    if deployment.deliveries:
        manifests = make_rule(deployment, clients, 6 * TIMEOUT_S)
        map_queue(deployment, clients, manifests, COLLECTOR)


def make_queue(deployment: Deployment, clients: Clients) -> str:
    """Create the queue of events, which EventBridge may send to, and return its ARN."""
    queue = f"arn:{deployment.partition.name}:sqs:{deployment.region}:{deployment.account}:{COLLECTOR}"
    allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [allow | {"Resource": queue}]}
    attributes = {"VisibilityTimeout": str(6 * TIMEOUT_S), "Policy": json.dumps(policy)}
    clients("sqs", deployment.account).create_queue(QueueName=COLLECTOR, Attributes=attributes)
    return queue


def make_rules(deployment: Deployment, clients: Clients, conditions: Collection[str], queue: str) -> None:
    """Create the rules that send events to the queue, given by its ARN."""
    for name, rule in rules(deployment.names(), conditions).items():
        _make_rule(deployment, clients, f"{FUNCTION}-{name}", rule, queue)


def _make_collector(
    deployment: Deployment, clients: Clients, runtime: str, queue: str, conditions: Collection[str]
) -> None:
    iam = clients("iam", deployment.account)
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=COLLECTOR, AssumeRolePolicyDocument=document, Tags=TAGS)["Role"]["Arn"]
    granted = grants.policy("collector", deployment.names(), {*conditions, "events"})
    iam.put_role_policy(RoleName=COLLECTOR, PolicyName="collect", PolicyDocument=granted)
    clients("logs", deployment.account).create_log_group(logGroupName=f"/aws/lambda/{COLLECTOR}")
    functions = clients("lambda", deployment.account)
    function_role = f"arn:{deployment.partition.name}:iam::{deployment.account}:role/{FUNCTION}"
    settings = {name: value for name, value in deployment.settings().items() if name in _SETTINGS}
    functions.create_function(
        FunctionName=COLLECTOR,
        Runtime=runtime,
        Role=role,
        Handler="aws_lambda.collector.handler",
        Code={"ZipFile": PLACEHOLDER},
        Timeout=TIMEOUT_S,
        MemorySize=256,
        Environment={"Variables": settings | {"FUNCTION_NAME": FUNCTION, "FUNCTION_ROLE_ARN": function_role}},
        Tags={"managed-by": "tailpipe-exports"},
    )
    functions.create_event_source_mapping(
        EventSourceArn=queue,
        FunctionName=COLLECTOR,
        BatchSize=10_000,
        MaximumBatchingWindowInSeconds=WINDOW_S,
        ScalingConfig={"MaximumConcurrency": 2},
    )


def _make_rule(deployment: Deployment, clients: Clients, name: str, rule: Mapping[str, Any], queue: str) -> None:
    pattern = json.dumps(rule["pattern"])
    events = clients("events", deployment.account)
    events.put_rule(Name=name, EventPattern=pattern, State="ENABLED")
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue, **shaping(rule)}])
    home = deployment.partition.home
    if rule["home"] and deployment.region != home:
        bus = f"arn:{deployment.partition.name}:events:{deployment.region}:{deployment.account}:event-bus/default"
        forward = clients("events@home", deployment.account)
        forward.put_rule(Name=name, EventPattern=pattern, State="ENABLED")
        forward.put_targets(
            Rule=name, Targets=[{"Id": "forward", "Arn": bus, "RoleArn": _make_forward_role(deployment, clients, bus)}]
        )


def _make_forward_role(deployment: Deployment, clients: Clients, bus: str) -> str:
    iam = clients("iam", deployment.account)
    name = f"{FUNCTION}-forward"
    arn = f"arn:{deployment.partition.name}:iam::{deployment.account}:role/{name}"
    if name not in {role["RoleName"] for role in iam.list_roles()["Roles"]}:
        trust = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document, Tags=TAGS)
        allowed = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": bus}
        statement = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_role_policy(RoleName=name, PolicyName="forward", PolicyDocument=statement)
    return arn
