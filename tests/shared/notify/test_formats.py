"""A message in each receiver's own format."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.notify.formats import FORMATS, Source, format_of
from shared.state.notices import Notice
from tests.shared.builders import START

NOTICE = Notice(
    "0123456789abcdef",
    START,
    "failure.opened",
    "AWS: 7 accounts are failing: storage-firewall",
    ["the <firewall> refuses it & more", "Open *it*."],
    "storage-firewall",
    7,
    ["[prod](https://evil.example) (1)", "<!channel> (2)"],
    "docs/runbook.md#:~:text=storage-firewall",
)
SOURCE = Source("aws", "o-exampleorgid")


def written(name: str, notice: Notice = NOTICE, key: str = "") -> tuple[dict[str, Any], dict[str, str], bytes]:
    """Return a message's document, headers and body."""
    post = FORMATS[name](notice, SOURCE, key, START + timedelta(hours=1))
    return json.loads(post.body), dict(post.headers), post.body


def test_slack_blocks_contain_no_mentions_or_links() -> None:
    """Slack's three control characters are escaped, and its automatic parsing is off."""
    document, headers, body = written("slack")
    assert headers == {"content-type": "application/json"}
    assert document["text"] == NOTICE.title
    kinds = [one["type"] for one in document["blocks"]]
    assert kinds == ["header", "section", "section", "context"]
    assert document["blocks"][1]["text"]["text"] == "the &lt;firewall&gt; refuses it &amp; more\nOpen *it*."
    assert document["blocks"][2]["text"]["text"].endswith("&lt;!channel&gt; (2) and 5 more")
    assert all(one["text"]["verbatim"] for one in document["blocks"] if one["type"] == "section")
    assert b"<" not in body


def test_slack_texts_are_cut_to_its_limits() -> None:
    """A header has 150 characters and a section 3,000, counted after escaping."""
    long = Notice("a", START, "changes", "&" * 400, ["<" * 400] * 12, examples=["x" * 290] * 5, count=9)
    document, _, _ = written("slack", long)
    assert len(document["blocks"][0]["text"]["text"]) <= 150
    assert all(len(one["text"]["text"]) <= 3000 for one in document["blocks"] if one["type"] == "section")


@pytest.mark.parametrize("letter", ["x", "&", "😀"])
def test_omitted_lines_are_counted_and_no_entity_is_cut(letter: str) -> None:
    """Slack limits the escaped text, Teams the whole card."""
    notice = msgspec.structs.replace(NOTICE, lines=[letter * 600] * 40, count=900, examples=[letter * 300] * 40)
    (section, *_) = [one["text"]["text"] for one in written("slack", notice)[0]["blocks"] if one["type"] == "section"]
    *lines, last = section.split("\n")
    assert last == f"… and {40 - len(lines)} more lines"
    assert len(section) <= 3000
    assert all(len(html.unescape(line)) == 500 and "&am…" not in line for line in lines)
    card, _, body = written("teams", notice)
    assert len(body) < 28_000
    assert card["attachments"][0]["content"]["body"][-2]["inlines"][0]["text"].endswith("more lines")


def test_teams_card_contains_no_markdown() -> None:
    """It is one attachment; every text is a TextRun, which has no links."""
    document, _, body = written("teams")
    assert document["type"] == "message"
    (attachment,) = document["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
    runs = [run for block in card["body"] for run in block["inlines"]]
    assert {run["type"] for run in runs} == {"TextRun"}
    assert runs[0]["text"] == NOTICE.title
    assert "7" not in runs[-1]["text"] or "storage-firewall" in runs[-1]["text"]
    assert len(body) < 28_000


def test_other_endpoints_get_a_cloud_event_signed_over_id_time_and_body() -> None:
    """The signature is that of Standard Webhooks, with either form of key."""
    secret = base64.b64encode(b"a key of some length").decode()
    for key, raw in ((f"whsec_{secret}", b"a key of some length"), ("plain key", b"plain key")):
        document, headers, body = written("cloudevents", key=key)
        assert document["specversion"] == "1.0"
        assert document["id"] == headers["webhook-id"] == NOTICE.id
        assert document["type"] == "io.tailpipe.exports.failure.opened.v1"
        assert document["source"] == "/tailpipe-exports/aws/o-exampleorgid"
        assert document["time"] == "2026-01-05T00:00:00Z"
        assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
        assert headers["webhook-timestamp"] == str(int((START + timedelta(hours=1)).timestamp()))
        signed = f"{NOTICE.id}.{headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
    assert "webhook-signature" not in written("cloudevents")[1]


@pytest.mark.parametrize("name", FORMATS)
def test_name_that_is_not_valid_unicode_is_replaced(name: str) -> None:
    """A lone surrogate becomes a question mark; the rest of the message is unchanged."""
    invalid = Notice("a", START, "failure.opened", "bad \ud800 name", ["x"], "c", 2, ["\udfff (1)"])
    assert "bad ? name" in json.dumps(written(name, invalid)[0])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("hooks.slack.com", "slack"),
        ("HOOKS.SLACK.COM.", "slack"),
        ("hooks.slack.com.evil.example", "cloudevents"),
        ("prod-1.westus.logic.azure.com", "teams"),
        ("notlogic.azure.com", "cloudevents"),
        ("example.com", "cloudevents"),
    ],
)
def test_host_determines_the_format(host: str, expected: str) -> None:
    """The whole host name counts, not a part of it."""
    assert format_of(host) == expected
