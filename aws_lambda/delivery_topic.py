"""The SNS topic on which deliveries are published.

A FIFO topic keeps the order within a message group, and drops a message that repeats another's deduplication id within
five minutes. Both ids have at most 128 characters. Sources: "Publish" in the Amazon SNS API Reference, "Amazon SNS
message ordering and deduplication strategies" in the Amazon SNS Developer Guide.
"""

from __future__ import annotations

import hashlib

from aws_lambda.clients import Clients
from shared.errors import Denied, NotFound
from shared.runtime.context import RunContext

QUOTA = "sns"
REMEDY = "Apply the deployment again: it owns the topic and the function's permission to publish to it."


class DeliveryTopic:
    """A Topic: publishes to one SNS FIFO topic, given by its ARN."""

    def __init__(self, arn: str, clients: Clients, run: RunContext) -> None:
        self._arn = arn
        self._clients = clients
        self._run = run

    def publish(self, event: bytes, event_id: str, key: str) -> None:
        """Publish a CloudEvent in JSON, in the message group of `key`. Raises CloudError."""
        try:
            self._run.calls(
                QUOTA,
                self._clients.sns(self._arn.split(":")[3]).publish,
                TopicArn=self._arn,
                Message=event.decode(),
                MessageGroupId=hashlib.sha256(key.encode()).hexdigest(),
                MessageDeduplicationId=event_id,
            )
        except (Denied, NotFound) as error:
            what = f"deliveries cannot be published to {self._arn}: {error.message}"
            raise type(error)(error.code, what, f"{REMEDY} {error.remedy}".strip()) from error
