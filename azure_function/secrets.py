"""The webhook's address and key, in Azure Key Vault."""

from __future__ import annotations

from azure_function.clients import VAULT, Clients
from azure_function.settings import AzureSettings
from shared.notify.secret import StoredSecret
from shared.parsing import require
from shared.runtime.context import RunContext


class WebhookSecret(StoredSecret):
    """The secret that NOTIFY_URL refers to by its URI."""

    grant = (
        "Apply the deployment with notify_secret, which grants Key Vault Secrets User on it, enable the secret, and "
        "allow the function through the vault's firewall."
    )

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.notify_url, clients.read_secrets)
        self._clients = clients
        self._run = run

    def _fetch(self) -> str:
        return self._run.calls(VAULT, self._get)

    def _get(self) -> str:
        document = self._clients.secret(self._reference)
        return str(require(document, {"value": str}, "the read of a secret")["value"])
