"""S3's events of objects reach the rules of the bucket's owner, in the bucket's region, if the bucket sends them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.sqs.models import sqs_backends

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.iam.sessions import client_in, document


@pytest.fixture
def cloud() -> Any:
    """Return a local AWS on a virtual clock whose bucket sends events."""
    with LocalAws(accounts=2, clock=VirtualClock()) as cloud:
        cloud.client("s3").put_bucket_notification_configuration(
            Bucket=cloud.deployment.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        yield cloud


def watch(cloud: LocalAws, region: str) -> None:
    """Put all events of S3's objects on a region's bus into a queue of that region."""
    arn = f"arn:aws:sqs:{region}:{cloud.account}:objects"
    allow = {"Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}
    for service in ("sqs", "events"):
        client = client_in(cloud, service, region)
        if service == "sqs":
            client.create_queue(QueueName="objects", Attributes={"Policy": document(allow)})
        else:
            pattern = {"source": ["aws.s3"], "detail-type": ["Object Created", "Object Deleted"]}
            client.put_rule(Name="objects", EventPattern=json.dumps(pattern))
            client.put_targets(Rule="objects", Targets=[{"Id": "q", "Arn": arn}])
        client.close()


def seen(cloud: LocalAws, region: str) -> list[dict[str, Any]]:
    """Return the events in the queue, oldest first."""
    return [json.loads(one.body) for one in sqs_backends[cloud.account][region].queues["objects"]._messages]


def test_created_copied_and_deleted_objects_are_reported(cloud: LocalAws) -> None:
    """Each event names bucket, key and reason; only creations have a size."""
    watch(cloud, cloud.region)
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"12345")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a b+c"})
    s3.delete_object(Bucket=bucket, Key="a b+c")
    found = [
        (one["detail-type"], one["detail"]["reason"], one["detail"]["object"]) for one in seen(cloud, cloud.region)
    ]
    assert [(kind, reason, stored["key"], stored.get("size")) for kind, reason, stored in found] == [
        ("Object Created", "PutObject", "a b+c", 5),
        ("Object Created", "CopyObject", "copy", 5),
        ("Object Deleted", "DeleteObject", "a b+c", None),
    ]
    first = seen(cloud, cloud.region)[0]
    assert (first["account"], first["region"]) == (cloud.account, cloud.region)
    assert first["detail"]["bucket"] == {"name": bucket}
    numbers = [stored["sequencer"] for _, _, stored in found]
    assert numbers == sorted(set(numbers))


def test_another_region_and_a_bucket_that_sends_none_are_silent(cloud: LocalAws) -> None:
    """Events stay in the bucket's region, and have to be switched on."""
    watch(cloud, "us-east-1")
    watch(cloud, cloud.region)
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key="a", Body=b"1")
    assert (len(seen(cloud, "us-east-1")), len(seen(cloud, cloud.region))) == (0, 1)
    cloud.client("s3").put_bucket_notification_configuration(
        Bucket=cloud.deployment.bucket, NotificationConfiguration={}
    )
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key="b", Body=b"1")
    assert len(seen(cloud, cloud.region)) == 1


def test_events_of_objects_are_disturbed_as_others_are(cloud: LocalAws) -> None:
    """They come twice, or not at all."""
    watch(cloud, cloud.region)
    cloud.event_faults(copies=2)
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key="a", Body=b"1")
    cloud.event_faults(loss=1)
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key="b", Body=b"1")
    assert [one["detail"]["object"]["key"] for one in seen(cloud, cloud.region)] == ["a", "a"]


def test_the_switch_for_eventbridge_is_returned_as_it_was_set(cloud: LocalAws) -> None:
    """Terraform compares it with the configuration, and an operator imports it."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    assert s3.get_bucket_notification_configuration(Bucket=bucket)["EventBridgeConfiguration"] == {}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket=bucket)
