"""Formats of a message: blocks for Slack, an Adaptive Card for a Teams workflow, or a CloudEvents document.

Sources: "Sending messages using incoming webhooks", "Reference: blocks" and "Formatting text for app surfaces" (Slack:
150 characters in a header, 3,000 in a section, ``&``, ``<`` and ``>`` escaped); "Create incoming webhooks with
Workflows" and "Cards reference" (Microsoft Teams: a message with one attachment, 28 KB), "Adaptive Card schema 1.4"
(the text of a TextRun is no markdown); "CloudEvents 1.0, JSON event format" and "HTTP protocol binding", structured
mode; "Standard Webhooks" 1.0 (the three headers and what is signed).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from shared.state.notices import Notice

HEADER_LIMIT, SECTION_LIMIT = 150, 3000
CARD_TEXT_LIMIT, CARD_LIMIT = 1500, 20_000  # characters of a text; bytes of all texts, as Teams takes 28 KB
TYPE = "io.tailpipe.exports"
CLOUD_EVENT = "application/cloudevents+json; charset=utf-8"
_KEY_PREFIX = "whsec_"  # what follows is the key in Base64; any other key is used as it is


class Post(msgspec.Struct, frozen=True):
    """What is sent: headers and body."""

    headers: Mapping[str, str]
    body: bytes


class Source(msgspec.Struct, frozen=True):
    """Where messages come from: the cloud and the owner of its scopes."""

    cloud: str
    owner: str


def slack(notice: Notice, _source: Source, _key: str, _now: datetime) -> Post:
    """Return the message for an incoming webhook of Slack."""
    lines = _fitting([_slack(_cut(line, SECTION_LIMIT // 6)) for line in notice.lines], SECTION_LIMIT)
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": _slack_cut(notice.title, HEADER_LIMIT), "emoji": False},
        }
    ]
    if lines:
        blocks.append(_section("\n".join(lines)))
    if _scopes(notice):
        blocks.append(_section(_slack_cut(_scopes(notice), SECTION_LIMIT)))
    blocks.append({"type": "context", "elements": [_mrkdwn(_slack(_footer(notice)))]})
    return _json({"text": _slack(_cut(notice.title, HEADER_LIMIT)), "blocks": blocks}, "application/json")


def teams(notice: Notice, _source: Source, _key: str, _now: datetime) -> Post:
    """Return the message for a Teams workflow: one Adaptive Card, whose texts are never read as markdown."""
    body = [_text(notice.title, weight="Bolder", size="Medium")]
    lines = [_cut(line, CARD_TEXT_LIMIT) for line in (*notice.lines, _scopes(notice)) if line]
    body += [_text(line) for line in _fitting(lines, CARD_LIMIT)]
    body.append(_text(_footer(notice), size="Small", isSubtle=True))
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return _json({"type": "message", "attachments": [attachment]}, "application/json")


def cloud_event(notice: Notice, source: Source, key: str, now: datetime) -> Post:
    """Return the message as a CloudEvents document, signed if there is a key.

    The signature is that of Standard Webhooks: HMAC-SHA-256 over id, time stamp and body. A receiver refuses an old
    time stamp, and recognizes a repeated message by its id.
    """
    document = {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"/tailpipe-exports/{quote(source.cloud, safe='')}/{quote(source.owner, safe='')}",
        "type": f"{TYPE}.{notice.event}.v1",
        "time": f"{notice.at:%Y-%m-%dT%H:%M:%SZ}",
        "datacontenttype": "application/json",
        **({"subject": notice.code} if notice.code else {}),
        "data": {
            "title": notice.title,
            "code": notice.code,
            "count": notice.count,
            "lines": notice.lines,
            "examples": notice.examples,
            "link": notice.link,
        },
    }
    return signed_event(_json(document, CLOUD_EVENT).body, notice.id, key, now)


def signed_event(document: bytes, event_id: str, key: str, now: datetime) -> Post:
    """Return a CloudEvents document in structured mode, signed by Standard Webhooks if there is a key."""
    stamp = str(int(now.timestamp()))
    headers = {"content-type": CLOUD_EVENT, "webhook-id": event_id, "webhook-timestamp": stamp}
    if key:
        headers["webhook-signature"] = f"v1,{signature(key, event_id, stamp, document)}"
    return Post(headers, document)


FORMATS: Mapping[str, Callable[[Notice, Source, str, datetime], Post]] = {
    "slack": slack,
    "teams": teams,
    "cloudevents": cloud_event,
}


def signature(key: str, message_id: str, stamp: str, body: bytes) -> str:
    """Return the signature of a message in Base64."""
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.new(_key_of(key), signed, hashlib.sha256).digest()).decode()


def _key_of(key: str) -> bytes:
    if key.startswith(_KEY_PREFIX):
        try:
            return base64.b64decode(key.removeprefix(_KEY_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            pass
    return key.encode()


def format_of(host: str) -> str:
    """Return the format for a host: Slack and Teams workflows have their own, all other hosts get CloudEvents."""
    host = host.lower().rstrip(".")
    if host in ("hooks.slack.com", "hooks.slack-gov.com"):
        return "slack"
    if host.endswith((".logic.azure.com", ".logic.azure.us", ".powerplatform.com", ".webhook.office.com")):
        return "teams"
    return "cloudevents"


def _scopes(notice: Notice) -> str:
    if notice.count <= 1 or not notice.examples:
        return ""
    more = notice.count - len(notice.examples)
    return ", ".join(notice.examples) + (f" and {more:,} more" if more > 0 else "")


def _footer(notice: Notice) -> str:
    parts = [f"tailpipe-exports explain {notice.code}"] if notice.code else []
    return " · ".join([*parts, *([notice.link] if notice.link else []), f"{notice.at:%Y-%m-%d %H:%M} UTC"])


def _fitting(lines: Sequence[str], limit: int) -> list[str]:
    """Return the whole lines that fit into `limit` bytes, and a last one that counts the omitted lines."""
    kept: list[str] = []
    room = limit
    for place, line in enumerate(lines):
        more = f"… and {len(lines) - place} more lines"
        room -= len(line.encode("utf-8", "replace")) + 1
        if room < len(more.encode()):
            return [*kept, more]
        kept.append(line)
    return kept


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _slack_cut(text: str, limit: int) -> str:
    """Return a text that is at most `limit` characters long once it is escaped."""
    escaped = _slack(text)
    while len(escaped) > limit:
        text = text[: len(text) - max(1, (len(escaped) - limit) // 5)].rstrip("…") + "…"
        escaped = _slack(text)
        if len(escaped) > limit:
            text = text[:-2]
    return escaped


def _mrkdwn(text: str) -> dict[str, Any]:
    # Verbatim: a name that looks like a channel, a mention or an address stays text.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(escaped: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(escaped)}


def _text(text: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": _cut(text, CARD_TEXT_LIMIT), **style}]}


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _json(document: Mapping[str, Any], content_type: str) -> Post:
    # Names come from outside: a lone surrogate cannot be written as UTF-8.
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Post({"content-type": content_type}, body)
