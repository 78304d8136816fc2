"""Reads the webhook's address and key from Azure Key Vault."""

from __future__ import annotations

from azure.core.rest import HttpRequest

from azure_function.clients import VAULT, Clients
from azure_function.settings import AzureSettings
from shared.errors import Denied, NotUnderstood
from shared.parsing import mapping
from shared.runtime.context import RunContext

API_VERSION = "7.4"


class WebhookSecret:
    """The secret that NOTIFY_URL refers to, cached for as long as the clients are."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._reference = settings.notify_url
        self._clients = clients
        self._run = run

    def read(self, again: bool) -> str:
        """Return the cached secret, or with `again` read it anew. Raises ReportedError.

        Source: "Get Secret", Azure Key Vault REST API; a URI without a version returns the newest one.
        """
        cached = self._clients.read_secrets
        if again or self._reference not in cached:
            try:
                cached[self._reference] = self._run.calls(VAULT, self._get)
            except Denied as denied:
                remedy = (
                    "Apply the deployment with notify_secret, which grants Key Vault Secrets User on the secret, and "
                    "allow the function through the vault's firewall."
                )
                raise Denied(
                    denied.code, f"could not read the secret of NOTIFY_URL: {denied.message}", remedy
                ) from denied
        return cached[self._reference]

    def _get(self) -> str:
        response = self._clients.vault(self._reference).send_request(
            HttpRequest("GET", f"{self._clients.vault_url(self._reference)}?api-version={API_VERSION}")
        )
        response.raise_for_status()
        value = mapping(response.json()).get("value")
        if not isinstance(value, str) or not value:
            raise NotUnderstood("the read of a secret", "its field value is empty")
        return value
