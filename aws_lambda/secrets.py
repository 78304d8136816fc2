"""The webhook's address and key, in AWS Secrets Manager."""

from __future__ import annotations

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from shared.errors import Permanent
from shared.notify.delivery import Secret
from shared.notify.secret import REMEDY, StoredSecret
from shared.runtime.context import RunContext

QUOTA = "secretsmanager"


class WebhookSecret(StoredSecret):
    """The secret that NOTIFY_URL names by its ARN."""

    grant = "Apply the deployment with notify_secret; a customer's key has to permit kms:Decrypt too."

    def __init__(self, settings: AwsSettings, clients: Clients, run: RunContext) -> None:
        super().__init__(settings.notify_url, clients.read_secrets)
        self._clients = clients
        self._run = run

    def _fetch(self) -> str:
        """Return the secret's newest text.

        Source: GetSecretValue, AWS Secrets Manager API reference; binary data comes in another field.
        """
        client = self._clients.secrets(self._reference.split(":")[3])
        answer = self._run.calls(QUOTA, client.get_secret_value, SecretId=self._reference)
        text = answer.get("SecretString")
        if text is None:
            raise Permanent("notify-secret", "it is binary data", REMEDY)
        return str(text)


def webhook_of(settings: AwsSettings, clients: Clients, run: RunContext) -> Secret | None:
    """Return what reads the webhook's address; None without a webhook."""
    return Secret(WebhookSecret(settings, clients, run).read, bool(settings.endpoints)) if settings.notify_url else None
