"""A FIFO topic of the local SNS with a subscribed FIFO queue, as an operator subscribes one."""

from __future__ import annotations

import json
from typing import Any

from localcloud.aws.cloud import LocalAws

TOPIC = "tailpipe-exports-deliveries.fifo"
QUEUE = "reader.fifo"


class Subscriber:
    """Receives what is published; `settings` make a function publish it."""

    def __init__(self, cloud: LocalAws) -> None:
        self._cloud = cloud
        self._sqs = cloud.client("sqs")
        self.topic = cloud.client("sns").create_topic(Name=TOPIC, Attributes={"FifoTopic": "true"})["TopicArn"]
        self._url = self._sqs.create_queue(QueueName=QUEUE, Attributes={"FifoQueue": "true"})["QueueUrl"]
        self.settings = {"DELTAS": "1", "DELIVERY_TOPIC": self.topic}
        self.subscribe()

    def subscribe(self) -> None:
        """Subscribe the queue to the topic."""
        arn = f"arn:aws:sqs:{self._cloud.region}:{self._cloud.account}:{QUEUE}"
        self._cloud.client("sns").subscribe(
            TopicArn=self.topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
        )

    def received(self) -> list[dict[str, Any]]:
        """Return the events that arrived since the last time, in order, and delete them."""
        found: list[dict[str, Any]] = []
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get("Messages"):
            for one in messages:
                found.append(json.loads(one["Body"]))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=one["ReceiptHandle"])
        return found
