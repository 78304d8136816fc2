"""The webhook's address and key, in Azure Key Vault."""

from __future__ import annotations

from azure.core.rest import HttpRequest

from azure_function.clients import VAULT, Clients
from azure_function.settings import AzureSettings
from shared.errors import Denied, NotUnderstood
from shared.parsing import mapping
from shared.runtime.context import RunContext

API_VERSION = "7.4"


class WebhookSecret:
    """The secret that NOTIFY_URL names, read once in the life of the clients."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._reference = settings.notify_url
        self._clients = clients
        self._run = run

    def read(self, again: bool) -> str:
        """Return the secret, as it is known or (`again`) as it is now. Raises ReportedError.

        Source: "Get Secret", Azure Key Vault REST API; without a version in the URI it is the newest one.
        """
        known = self._clients.read_secrets
        if again or self._reference not in known:
            try:
                known[self._reference] = self._run.calls(VAULT, self._get)
            except Denied as denied:
                remedy = (
                    "Apply the deployment with notify_secret, which grants Key Vault Secrets User on it, and "
                    "let the vault's firewall admit the function."
                )
                raise Denied(
                    denied.code, f"the secret of NOTIFY_URL may not be read: {denied.message}", remedy
                ) from denied
        return known[self._reference]

    def _get(self) -> str:
        answer = self._clients.vault(self._reference).send_request(
            HttpRequest("GET", f"{self._clients.vault_url(self._reference)}?api-version={API_VERSION}")
        )
        answer.raise_for_status()
        value = mapping(answer.json()).get("value")
        if not isinstance(value, str) or not value:
            raise NotUnderstood("the read of a secret", "it holds no value")
        return value
