"""The messages that operators were sent and are still owed: a part of the state document.

It ensures that each message is about a change and that none is lost: a message is stored with its id before it is first
sent, and stays until a delivery was accepted. A receiver may get a message twice, with the same id.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from shared.target_state import Moment

KEPT = 20  # messages, sent or owed; beyond this, the oldest are dropped


class Notice(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One message.

    `event` is what changed, such as ``failure.opened``; `code` is the reason code and `count` the number of scopes.
    `lines` are the sentences of the message, `examples` some of the scopes, `link` a page for the next step. `sent_at`
    is when a delivery was accepted, None while it is owed.
    """

    id: str
    at: Moment
    event: str
    title: str
    lines: list[str] = []
    code: str = ""
    count: int = 1
    examples: list[str] = []
    link: str = ""
    sent_at: Moment | None = None


class Notices(msgspec.Struct, omit_defaults=True):
    """What operators know from messages.

    `open` maps ``{what} {code}`` to the scopes that operators were notified about, sorted; "" is the run as a whole.
    `box` holds the last messages, oldest first. `digest` is the ISO week (``2026-W07``) of the last digest.
    """

    at: Moment
    open: dict[str, list[str]] = {}
    box: list[Notice] = []
    digest: str = ""


def week_of(moment: datetime) -> str:
    """Return the ISO week of a moment in UTC, as the digest of that week is named (``2026-W07``)."""
    year, week, _ = moment.astimezone(UTC).isocalendar()
    return f"{year:04d}-W{week:02d}"


def owed(notices: Notices | None) -> list[Notice]:
    """Return the messages that no receiver has accepted yet, oldest first."""
    return [one for one in notices.box if one.sent_at is None] if notices else []


def keep(box: list[Notice]) -> list[Notice]:
    """Return the last messages in order, each id once; a sent message wins over an owed one."""
    newest: dict[str, Notice] = {}
    for one in box:
        known = newest.get(one.id)
        newest[one.id] = one if known is None else max(known, one, key=_rank)
    return sorted(newest.values(), key=lambda one: (one.at, one.id))[-KEPT:]


def merge_notices(ours: Notices | None, theirs: Notices | None) -> Notices | None:
    """Return both documents merged: the newer one defines what is open, and the messages of both are kept."""
    if ours is None or theirs is None:
        return ours or theirs
    newest = max(ours, theirs, key=lambda one: (one.at, msgspec.json.encode(one, order="sorted")))
    digest = max(ours.digest, theirs.digest)
    return Notices(newest.at, newest.open, keep([*ours.box, *theirs.box]), digest)


def _rank(one: Notice) -> tuple[bool, bytes]:
    return one.sent_at is not None, msgspec.json.encode(one, order="sorted")
