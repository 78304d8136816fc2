"""Services' events, disturbed or not, and the mapping that hands a queue's messages to a function."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.iam.sessions import client_in, document
from tests.localcloud.aws.runtime.zips import ECHO, RAISE, create_function

EVENTS = {"Service": "events.amazonaws.com"}
READS = {"Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "Resource": "*"}
PATTERN = {"source": ["aws.s3"], "detail": {"eventName": ["DeleteBucketPolicy", "PutBucketPolicy"]}}


@pytest.fixture
def virtual() -> Any:
    """Return a local AWS on a virtual clock."""
    with LocalAws(accounts=3, clock=VirtualClock()) as cloud:
        yield cloud


def queue_with_rule(cloud: LocalAws, region: str) -> str:
    """Make a queue in the cloud's region and a rule for the bucket's events in `region`; return the queue's ARN."""
    arn = f"arn:aws:sqs:{cloud.region}:{cloud.account}:events"
    allow = {"Principal": EVENTS, "Action": "sqs:SendMessage", "Resource": arn}
    cloud.client("sqs").create_queue(
        QueueName="events", Attributes={"Policy": document(allow), "VisibilityTimeout": "180"}
    )
    events = client_in(cloud, "events", region)
    events.put_rule(Name="bucket", EventPattern=json.dumps(PATTERN))
    events.put_targets(Rule="bucket", Targets=[{"Id": "q", "Arn": arn}])
    events.close()
    return arn


def waiting(cloud: LocalAws) -> int:
    """Return how many messages can be received."""
    answer = cloud.client("sqs").get_queue_attributes(
        QueueUrl=f"{cloud.endpoint}/{cloud.account}/events", AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def mapped(cloud: LocalAws, queue: str, source: str = ECHO, **more: Any) -> None:
    """Make a function and the mapping of the queue to it."""
    functions = create_function(cloud, source, READS)
    settings = {"BatchSize": 10_000, "MaximumBatchingWindowInSeconds": 60, **more}
    functions.create_event_source_mapping(EventSourceArn=queue, FunctionName="function", **settings)


@pytest.mark.parametrize(("region", "count"), [("eu-west-1", 2), ("us-east-1", 0)])
def test_a_call_is_recorded_in_its_own_region_only(virtual: LocalAws, region: str, count: int) -> None:
    """A rule on another region's bus gets nothing; the record names who called and the bucket."""
    queue_with_rule(virtual, region)
    virtual.client("s3").delete_bucket_policy(Bucket=virtual.deployment.bucket)
    virtual.remove_bucket_policy()
    assert waiting(virtual) == count


def test_a_record_says_who_called_and_whether_it_was_refused(virtual: LocalAws) -> None:
    """Rules tell a role's own writes and refused calls by these fields."""
    queue_with_rule(virtual, virtual.region)
    virtual.deny("s3:DeleteBucketPolicy")
    with pytest.raises(ClientError):
        virtual.client("s3").delete_bucket_policy(Bucket=virtual.deployment.bucket)
    url = f"{virtual.endpoint}/{virtual.account}/events"
    (message,) = virtual.client("sqs").receive_message(QueueUrl=url)["Messages"]
    detail = json.loads(message["Body"])["detail"]
    assert detail["errorCode"] == "AccessDenied"
    assert detail["userIdentity"]["type"] == "IAMUser"
    assert detail["requestParameters"]["bucketName"] == virtual.deployment.bucket


def test_events_come_late_twice_reversed_or_not_at_all(virtual: LocalAws) -> None:
    """Delays are on the local clock, and lost events are counted."""
    queue_with_rule(virtual, virtual.region)
    virtual.event_faults(delay_s=90, copies=2)
    virtual.remove_bucket_policy()
    virtual.settle_events()
    assert waiting(virtual) == 0
    virtual.advance(90)
    virtual.settle_events()
    assert waiting(virtual) == 2
    virtual.event_faults(delay_s=2)
    virtual.client("s3").put_bucket_policy(Bucket=virtual.deployment.bucket, Policy=document_of_bucket(virtual))
    virtual.event_faults(delay_s=1)
    virtual.client("s3").delete_bucket_policy(Bucket=virtual.deployment.bucket)
    assert waiting(virtual) == 2
    virtual.advance(2)
    virtual.settle_events()
    assert waiting(virtual) == 4
    names = [json.loads(one.body)["detail"]["eventName"] for one in messages(virtual)]
    assert names[2:] == ["DeleteBucketPolicy", "PutBucketPolicy"]
    virtual.event_faults(loss=1)
    virtual.remove_bucket_policy()
    assert (virtual.event_faults()["lost"], waiting(virtual)) == (1, 4)


def document_of_bucket(cloud: LocalAws) -> str:
    """Return the bucket's policy as the deployment sets it."""
    return json.dumps(cloud.deployment.bucket_policy())


def messages(cloud: LocalAws) -> list[Any]:
    """Return moto's messages of the queue, the oldest first."""
    from moto.sqs.models import sqs_backends

    return list(sqs_backends[cloud.account][cloud.region].queues["events"]._messages)


def test_a_batch_is_handed_over_when_its_window_has_passed(virtual: LocalAws) -> None:
    """All messages of the window come in one invocation, and are gone when the function has ended."""
    mapped(virtual, queue_with_rule(virtual, virtual.region))
    for _ in range(3):
        virtual.remove_bucket_policy()
    virtual.settle_events()
    assert waiting(virtual) == 3
    virtual.advance(60)
    virtual.settle_events()
    assert (waiting(virtual), len(messages(virtual))) == (0, 0)


def test_a_batch_that_fails_stays_in_the_queue(virtual: LocalAws) -> None:
    """It is invisible until its visibility timeout has passed, and not lost."""
    mapped(virtual, queue_with_rule(virtual, virtual.region), RAISE)
    virtual.remove_bucket_policy()
    virtual.advance(60)
    virtual.settle_events()
    assert (waiting(virtual), len(messages(virtual))) == (0, 1)


@pytest.mark.parametrize(
    ("more", "why"),
    [({"MaximumBatchingWindowInSeconds": 0}, "batch window"), ({"visibility": "10"}, "visibility timeout")],
)
def test_a_mapping_that_aws_refuses_is_refused(virtual: LocalAws, more: dict[str, Any], why: str) -> None:
    """A large batch needs a window, and a message must stay invisible for as long as the function may run."""
    queue = queue_with_rule(virtual, virtual.region)
    if "visibility" in more:
        url = f"{virtual.endpoint}/{virtual.account}/events"
        attributes = {"VisibilityTimeout": more.pop("visibility")}
        virtual.client("sqs").set_queue_attributes(QueueUrl=url, Attributes=attributes)
    with pytest.raises(ClientError, match=why):
        mapped(virtual, queue, **more)
