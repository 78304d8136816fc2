"""Deliveries to the webhook: machines get each of them, chats none, and no failure is silent."""

from __future__ import annotations

import json

import pytest

from shared.errors import CloudError, Denied
from shared.notify.delivery import Secret
from shared.notify.formats import Post, signature
from shared.notify.topic import WebhookTopic
from shared.notify.webhook import Reply
from tests.shared.setting import Setting

URL = "https://receiver.example/hook/9f8e7d6c5b4a"
EVENT = b'{"specversion":"1.0","id":"42"}'


class Receiver:
    """A webhook that answers with `status`; `secrets` are what the secret holds, the last one from now on."""

    def __init__(self, *secrets: dict[str, str], status: int = 204) -> None:
        self.secrets = [json.dumps(one) for one in secrets]
        self.status = status
        self.posts: list[tuple[str, Post]] = []
        self.read_again = 0
        self.setting = Setting()
        self.topic = WebhookTopic(Secret(self.read), self.setting.new_run(), self.send)

    def read(self, again: bool) -> str:
        """Return the secret; read again, it is the next one."""
        self.read_again += again
        if again and len(self.secrets) > 1:
            self.secrets.pop(0)
        return self.secrets[0]

    def send(self, url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        """Take a post."""
        assert 1 <= timeout_s <= 10
        assert not local
        self.posts.append((url, post))
        return Reply(self.status)


def test_machine_gets_the_event_as_it_is_signed() -> None:
    """The body is the event; id, time and signature are those of Standard Webhooks."""
    receiver = Receiver({"url": URL, "key": "k", "format": "cloudevents"})
    receiver.topic.publish(EVENT, "42", "a")
    ((url, post),) = receiver.posts
    assert (url, post.body) == (URL, EVENT)
    stamp = post.headers["webhook-timestamp"]
    assert int(stamp) == int(receiver.setting.clock.now().timestamp())
    assert post.headers == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": "42",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature('k', '42', stamp, EVENT)}",
    }


@pytest.mark.parametrize("chat", ["slack", "teams"])
def test_chat_gets_no_deliveries(chat: str) -> None:
    """Its readers are people."""
    receiver = Receiver({"url": URL, "format": chat})
    receiver.topic.publish(EVENT, "42", "a")
    assert receiver.posts == []


@pytest.mark.parametrize(
    ("status", "code"), [(500, "notify-refused"), (400, "notify-refused"), (302, "notify-redirected")]
)
def test_refusal_is_an_error_and_a_corrected_secret_counts_for_the_next_event(status: int, code: str) -> None:
    """The event is published again by the next run."""
    receiver = Receiver(
        {"url": URL, "format": "cloudevents"}, {"url": f"{URL}2", "format": "cloudevents"}, status=status
    )
    with pytest.raises(CloudError) as raised:
        receiver.topic.publish(EVENT, "42", "a")
    assert raised.value.code == code
    assert URL not in raised.value.message
    receiver.status = 200
    receiver.topic.publish(EVENT, "42", "a")
    assert [url for url, _ in receiver.posts] == [URL, f"{URL}2"]


def test_no_time_left_is_an_error_without_a_call() -> None:
    """The next run sends it."""
    receiver = Receiver({"url": URL, "format": "cloudevents"})
    receiver.setting.clock.advance(receiver.setting.seconds)
    with pytest.raises(CloudError) as raised:
        receiver.topic.publish(EVENT, "42", "a")
    assert (raised.value.code, receiver.posts) == ("deadline", [])


def test_unreadable_secret_is_an_error() -> None:
    """It is the cloud's."""

    def denied(_again: bool) -> str:
        raise Denied("access-denied", "no")

    topic = WebhookTopic(Secret(denied), Setting().new_run())
    with pytest.raises(Denied):
        topic.publish(EVENT, "42", "a")
