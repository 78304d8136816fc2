"""Delivers the messages owed, oldest first, until the webhook fails or the time is up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from shared.errors import Permanent, ReportedError, Transient, defect
from shared.notify.formats import FORMATS, Source
from shared.notify.webhook import Destination, Reply, Sender, destination_of, send
from shared.runtime.context import RunContext
from shared.state.document import StateDocument
from shared.state.notices import Notice, owed

TIMEOUT_S = 10.0  # for one message
ALL_S = 60.0  # for all messages of a run; the rest is left to the next run
RESERVE_S = 3.0  # kept free of the deadline, for noting what was sent
SHORTEST_S = 1.0
OUT_OF_TIME = "deadline"
# Slack accepts one message a second and requests a wait of about that length; a longer wait is left to the next run.
LONGEST_WAIT = timedelta(seconds=5)
TOO_MANY = 429
# These statuses reject one message, such as text that the receiver cannot show: it must not block the others.
OF_THE_MESSAGE = frozenset({400, 413, 422})
MOST_REFUSED = 3  # messages in a run; a webhook that rejects everything is not called once for each
REMEDY = "The next run sends it again. Check whether the webhook still exists and what its receiver logs."


class Secret(msgspec.Struct, frozen=True):
    """The secret that NOTIFY_URL refers to.

    `read(False)` returns the remembered secret of a warm instance, `read(True)` reads it from the cloud; both raise
    ReportedError. `local` is true if the deployment's endpoints are overridden by loopback addresses: only then may
    the webhook have one.
    """

    read: Callable[[bool], str]
    local: bool = False


class _MessageRefused(Transient):
    """The receiver rejected this message."""


def require_accepted(reply: Reply) -> None:
    """Raise the ReportedError of a reply that does not accept a message."""
    if 300 <= reply.status < 400:
        reason = f"the webhook answered {reply.status}, a redirect, which is not followed"
        raise Permanent("notify-redirected", reason, REMEDY)
    if not 200 <= reply.status < 300:
        kind = _MessageRefused if reply.status in OF_THE_MESSAGE else Transient
        raise kind("notify-refused", f"the webhook answered {reply.status}", REMEDY)


def deliver(document: StateDocument, secret: Secret, run: RunContext, sender: Sender = send) -> tuple[int, int]:
    """Send the messages owed and mark those that were accepted; return how many were, and how many are left.

    Never raises: a failure is logged as ``notify-failed``, and its message is left for the next run.
    """
    waiting = owed(document.notices)
    if document.notices is None or not waiting:
        return 0, 0
    sent: dict[str, datetime] = {}
    refused: list[ReportedError] = []
    failure: ReportedError | None = None
    try:
        delivery = _Delivery(document.owner, secret, run, sender)
        for notice in waiting:
            try:
                delivery.send(notice)
            except _MessageRefused as error:
                refused.append(error)
                if len(refused) == MOST_REFUSED:
                    break
                continue
            sent[notice.id] = run.clock.now()
            run.log("info", "notify-sent", code=notice.code or notice.event, reason=notice.event)
    except Exception as error:  # noqa: BLE001 - a defect must not fail a run that has ended well
        failure = error if isinstance(error, ReportedError) else defect(error)
    for one in [failure] if failure else refused[:1]:
        left = len(waiting) - len(sent)
        run.log("warning", "notify-failed", code=one.code, reason=f"{one.message} ({left} owed). {one.remedy}")
    document.notices.box = [
        msgspec.structs.replace(one, sent_at=sent[one.id]) if one.id in sent else one for one in document.notices.box
    ]
    return len(sent), len(waiting) - len(sent)


class _Delivery:
    """The messages of one run, to the address that the secret holds. Raises ReportedError where it cannot be read."""

    def __init__(self, owner: str, secret: Secret, run: RunContext, sender: Sender) -> None:
        self._source = Source(run.cloud, owner)
        self._secret = secret
        self._run = run
        self._sender = sender
        self._end = run.clock.monotonic() + ALL_S
        self._text = secret.read(False)

    def send(self, notice: Notice) -> None:
        """Send one message. Raises ReportedError.

        The cause of a failure may have been corrected in the stored secret: if it differs from the remembered one, the
        message is sent once more with it.
        """
        try:
            self._send(notice, destination_of(self._text))
        except ReportedError as error:
            if error.code == OUT_OF_TIME or (newest := self._secret.read(True)) == self._text:
                raise
            self._text = newest
            self._send(notice, destination_of(newest))

    def _send(self, notice: Notice, destination: Destination) -> None:
        """Send one message; repeat it once if the receiver requests a short wait. Raises ReportedError."""
        reply = self._post(notice, destination)
        if reply.status == TOO_MANY and reply.wait is not None and reply.wait <= LONGEST_WAIT:
            self._run.clock.wait_until(self._run.clock.monotonic() + reply.wait.total_seconds())
            reply = self._post(notice, destination)
        require_accepted(reply)

    def _post(self, notice: Notice, destination: Destination) -> Reply:
        left = self._end - self._run.clock.monotonic()
        seconds = min(TIMEOUT_S, left, self._run.deadline.remaining() - RESERVE_S)
        if seconds < SHORTEST_S:
            raise Transient(OUT_OF_TIME, "the time for messages is up", REMEDY)
        post = FORMATS[destination.format](notice, self._source, destination.key, self._run.clock.now())
        return self._sender(destination.url, post, seconds, local=self._secret.local)
