"""After a round, operators get one message about the tenants whose status has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.errors import Transient
from shared.notify.delivery import Secret
from shared.notify.formats import Post
from shared.notify.webhook import Reply
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from shared.state.notices import Notices
from shared.tenants.messages import MESSAGES, announce_round, record_round
from shared.tenants.rounds import NOT_RUN
from tests.cli.tenants.support import MemoryDocuments

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DENIED = {"code": "tenant-unreachable", "message": "AssumeRole was denied", "remedy": "Accept the invitation."}


def report(number: int = 0, **statuses: str) -> dict[str, Any]:
    """Return the report of a round with the status of each tenant."""
    rows = [
        {"tenant": tenant, "status": status, "failures": [] if status == "ok" else [DENIED]}
        for tenant, status in statuses.items()
    ]
    return {"round": f"20260105T0{number}0000Z-00000000", "cloud": "aws", "rows": rows}


class Webhook:
    """A receiver that answers with a status, or fails."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.bodies: list[dict[str, Any]] = []
        self.ids: list[str] = []

    def __call__(self, url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        if self.status == 0:
            raise Transient("notify-unreachable", "no answer", "Look.")
        self.bodies.append(msgspec.json.decode(post.body))
        self.ids.append(post.headers["webhook-id"])
        return Reply(self.status)


def end(documents: MemoryDocuments, webhook: Webhook, found: dict[str, Any], lines: list[Any] | None = None) -> int:
    """End a round: tell the webhook, and return what is left."""
    sink = lambda *line: lines.append(line) if lines is not None else None  # noqa: E731 - one expression
    clock = VirtualClock(NOW + timedelta(hours=int(found["round"][9:11])))
    run = RunContext("aws", EngineSettings(), sink, clock, 60.0, {}, lambda error: error)  # type: ignore[arg-type,return-value]  # no call uses it
    secret = Secret(lambda _fresh: '{"url": "https://hooks.example.com/1", "format": "cloudevents"}')
    return announce_round(documents, found, "AWS", "999988887777", secret, run, webhook)


def test_one_message_names_all_tenants_that_changed() -> None:
    """What is wrong comes first; a tenant that was ok from the beginning is no news."""
    documents, webhook = MemoryDocuments(), Webhook()
    assert end(documents, webhook, report(a="ok", b="unreachable", c="failed", d="ok")) == 0
    assert len(webhook.bodies) == 1
    data = webhook.bodies[0]["data"]
    assert webhook.bodies[0]["type"] == "io.tailpipe.exports.tenants.changed.v1"
    assert data["title"] == "AWS: 2 tenants changed: 1 unreachable, 1 failed"
    assert data["lines"][0] == "b: ok → unreachable (tenant-unreachable): AssumeRole was denied. Accept the invitation."
    assert end(documents, webhook, report(1, a="ok", b="unreachable", c="failed", d="ok")) == 0
    assert len(webhook.bodies) == 1
    assert end(documents, webhook, report(2, a="degraded", b="ok", c="failed", d="ok")) == 0
    assert webhook.bodies[1]["data"]["title"] == "AWS: 2 tenants changed: 1 degraded, 1 ok again"


def test_message_that_was_not_accepted_is_sent_with_the_next_round() -> None:
    """It keeps its id, and the new change gets a message of its own."""
    documents, webhook, lines = MemoryDocuments(), Webhook(0), list[Any]()
    assert end(documents, webhook, report(a="failed"), lines) == 1
    assert [line[1] for line in lines] == ["notify-failed"]
    first = msgspec.json.decode(documents.stored[MESSAGES][0], type=Notices).box[0].id
    webhook.status = 200
    assert end(documents, webhook, report(1, a="ok")) == 0
    assert webhook.ids[0] == first
    assert len(set(webhook.ids)) == 2
    assert end(documents, webhook, report(2, a="ok")) == 0
    assert len(webhook.ids) == 2


def test_repeated_end_of_a_round_sends_nothing_again() -> None:
    """Engines may call it twice."""
    documents, webhook = MemoryDocuments(), Webhook()
    for _ in range(2):
        assert end(documents, webhook, report(a="failed")) == 0
    assert len(webhook.bodies) == 1


@pytest.mark.parametrize(
    ("before", "after", "still"),
    [
        ({"a": "failed"}, {"a": NOT_RUN}, {"failed": ["a"]}),  # not run: it keeps its status
        ({"a": "failed"}, {}, {}),  # paused or removed: it is forgotten
        ({}, {"a": NOT_RUN}, {}),  # not run yet
        ({}, {"a": "ok"}, {}),
    ],
)
def test_tenant_without_a_run_is_no_news(before: dict[str, str], after: dict[str, str], still: dict[str, Any]) -> None:
    """No message is made."""
    known = record_round(Notices(NOW), report(0, **before), "AWS", "o", NOW)
    found = record_round(known, report(1, **after), "AWS", "o", NOW + timedelta(hours=1))
    assert (len(found.box) - len(known.box), found.open) == (0, still)


def test_many_changes_are_cut_with_their_number() -> None:
    """A message has twelve lines and the number of the others."""
    found = record_round(Notices(NOW), report(0, **{f"t{number}": "failed" for number in range(500)}), "AWS", "o", NOW)
    assert len(found.box) == 1
    assert (len(found.box[0].lines), found.box[0].count) == (13, 500)
    assert found.box[0].lines[-1] == "488 more: see `tailpipe-exports history aws --all-tenants`."


def test_damaged_document_costs_one_message_too_many() -> None:
    """The next message says where things stand."""
    documents, webhook = MemoryDocuments(), Webhook()
    documents.stored[MESSAGES] = (b"{", NOW)
    assert end(documents, webhook, report(a="failed")) == 0
    assert webhook.bodies[0]["data"]["title"] == "AWS: 1 tenant changed: 1 failed"


def test_storage_that_fails_costs_no_report() -> None:
    """It is logged, and the message is made again by the next round."""

    class Full(MemoryDocuments):
        """Documents that cannot be written."""

        def put(self, document: str, data: bytes, content_type: str) -> str:
            raise Transient("Busy", "no room", "Wait.")

    lines: list[Any] = []
    assert end(Full(), Webhook(), report(a="failed"), lines) == 1
    assert [line[1] for line in lines] == ["notify-failed"]
