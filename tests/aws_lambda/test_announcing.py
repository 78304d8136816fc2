"""Manifests reach the collector through S3's events, and it announces them within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.sqs.models import sqs_backends

from aws_lambda import collector
from aws_lambda.collector import NotAnnounced
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_deliveries import DELIVERIES, make_rule
from localcloud.aws.platform.deployment import FUNCTION
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import EXPORT, HOUR, Lines, local_aws, run

MANIFEST = f"dataexport/{EXPORT}/metadata/BILLING_PERIOD=2026-11/{EXPORT}-Manifest.json"


class Context:
    """The part of Lambda's context that the collector reads."""

    def __init__(self, cloud: LocalAws) -> None:
        self.invoked_function_arn = f"arn:aws:lambda:{cloud.region}:{cloud.account}:function:collector"

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def cloud() -> Iterator[LocalAws]:
    """Return a standalone account that announces deliveries, whose export has not delivered yet."""
    with local_aws(accounts=1, kind="standalone", deliveries=True) as cloud:
        cloud.client("sqs").create_queue(QueueName=f"{FUNCTION}-failed")
        make_rule(cloud.deployment, cloud.client, 360)
        run(cloud)
        yield cloud


@pytest.fixture
def subscriber(cloud: LocalAws) -> Subscriber:
    """Return a subscriber of the topic."""
    return Subscriber(cloud)


def batch(cloud: LocalAws) -> dict[str, Any]:
    """Take all messages from the queue of S3's events, as Lambda does."""
    queue = sqs_backends[cloud.account][cloud.region].queues[DELIVERIES]
    bodies = [message.body for message in queue.messages]
    queue._messages.clear()
    return {"Records": [{"body": body, "eventSourceARN": queue.queue_arn} for body in bodies]}


def invoke(cloud: LocalAws, event: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Invoke the collector as Lambda does."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    context: Any = Context(cloud)
    return collector.handler(event, context, clock=cloud.clock)


def deliver(cloud: LocalAws) -> None:
    """Let an hour pass, then deliver."""
    cloud.advance(HOUR)
    cloud.deliver()


def test_a_manifest_is_announced_by_its_event(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 reports the manifest alone to the queue; the run that follows finds nothing left to announce."""
    deliver(cloud)
    event = batch(cloud)
    (record,) = event["Records"]
    assert json.loads(record["body"])["detail"]["object"]["key"] == MANIFEST
    assert invoke(cloud, event, monkeypatch) == {"deliveries": 1, "refused": 0}
    (published,) = subscriber.received()
    assert published["data"]["period"] == "2026-11"
    lines = Lines()
    done = run(cloud, sink=lines)
    assert {one.name: one.value for one in done.metrics}["deliveries_unannounced"] == 0
    assert subscriber.received() == []
    assert "delivery-announced" not in [line[1] for line in lines.lines]


def test_repeated_late_and_refused_events_change_nothing(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each delivery is published once, in order, whatever the events say and however often they come."""
    deliver(cloud)
    first = batch(cloud)["Records"]
    invoke(cloud, {"Records": first * 3}, monkeypatch)
    deliver(cloud)
    second = batch(cloud)["Records"]
    forged = [{**first[0], "body": body} for body in ("{", json.dumps({"source": "x"}))]
    assert invoke(cloud, {"Records": [*second, *first, *forged]}, monkeypatch) == {"deliveries": 1, "refused": 2}
    invoke(cloud, {"Records": first}, monkeypatch)
    assert [one["data"]["sequence"] for one in subscriber.received()] == [1, 2]


def test_a_topic_that_refuses_returns_the_batch_to_the_queue(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document is stored, and the next attempt publishes it under the same id."""
    deliver(cloud)
    event = batch(cloud)
    cloud.fault("sns", "Publish", "AuthorizationError", times=None)
    with pytest.raises(NotAnnounced, match="1 of 1 periods"):
        invoke(cloud, event, monkeypatch)
    cloud.clear_faults()
    invoke(cloud, event, monkeypatch)
    assert [one["data"]["sequence"] for one in subscriber.received()] == [1]


def test_an_incomplete_delivery_waits_for_its_next_event(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure: the batch is done, and nothing is published."""
    deliver(cloud)
    event = batch(cloud)
    s3 = cloud.client("s3")
    key = MANIFEST.replace("metadata", "data").replace("-Manifest.json", "-00001.csv.gz")
    s3.delete_object(Bucket=cloud.deployment.bucket, Key=key)
    assert invoke(cloud, event, monkeypatch) == {"deliveries": 1, "refused": 0}
    assert subscriber.received() == []


def test_the_event_of_a_deleted_manifest_is_harmless(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a manifest and without files there is nothing to announce."""
    deliver(cloud)
    event = batch(cloud)
    s3 = cloud.client("s3")
    for one in s3.list_objects_v2(Bucket=cloud.deployment.bucket, Prefix="dataexport/")["Contents"]:
        s3.delete_object(Bucket=cloud.deployment.bucket, Key=one["Key"])
    assert invoke(cloud, event, monkeypatch) == {"deliveries": 1, "refused": 0}
    assert subscriber.received() == []


def test_without_deltas_the_collector_announces_nothing(
    cloud: LocalAws, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue that is left over from before does no harm."""
    deliver(cloud)
    event = batch(cloud)
    monkeypatch.setattr(
        cloud, "environment", lambda: {**type(cloud).environment(cloud), "DELTAS": "", "DELIVERY_TOPIC": ""}
    )
    invoke(cloud, event, monkeypatch)
    assert subscriber.received() == []


def test_expiring_documents_are_no_harm(cloud: LocalAws) -> None:
    """The deployment lets the documents of single deliveries expire, and no rule below the exports but that."""
    rules = cloud.client("s3").get_bucket_lifecycle_configuration(Bucket=cloud.deployment.bucket)["Rules"]
    assert rules[0]["Filter"] == {"Prefix": "dataexport/deltas/"}
    report = run(cloud).report
    assert (report["status"], report["manual"]) == ("ok", [])
