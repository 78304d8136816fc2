"""The webhook's address and key, in Google Cloud's Secret Manager."""

from __future__ import annotations

import base64
import binascii

from gcp_function.clients import Clients
from gcp_function.settings import GcpSettings
from shared.errors import NotUnderstood, Permanent
from shared.notify.secret import REMEDY, StoredSecret
from shared.parsing import require
from shared.runtime.context import RunContext

QUOTA = "secretmanager"
READ = "the read of a secret"


class WebhookSecret(StoredSecret):
    """The secret that NOTIFY_URL names by its resource name."""

    grant = "Apply the deployment with notify_secret, which grants roles/secretmanager.secretAccessor on it."

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.notify_url, clients.read_secrets)
        self._clients = clients
        self._run = run

    def _fetch(self) -> str:
        """Return the text of the version that NOTIFY_URL names, by default of the newest one.

        Source: projects.secrets.versions.access, Secret Manager REST API; ``latest`` is the version that was created
        last, and a version that is disabled or destroyed is refused.
        """
        version = self._reference if "/versions/" in self._reference else f"{self._reference}/versions/latest"
        answer = self._run.calls(QUOTA, self._clients.get, QUOTA, f"v1/{version}:access")
        return _text_of(require(answer, {"payload.data": str}, READ)["payload"]["data"])


def _text_of(data: str) -> str:
    """Return the text of a payload, which comes in Base64. Raises NotUnderstood, Permanent, without quoting it."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise NotUnderstood(READ, "its payload is not Base64") from None
    try:
        return content.decode()
    except ValueError:
        raise Permanent("notify-secret", "it is binary data", REMEDY) from None
