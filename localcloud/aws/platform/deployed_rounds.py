"""Create what runs rounds over the tenants: the state machine with its role, and its schedule."""

from __future__ import annotations

import json
import re
from typing import Any

from localcloud.aws.iam import grants
from localcloud.aws.platform.deployed_function import TAGS, trust
from localcloud.aws.platform.deployment import FUNCTION, ROUNDS, Clients, Deployment
from tailpipe_exports import FILES

DEFINITION = FILES / "infra" / "aws" / "rounds.asl.json"
# The defaults of the Terraform module.
CONCURRENCY, TOLERATED_PERCENT, TASK_SECONDS = 40, 50, 960


def definition(deployment: Deployment, **values: int) -> str:
    """Return the state machine's definition, from the file that the Terraform module reads.

    `values` replace the module's defaults: `concurrency`, `tolerated_percent`, `task_seconds`.
    """
    place = f"{deployment.region}:{deployment.account}"
    names: dict[str, Any] = {
        "partition": deployment.partition.name,
        "function_name": FUNCTION,
        "function_arn": f"arn:{deployment.partition.name}:lambda:{place}:function:{FUNCTION}",
        "bucket": deployment.bucket,
        "concurrency": CONCURRENCY,
        "tolerated_percent": TOLERATED_PERCENT,
        "task_seconds": TASK_SECONDS,
        **values,
    }
    return re.sub(r"\$\{(\w+)\}", lambda match: str(names[match[1]]), DEFINITION.read_text(encoding="utf-8"))


def make_rounds(deployment: Deployment, clients: Clients, **values: int) -> str:
    """Create the state machine with its role and an hourly schedule; return its ARN. `values`: see `definition`."""
    iam = clients("iam", deployment.account)
    role = iam.create_role(RoleName=ROUNDS, AssumeRolePolicyDocument=trust("states.amazonaws.com"), Tags=TAGS)
    policy = grants.policy("rounds", deployment.names(), ())
    iam.put_role_policy(RoleName=ROUNDS, PolicyName="rounds", PolicyDocument=policy)
    machine = clients("stepfunctions", deployment.account).create_state_machine(
        name=ROUNDS, definition=definition(deployment, **values), roleArn=role["Role"]["Arn"], type="STANDARD"
    )["stateMachineArn"]
    schedule = f"{ROUNDS}-schedule"
    starter = iam.create_role(RoleName=schedule, AssumeRolePolicyDocument=trust("scheduler.amazonaws.com"), Tags=TAGS)
    allowed = {"Effect": "Allow", "Action": "states:StartExecution", "Resource": machine}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=schedule, PolicyName="start", PolicyDocument=document)
    scheduler = clients("scheduler", deployment.account)
    scheduler.create_schedule_group(Name=ROUNDS)
    scheduler.create_schedule(
        Name=ROUNDS,
        GroupName=ROUNDS,
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow={"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5},
        Target={"Arn": machine, "RoleArn": starter["Role"]["Arn"], "Input": json.dumps({"source": "aws.scheduler"})},
    )
    return str(machine)
