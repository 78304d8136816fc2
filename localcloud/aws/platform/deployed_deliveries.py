"""Create what announces deliveries: S3's events, their rule and queue, and the topic."""

from __future__ import annotations

import json
import re
from typing import Any

from localcloud.aws.platform.deployment import FUNCTION, PREFIX, Clients, Deployment
from tailpipe_exports import FILES

PATTERN = FILES / "infra" / "aws" / "deliveries.json"
DELIVERIES = f"{FUNCTION}-deliveries"
WINDOW_S = 5
BATCH = 100
RETENTION_DAYS = 35


def pattern(deployment: Deployment) -> dict[str, Any]:
    """Return the pattern of the rule for manifests, from the file that the Terraform module reads."""
    names = deployment.names()
    text = re.sub(r"\$\{(\w+)\}", lambda match: names[match[1]], PATTERN.read_text(encoding="utf-8"))
    found: dict[str, Any] = json.loads(text)
    return found


def make_topic(deployment: Deployment, clients: Clients) -> None:
    """Create the FIFO topic of deliveries."""
    clients("sns", deployment.account).create_topic(Name=f"{DELIVERIES}.fifo", Attributes={"FifoTopic": "true"})


def expire_documents(deployment: Deployment, clients: Clients) -> None:
    """Let the documents of single deliveries expire, as the Terraform module does."""
    s3 = clients("s3", deployment.account)
    rules = s3.get_bucket_lifecycle_configuration(Bucket=deployment.bucket)["Rules"]
    where = {"Prefix": f"{PREFIX}/deltas/"}
    rule = {"ID": "expire-deltas", "Status": "Enabled", "Filter": where, "Expiration": {"Days": RETENTION_DAYS}}
    s3.put_bucket_lifecycle_configuration(Bucket=deployment.bucket, LifecycleConfiguration={"Rules": [rule, *rules]})


def make_rule(deployment: Deployment, clients: Clients, visibility_s: int) -> str:
    """Let S3 report objects, and put the events of manifests into a queue; return the queue's ARN."""
    clients("s3", deployment.account).put_bucket_notification_configuration(
        Bucket=deployment.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    place = f"{deployment.region}:{deployment.account}"
    queue = f"arn:{deployment.partition.name}:sqs:{place}:{DELIVERIES}"
    redrive = {"deadLetterTargetArn": f"arn:{deployment.partition.name}:sqs:{place}:{FUNCTION}-failed"}
    allow = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}
    attributes = {
        "VisibilityTimeout": str(visibility_s),
        "Policy": json.dumps({"Version": "2012-10-17", "Statement": [allow | {"Resource": queue}]}),
        "RedrivePolicy": json.dumps(redrive | {"maxReceiveCount": 5}),
    }
    clients("sqs", deployment.account).create_queue(QueueName=DELIVERIES, Attributes=attributes)
    events = clients("events", deployment.account)
    events.put_rule(Name=DELIVERIES, EventPattern=json.dumps(pattern(deployment)), State="ENABLED")
    events.put_targets(Rule=DELIVERIES, Targets=[{"Id": "queue", "Arn": queue}])
    return queue


def map_queue(deployment: Deployment, clients: Clients, queue: str, function: str) -> None:
    """Let Lambda pass the queue's messages to a function."""
    clients("lambda", deployment.account).create_event_source_mapping(
        EventSourceArn=queue,
        FunctionName=function,
        BatchSize=BATCH,
        MaximumBatchingWindowInSeconds=WINDOW_S,
        ScalingConfig={"MaximumConcurrency": 2},
    )
