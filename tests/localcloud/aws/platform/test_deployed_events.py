"""The deployed rules put into the queue what the function needs, and no secret."""

from __future__ import annotations

import json

from moto.sqs.models import sqs_backends

from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_events import make_queue, make_rules
from localcloud.aws.platform.deployment import CONNECTOR_ROLE, STACK_SET
from shared.runtime.clock import VirtualClock

CANARY = "external-id-canary"


def queued(cloud: LocalAws) -> list[str]:
    """Return the bodies of all messages in all queues of the account, in the function's and in the home region."""
    regions = {cloud.region, cloud.deployment.partition.home}
    queues = [queue for region in regions for queue in sqs_backends[cloud.account][region].queues.values()]
    return [message.body for queue in queues for message in queue._messages]


def test_external_id_stays_out_of_every_queue() -> None:
    """A new trust policy and a new parameter of the StackSet are queued as events of the role and of the StackSet."""
    with LocalAws(accounts=3, clock=VirtualClock()) as cloud:
        queue = make_queue(cloud.deployment, cloud.client)
        make_rules(cloud.deployment, cloud.client, {"members", "connector_events"}, queue)
        iam, stacks = cloud.client("iam"), cloud.client("cloudformation")
        trust = iam.get_role(RoleName=CONNECTOR_ROLE)["Role"]["AssumeRolePolicyDocument"]
        trust["Statement"][0]["Condition"] = {"StringEquals": {"sts:ExternalId": CANARY}}
        iam.update_assume_role_policy(RoleName=CONNECTOR_ROLE, PolicyDocument=json.dumps(trust))
        given = stacks.describe_stack_set(StackSetName=STACK_SET)["StackSet"]["Parameters"]
        for one in given:
            if one["ParameterKey"] == "ExternalId":
                one["ParameterValue"] = CANARY
        stacks.update_stack_set(
            StackSetName=STACK_SET,
            UsePreviousTemplate=True,
            Parameters=given,
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        bodies = queued(cloud)
    details = [json.loads(body)["detail"] for body in bodies]
    assert [(one["eventName"], one["requestParameters"]) for one in details] == [
        ("UpdateAssumeRolePolicy", {"roleName": CONNECTOR_ROLE}),
        ("UpdateStackSet", {"stackSetName": STACK_SET}),
    ]
    assert CANARY not in "".join(bodies)
