"""The SNS topic of deliveries: order, duplicates, limits and refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from aws_lambda.clients import RATES, warm_clients
from aws_lambda.delivery_topic import DeliveryTopic
from aws_lambda.errors import translate
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from shared.deliveries.document import EVENT_LIMIT
from shared.errors import CloudError, Denied, NotFound
from shared.runtime.context import RunContext
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import Lines, local_aws

LONG = "dataset/" * 40  # longer than an id of a message group may be


@pytest.fixture
def cloud() -> Iterator[LocalAws]:
    """Return a standalone account."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        yield cloud


@pytest.fixture
def subscriber(cloud: LocalAws) -> Subscriber:
    """Return a subscriber of the topic."""
    return Subscriber(cloud)


def topic(cloud: LocalAws, arn: str) -> DeliveryTopic:
    """Return a topic in the local cloud."""
    settings = read_settings(cloud.environment())
    context = RunContext("aws", settings.engine, Lines(), cloud.clock, 900, RATES, translate, seed=1)
    return DeliveryTopic(arn, warm_clients(settings, cloud.environment()), context)


def event(number: int) -> bytes:
    """Return an event that says its number."""
    return json.dumps({"number": number}).encode()


def test_events_of_a_series_keep_their_order_and_a_repeated_id_is_dropped(
    cloud: LocalAws, subscriber: Subscriber
) -> None:
    """An event that two processes publish at once arrives once."""
    found = topic(cloud, subscriber.topic)
    for number in (1, 2, 2, 3):
        found.publish(event(number), f"id-{number}", LONG)
    assert subscriber.received() == [{"number": number} for number in (1, 2, 3)]


def test_the_largest_event_is_accepted(cloud: LocalAws, subscriber: Subscriber) -> None:
    """SNS takes 256 KB, the document's limit is below."""
    largest = json.dumps({"text": "x" * (EVENT_LIMIT - 20)}).encode()
    topic(cloud, subscriber.topic).publish(largest, "id", "key")
    assert len(subscriber.received()) == 1


@pytest.mark.parametrize(("code", "kind"), [("AuthorizationError", Denied), ("NotFound", NotFound)])
def test_a_refusal_names_the_topic_and_what_to_do(
    cloud: LocalAws, subscriber: Subscriber, code: str, kind: type[CloudError]
) -> None:
    """The deployment owns both the topic and the right to publish to it."""
    cloud.fault("sns", "Publish", code, times=None)
    with pytest.raises(kind) as caught:
        topic(cloud, subscriber.topic).publish(b"{}", "id", "key")
    assert subscriber.topic in caught.value.message
    assert caught.value.remedy.startswith("Apply the deployment again")


def test_an_event_is_published_again_after_a_passing_error(cloud: LocalAws, subscriber: Subscriber) -> None:
    """The engine's retries apply to the topic too."""
    cloud.fault("sns", "Publish", "InternalError", status=500, times=1)
    topic(cloud, subscriber.topic).publish(event(1), "id-1", "key")
    assert subscriber.received() == [{"number": 1}]
