"""The webhook's address and key, in AWS Secrets Manager."""

from __future__ import annotations

from aws_lambda.clients import Clients
from aws_lambda.settings import AwsSettings
from shared.errors import Denied, Permanent
from shared.runtime.context import RunContext

QUOTA = "secretsmanager"


class WebhookSecret:
    """The secret that NOTIFY_URL names, read once in the life of the clients."""

    def __init__(self, settings: AwsSettings, clients: Clients, run: RunContext) -> None:
        self._reference = settings.notify_url
        self._clients = clients
        self._run = run

    def read(self, again: bool) -> str:
        """Return the secret, as it is known or (`again`) as it is now. Raises ReportedError.

        Source: GetSecretValue, AWS Secrets Manager API reference.
        """
        known = self._clients.read_secrets
        if again or self._reference not in known:
            client = self._clients.secrets(self._reference.split(":")[3])
            try:
                answer = self._run.calls(QUOTA, client.get_secret_value, SecretId=self._reference)
            except Denied as denied:
                remedy = "Apply the deployment with notify_secret; a customer's key has to permit kms:Decrypt too."
                raise Denied(
                    denied.code, f"access to the secret in NOTIFY_URL was denied: {denied.message}", remedy
                ) from denied
            text = answer.get("SecretString")
            if not text:
                raise Permanent(
                    "notify-secret",
                    "the secret in NOTIFY_URL has no text",
                    "Store the secret as text, not as binary data.",
                )
            known[self._reference] = str(text)
        return known[self._reference]
