"""Create the function as a deployment does: its role with grants, its code and its schedule."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from localcloud.aws.iam import grants
from localcloud.aws.platform.deployment import FUNCTION, Clients, Deployment
from localcloud.aws.runtime.function_code import PLACEHOLDER

# A laptop runs fewer processes at once than the module's default of 40 tenants and two.
FLEET_CONCURRENCY = 4
TAGS = [{"Key": "managed-by", "Value": "tailpipe-exports"}]


def make_function_role(deployment: Deployment, clients: Clients, conditions: Collection[str], kms_key: str = "") -> str:
    """Create the function's role with the grants that apply under `conditions` and return its ARN."""
    iam = clients("iam", deployment.account)
    role = iam.create_role(RoleName=FUNCTION, AssumeRolePolicyDocument=trust("lambda.amazonaws.com"), Tags=TAGS)
    policy = grants.policy("function", deployment.names(kms_key), conditions)
    iam.put_role_policy(RoleName=FUNCTION, PolicyName="reconcile", PolicyDocument=policy)
    return str(role["Role"]["Arn"])


def make_function(deployment: Deployment, clients: Clients, runtime: str, role: str) -> None:
    """Create the function with a log group, a queue for failed events and an hourly schedule.

    Its code is packaged on the first call: see `PLACEHOLDER`.
    """
    clients("logs", deployment.account).create_log_group(logGroupName=f"/aws/lambda/{FUNCTION}")
    clients("sqs", deployment.account).create_queue(QueueName=f"{FUNCTION}-failed")
    failed = f"arn:{deployment.partition.name}:sqs:{deployment.region}:{deployment.account}:{FUNCTION}-failed"
    made = clients("lambda", deployment.account).create_function(
        FunctionName=FUNCTION,
        Runtime=runtime,
        Role=role,
        Handler="aws_lambda.handler.handler",
        Code={"ZipFile": PLACEHOLDER},
        Timeout=900,
        MemorySize=512,
        Environment={"Variables": deployment.settings()},
        Tags={"managed-by": "tailpipe-exports"},
    )
    client = clients("lambda", deployment.account)
    reserved = FLEET_CONCURRENCY if deployment.fleet else 1
    client.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=reserved)
    client.put_function_event_invoke_config(
        FunctionName=FUNCTION, MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": failed}}
    )
    _schedule(deployment, clients, str(made["FunctionArn"]))


def _schedule(deployment: Deployment, clients: Clients, function: str) -> None:
    iam = clients("iam", deployment.account)
    name = f"{FUNCTION}-schedule"
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust("scheduler.amazonaws.com"), Tags=TAGS)
    allowed = {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": function}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=name, PolicyName="start", PolicyDocument=document)
    scheduler = clients("scheduler", deployment.account)
    scheduler.create_schedule_group(Name=FUNCTION)
    scheduler.create_schedule(
        Name=FUNCTION,
        GroupName=FUNCTION,
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
        Target={"Arn": function, "RoleArn": role["Role"]["Arn"], "Input": "{}"},
    )


def trust(service: str) -> str:
    """Return a policy that lets a service assume a role."""
    statement: Mapping[str, Any] = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
