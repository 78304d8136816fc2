"""Corrections of moto, whose behavior Terraform would otherwise report as changes."""

from __future__ import annotations

import json

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.iam.sessions import document
from tests.localcloud.aws.runtime.zips import ECHO, create_function


def test_queue_keeps_its_policy_when_other_attributes_are_set(cloud: LocalAws) -> None:
    """Only setting or removing the policy changes it."""
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


def test_put_replaces_and_update_merges_the_event_invoke_config(cloud: LocalAws) -> None:
    """An update changes only the given values."""
    functions = create_function(cloud, ECHO)
    for retries in (2, 1):
        functions.put_function_event_invoke_config(FunctionName="function", MaximumRetryAttempts=retries)
    functions.update_function_event_invoke_config(FunctionName="function", MaximumEventAgeInSeconds=60)
    found = functions.get_function_event_invoke_config(FunctionName="function")
    assert (found["MaximumRetryAttempts"], found["MaximumEventAgeInSeconds"]) == (1, 60)
