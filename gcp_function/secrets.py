"""The webhook's address and key, in Google Cloud's Secret Manager."""

from __future__ import annotations

import base64
import binascii

from gcp_function.clients import Clients
from gcp_function.settings import GcpSettings
from shared.errors import Denied, NotUnderstood
from shared.parsing import mapping
from shared.runtime.context import RunContext

QUOTA = "secretmanager"


class WebhookSecret:
    """The secret that NOTIFY_URL names, read once in the life of the clients."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._reference = settings.notify_url
        self._clients = clients
        self._run = run

    def read(self, again: bool) -> str:
        """Return the secret, as it is known or (`again`) as it is now. Raises ReportedError.

        Source: projects.secrets.versions.access, Secret Manager REST API; ``latest`` is the newest enabled version.
        """
        known = self._clients.read_secrets
        if again or self._reference not in known:
            version = self._reference if "/versions/" in self._reference else f"{self._reference}/versions/latest"
            try:
                answer = self._run.calls(QUOTA, self._clients.get, QUOTA, f"v1/{version}:access")
            except Denied as denied:
                remedy = (
                    "Apply the deployment with notify_secret, which grants roles/secretmanager.secretAccessor on it."
                )
                raise Denied(
                    denied.code, f"the secret of NOTIFY_URL may not be read: {denied.message}", remedy
                ) from denied
            known[self._reference] = _text_of(mapping(answer.get("payload")).get("data"))
        return known[self._reference]


def _text_of(data: object) -> str:
    """Return the text of a payload, which comes in Base64. Raises NotUnderstood, without quoting it."""
    try:
        return base64.b64decode(str(data or ""), validate=True).decode()
    except (binascii.Error, ValueError):
        raise NotUnderstood("the read of a secret", "it holds no text") from None
