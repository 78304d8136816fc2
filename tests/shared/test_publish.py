"""What a run publishes after its state is saved, and how often it saves the state for that."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import msgspec
import pytest

from shared.errors import Permanent
from shared.model import Key
from shared.monitor.months import Reach
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.notify.formats import Post
from shared.notify.webhook import Reply
from shared.publish import Publishing
from shared.request import parse_request
from shared.state.session import PAGE
from shared.state.store import STATE
from tests.shared.setting import QUIET, Setting

EXPORT = Key("s00001", "export", "daily")


def messages(answer: Callable[[], None] = lambda: None) -> Publishing:
    """Return what a function with a webhook publishes; `answer` is called with each message."""

    def send(url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        assert url
        assert post.body
        assert timeout_s > 0
        assert not local
        answer()
        return Reply(204)

    return Publishing(Wording("Memory", "scope", "scopes"), Reach(), Secret(lambda _: "https://hooks.example"), send)


def failing(publishing: Publishing | None) -> Setting:
    """Return an engine after a good run, whose next run fails to create an export."""
    setting = Setting(publishing=publishing)
    setting.run()
    setting.world.faults["write", "*"] = Permanent("refused", "no", "Look.")
    del setting.world.things[EXPORT]
    return setting


def test_publishing_nothing_costs_nothing() -> None:
    """Without a webhook, a page and announcements, no message is kept and the state is saved as often."""
    saved, metrics = [], []
    for publishing in (None, QUIET):
        setting = failing(publishing)
        before = setting.store.load(0, STATE).version
        metrics.append(setting.run().metrics)
        saved.append((before, setting.store.load(0, STATE).version))
        assert setting.memory().notices is None
    assert saved[0] == saved[1]
    assert metrics[0] == metrics[1]


def test_run_of_a_tenant_keeps_no_message() -> None:
    """Operators get one message for the whole round."""
    setting = failing(messages())
    before = setting.memory().notices
    setting.run_now(msgspec.structs.replace(parse_request({}), tenant="t1"))
    assert setting.memory().notices == before


def test_lock_is_free_after_messages_were_sent() -> None:
    """The state is saved once more, so that they are not sent again."""
    setting = failing(messages())
    setting.run()
    memory = setting.memory()
    assert memory.notices is not None
    assert [bool(one.sent_at) for one in memory.notices.box] == [True]
    assert memory.running is None


@pytest.mark.parametrize("announced", [False, True])
def test_state_that_cannot_be_saved_again_is_a_warning_for_what_was_published(announced: bool) -> None:
    """It names the messages, which may be sent again; or the deliveries, which are looked at again."""

    def full() -> None:
        setting.store.faults["save"] = Permanent("disk", "the disk is full")

    class Announcer:
        def catch_up(self, session: object) -> int:
            full()
            session.document.ledger = "other"  # type: ignore[attr-defined]  # a session of deliveries
            return 0

    setting = failing(None if announced else messages(full))
    setting.announcer = (lambda _: Announcer()) if announced else None  # type: ignore[assignment, return-value]  # has what is used of one
    assert setting.run().report["status"] == "degraded"
    lost = [event for _, event, fields in setting.lines if fields.get("code") == "disk"]
    assert lost == ["deliveries-unsaved" if announced else "notify-failed"]


def test_page_beside_the_state_has_no_changes_of_runs() -> None:
    """They are in the reports, of which a function can read none but its own."""
    setting = failing(QUIET)
    setting.settings = msgspec.structs.replace(setting.settings, publish_page=True)
    setting.run()
    page = setting.store.documents[PAGE].decode()
    found = re.findall(r'"runs":(\[.*?\}\])', page)
    assert found
    assert all(one["changes"] == [] for one in json.loads(found[0]))
