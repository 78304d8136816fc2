"""Delivers what is owed: the oldest message first, until one is refused or the time is up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from shared.errors import Permanent, ReportedError, Transient
from shared.notify.formats import FORMATS, Source
from shared.notify.webhook import Destination, Sender, destination_of, send
from shared.runtime.context import RunContext
from shared.state.document import StateDocument
from shared.state.notices import Notice, owed

TIMEOUT_S = 10.0  # for one message
RESERVE_S = 3.0  # kept free of the deadline, for noting what was sent
SHORTEST_S = 1.0
# The webhook was removed or its address replaced: the secret is read again.
RENEWED = frozenset({401, 403, 404, 410})
REMEDY = "The next run sends it again. See whether the webhook still exists and what its receiver logs."


class Secret(msgspec.Struct, frozen=True):
    """The secret that NOTIFY_URL names.

    `read` returns it, as a warm instance remembers it or, if asked to, from the cloud; it raises a ReportedError.
    `local` is true where the deployment's endpoints are overridden by loopback addresses: only then may the webhook be
    one.
    """

    read: Callable[[bool], str]
    local: bool = False


def deliver(document: StateDocument, secret: Secret, run: RunContext, sender: Sender = send) -> tuple[int, int]:
    """Send what is owed and note in the document what was accepted; return how many were, and how many are left.

    Never raises for a delivery that fails: it is logged as ``notify-failed``, and left for the next run.
    """
    waiting = owed(document.notices)
    if document.notices is None or not waiting:
        return 0, 0
    sent: dict[str, datetime] = {}
    try:
        destination = destination_of(secret.read(False))
        for notice in waiting:
            destination = _send(notice, destination, document, secret, run, sender)
            sent[notice.id] = run.clock.now()
            run.log("info", "notify-sent", code=notice.code or notice.event, reason=notice.event)
    except ReportedError as error:
        run.log(
            "warning", "notify-failed", code=error.code, reason=f"{error.message} ({len(waiting) - len(sent)} owed)"
        )
    document.notices.box = [
        msgspec.structs.replace(one, sent_at=sent[one.id]) if one.id in sent else one for one in document.notices.box
    ]
    return len(sent), len(waiting) - len(sent)


def _send(
    notice: Notice, destination: Destination, document: StateDocument, secret: Secret, run: RunContext, sender: Sender
) -> Destination:
    """Send one message and return where it was accepted: the secret may have been renewed. Raises ReportedError."""
    status = _post(notice, destination, document, secret, run, sender)
    if status in RENEWED:
        renewed = destination_of(secret.read(True))
        if renewed != destination:
            destination, status = renewed, _post(notice, renewed, document, secret, run, sender)
    if 200 <= status < 300:
        return destination
    if 300 <= status < 400:
        raise Permanent(
            "notify-redirected", f"the webhook answered {status}, a redirect, which is not followed", REMEDY
        )
    raise Transient("notify-refused", f"the webhook answered {status}", REMEDY)


def _post(
    notice: Notice, destination: Destination, document: StateDocument, secret: Secret, run: RunContext, sender: Sender
) -> int:
    seconds = min(TIMEOUT_S, run.deadline.remaining() - RESERVE_S)
    if seconds < SHORTEST_S:
        raise Transient("deadline", "the run's time is up", REMEDY)
    source = Source(run.cloud, document.owner)
    post = FORMATS[destination.format](notice, source, destination.key, run.clock.now())
    return sender(destination.url, post, seconds, local=secret.local)
