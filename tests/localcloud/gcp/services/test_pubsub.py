"""Pub/Sub of the local GCP: published messages, their limits, and the order of a subscription."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from localcloud.gcp.platform.deployment import EVENTS_KEPT
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import Clients

SUBSCRIPTION = "deliveries"


@pytest.fixture
def announcing(gcp: Clients) -> Clients:
    """Return the function's clients on a cloud with a topic of deliveries and a subscription that keeps their order."""
    gcp.cloud.announce_deliveries()
    return gcp


def publish(clients: Clients, text: str, key: str = "", **attributes: str) -> int:
    """Publish one message on the topic of deliveries; return the status."""
    message: dict[str, Any] = {"data": base64.b64encode(text.encode()).decode()}
    message |= {"orderingKey": key} if key else {}
    message |= {"attributes": attributes} if attributes else {}
    return clients.post(f"v1/{clients.cloud.deployment.delivery_topic}:publish", {"messages": [message]}).status_code


def pulled(clients: Clients, *, acknowledge: bool = True) -> list[str]:
    """Return the texts that the subscription gets now."""
    found = clients.cloud.published(SUBSCRIPTION, acknowledge)
    return [base64.b64decode(one["data"]).decode() for one in found]


def test_a_message_keeps_its_data_key_and_attributes(announcing: Clients) -> None:
    """The subscription gets what was published, once."""
    assert publish(announcing, "one", "key", color="red") == 200
    (message,) = announcing.cloud.published()
    assert base64.b64decode(message["data"]) == b"one"
    assert (message["orderingKey"], message["attributes"]) == ("key", {"color": "red"})
    assert pulled(announcing) == []


def test_messages_of_one_key_keep_their_order_although_they_arrive_in_another(announcing: Clients) -> None:
    """A later message waits for an earlier one that is delayed or not acknowledged; other keys do not wait."""
    cloud = announcing.cloud
    cloud.event_faults(delay_s=60)
    publish(announcing, "first", "a")
    cloud.event_faults()
    publish(announcing, "second", "a")
    publish(announcing, "other", "b")
    assert pulled(announcing) == ["other"]
    cloud.advance(60)
    assert pulled(announcing, acknowledge=False) == ["first", "second"]
    publish(announcing, "third", "a")
    assert pulled(announcing) == []
    cloud.advance(600)
    assert pulled(announcing) == ["first", "second", "third"]


def test_a_reader_creates_a_subscription_to_an_existing_topic(announcing: Clients, operator: Clients) -> None:
    """It gets what is published from then on, in order if it asks for it; its name can be taken once."""
    topic = operator.cloud.deployment.delivery_topic
    path = f"v1/projects/{operator.cloud.project}/subscriptions/mine"
    assert publish(announcing, "before") == 200
    url, body = f"{operator.cloud.endpoint}/{path}", dict[str, Any](topic=topic, enableMessageOrdering=True)
    assert [operator.session.put(url, json=body, timeout=HANG_S).status_code for _ in range(2)] == [200, 409]
    absent = operator.session.put(f"{url}-too", json={"topic": f"{topic}-absent"}, timeout=HANG_S)
    assert absent.status_code == 404
    assert publish(announcing, "after", "key") == 200
    (message,) = operator.cloud.published("mine")
    assert base64.b64decode(message["data"]) == b"after"
    assert operator.cloud.world.pubsub.subscriptions[path.removeprefix("v1/")].ordered
    assert announcing.session.put(f"{url}-three", json=body, timeout=HANG_S).status_code == 403


def test_topics_and_subscriptions_are_shown(announcing: Clients, operator: Clients) -> None:
    """With their settings, to those who may read them; one that does not exist is 404."""
    cloud = operator.cloud
    topic, name = cloud.deployment.delivery_topic, f"projects/{cloud.project}/subscriptions/{SUBSCRIPTION}"
    push = f"{cloud.deployment.subscription}-push"
    assert operator.get(f"v1/{topic}").json() == {"name": topic, "state": "ACTIVE"}
    shown = operator.get(f"v1/{name}").json()
    assert (shown["topic"], shown["enableMessageOrdering"], shown["pushConfig"]) == (topic, True, {})
    pushed = operator.get(f"v1/{push}").json()
    assert pushed["pushConfig"]["oidcToken"] == {"serviceAccountEmail": cloud.deployment.events}
    assert pushed["messageRetentionDuration"] == f"{int(EVENTS_KEPT.total_seconds())}s"
    for path in (f"v1/{topic}-absent", f"v1/{name}-absent"):
        assert operator.get(path).status_code == 404
    for path in (f"v1/{topic}", f"v1/{name}"):
        assert announcing.get(path).status_code == 403


@pytest.mark.parametrize(
    ("key", "attributes", "status"),
    [
        ("k" * 1024, {}, 200),
        ("k" * 1025, {}, 400),
        ("", {"n" * 256: "v" * 1024}, 200),
        ("", {"n" * 257: "v"}, 400),
        ("", {"n": "v" * 1025}, 400),
        ("", {f"n{number}": "v" for number in range(101)}, 400),
    ],
)
def test_limits_of_a_message(announcing: Clients, key: str, attributes: dict[str, str], status: int) -> None:
    """The limits that Google documents for keys and attributes."""
    assert publish(announcing, "text", key, **attributes) == status


def test_malformed_requests_publish_nothing(announcing: Clients) -> None:
    """No messages, an empty message, and data that is not base64."""
    path = f"v1/{announcing.cloud.deployment.delivery_topic}:publish"
    malformed: list[list[dict[str, str]]] = [[], [{}], [{"data": "?"}]]
    for messages in malformed:
        assert announcing.post(path, {"messages": messages}).status_code == 400
    assert pulled(announcing) == []


def test_only_who_may_publish_reaches_an_existing_topic(announcing: Clients, operator: Clients) -> None:
    """Another identity is refused; a topic that does not exist is not found."""
    announcing.cloud.deny("pubsub.topics.publish", identity=announcing.cloud.deployment.identity)
    assert publish(announcing, "text") == 403
    path = f"v1/projects/{operator.cloud.project}/topics/absent:publish"
    assert operator.post(path, {"messages": [{"data": "eA=="}]}).status_code == 404
