"""What moto would get wrong about a deployment, and Terraform would take for a change."""

from __future__ import annotations

import json

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.iam.sessions import document
from tests.localcloud.aws.runtime.zips import ECHO, create_function


def test_a_queue_keeps_its_policy_when_something_else_is_set(cloud: LocalAws) -> None:
    """Until a policy is set, or taken away, itself."""
    sqs = cloud.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    policy = document({"Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"})

    def kept() -> str:
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
        return str(found.get("Policy", ""))

    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "60"})
    assert json.loads(kept()) == json.loads(policy)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    assert kept() == ""


def test_what_is_put_for_asynchronous_calls_replaces_and_what_is_updated_joins(cloud: LocalAws) -> None:
    """The newest configuration counts, and an update changes only what it names."""
    functions = create_function(cloud, ECHO)
    for retries in (2, 1):
        functions.put_function_event_invoke_config(FunctionName="function", MaximumRetryAttempts=retries)
    functions.update_function_event_invoke_config(FunctionName="function", MaximumEventAgeInSeconds=60)
    found = functions.get_function_event_invoke_config(FunctionName="function")
    assert (found["MaximumRetryAttempts"], found["MaximumEventAgeInSeconds"]) == (1, 60)
