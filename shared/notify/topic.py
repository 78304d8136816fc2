"""Publishes deliveries to the webhook if its format is CloudEvents; a chat gets no message for each delivery."""

from __future__ import annotations

from shared.errors import ReportedError, Transient
from shared.notify.delivery import OUT_OF_TIME, REMEDY, RESERVE_S, SHORTEST_S, TIMEOUT_S, Secret, require_accepted
from shared.notify.formats import signed_event
from shared.notify.webhook import Sender, destination_of, send
from shared.runtime.context import RunContext

FORMAT = "cloudevents"


class WebhookTopic:
    """A topic of `shared.deliveries.chain` whose subscriber is the webhook of NOTIFY_URL."""

    def __init__(self, secret: Secret, run: RunContext, sender: Sender = send) -> None:
        self._secret = secret
        self._run = run
        self._sender = sender

    def publish(self, event: bytes, event_id: str, key: str) -> None:  # noqa: ARG002 - a webhook has no order to keep
        """Send one event, signed as messages are. Raises CloudError unless the receiver accepts it.

        A secret in the format of a chat gets none. After a failure the secret is read again, for the next event.
        """
        try:
            self._send(event, event_id)
        except ReportedError:
            self._secret.read(True)
            raise

    def _send(self, event: bytes, event_id: str) -> None:
        destination = destination_of(self._secret.read(False))
        if destination.format != FORMAT:
            return
        seconds = min(TIMEOUT_S, self._run.deadline.remaining() - RESERVE_S)
        if seconds < SHORTEST_S:
            raise Transient(OUT_OF_TIME, "the time for deliveries is up", REMEDY)
        post = signed_event(event, event_id, destination.key, self._run.clock.now())
        require_accepted(self._sender(destination.url, post, seconds, local=self._secret.local))
