"""Event source mappings from queues to functions: moto stores the mappings, and this module polls the queues.

Messages are collected until the batch is full or its window has ended, then passed to the function in one synchronous
invocation. Messages that were processed are deleted; failed ones become visible again after the queue's visibility
timeout. The poller calls with the function's role. Source: "Using Lambda with Amazon SQS", "Creating and configuring
an Amazon SQS event source mapping" and "Handling errors for an SQS event source in Lambda" in the AWS Lambda
Developer Guide.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.sqs.models import sqs_backends

from localcloud.aws.arns import Where
from localcloud.aws.calls import Call, CallLog
from localcloud.aws.errors import AwsError, denied
from localcloud.aws.iam.caller import Identity
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.runtime.functions import Functions
from shared.runtime.clock import Clock

PRINCIPAL = "lambda.amazonaws.com"
_MAX_BATCH_BYTES = 6_291_456
_POLL_S = 0.2
_ACTIONS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


# difference: AWS-23
class EventSources:
    """Polls the queues of all mappings, in a thread that starts with the first mapping. Thread-safe."""

    def __init__(
        self,
        clock: Clock,
        sessions: Sessions,
        functions: Functions,
        enforcement: Enforcement,
        calls: CallLog,
        before_poll: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._functions = functions
        self._enforcement = enforcement
        self._calls = calls
        self._before_poll = before_poll
        self._watched: set[Where] = set()
        self._window_starts: dict[str, datetime] = {}  # by queue ARN, for the next batch
        self._settling = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self, params: dict[str, Any], where: Where) -> None:
        """Raise AwsError for a mapping that AWS refuses and moto accepts."""
        if int(params.get("BatchSize") or 10) > 10 and not params.get("MaximumBatchingWindowInSeconds"):
            raise _invalid_parameter(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
            )
        function = self._functions.find(where, str(params["FunctionName"]))
        arn = str(params["EventSourceArn"])
        queue = _queue(arn)
        if queue is None:
            raise AwsError("ResourceNotFoundException", f"Error occurred while ReceiveMessage. Queue {arn}", 404)
        if int(queue.visibility_timeout) < int(function.timeout):
            raise _invalid_parameter(
                f"Queue visibility timeout: {queue.visibility_timeout} seconds is less than Function timeout: "
                f"{function.timeout} seconds"
            )
        self._check_permissions(function, where, arn)

    def watch(self, where: Where) -> None:
        """Poll the mappings of an account and region from now on, instead of moto."""
        for queue in sqs_backends[where.account][where.region].queues.values():
            queue.lambda_event_source_mappings.clear()
        self._watched.add(where)
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, name="event-sources", daemon=True)
            self._thread.start()

    def arrived(self, queue: str) -> None:
        """Start the window of the next batch of a queue, given by its ARN, which has received a message."""
        self._window_starts.setdefault(queue, self._clock.now())

    def settle(self) -> int:
        """Invoke functions with the batches that are due, and return the number of invocations.

        A batch that cannot be delivered stays in its queue.
        """
        with self._settling:
            self._before_poll()
            mappings = [
                (mapping, where) for where in list(self._watched) for mapping in _mappings(where) if mapping.enabled
            ]
            return sum(self._invoke(mapping, where) for mapping, where in mappings)

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(10)

    def _poll(self) -> None:
        while not self._closed.wait(_POLL_S):
            self.settle()

    def _invoke(self, mapping: Any, where: Where) -> bool:
        arn = str(mapping.event_source_arn)
        queue = _queue(arn)
        visible = len(queue.messages) if queue is not None else 0
        if queue is None or not visible:
            self._window_starts.pop(arn, None)
            return False
        now = self._clock.now()
        window = timedelta(seconds=int(mapping.max_batch_window or 0))
        if visible < int(mapping.batch_size) and now < self._window_starts.setdefault(arn, now) + window:
            return False
        self._window_starts.pop(arn, None)
        try:
            function = self._functions.find(where, str(mapping.function_arn))
            self._check_permissions(function, where, arn)
            batch = _receive(queue, int(mapping.batch_size))
            done = self._functions.invoke(where, function.function_name, {"Records": batch}, str(uuid.uuid4()))
        except AwsError:
            return False
        if done.error is None:
            failed = _failed_messages(mapping, done.payload)
            for record in batch:
                if record["messageId"] not in failed:
                    queue.delete_message(record["receiptHandle"])
        return True

    def _check_permissions(self, function: Any, where: Where, queue: str) -> None:
        """Raise AwsError if the function's role cannot be assumed or may not read the queue."""
        context = {"aws:sourceaccount": where.account, "aws:sourcearn": str(function.function_arn)}
        session = self._sessions.assume(PRINCIPAL, str(function.role), "event-source", where, context)
        identity = Identity(where.account, str(function.role), session)
        for action in _ACTIONS:
            allowed = self._enforcement.allows(identity, action, queue, {"aws:principalarn": str(function.role)})
            status, code = (200, None) if allowed else (403, "AccessDeniedException")
            need = RequiredAction(action, (queue,))
            operation = action.partition(":")[2]
            self._calls.add(
                Call(self._clock.now(), where.account, str(function.role), "sqs", operation, (need,), status, code)
            )
            if not allowed:
                raise denied("lambda", str(function.role), action, queue, "because no policy allows it")


def _mappings(where: Where) -> list[Any]:
    return list(lambda_backends[where.account][where.region]._event_source_mappings.values())


def _queue(arn: str) -> Any:
    fields = arn.split(":")
    return sqs_backends[fields[4]][fields[3]].queues.get(fields[5])


def _failed_messages(mapping: Any, payload: Any) -> set[str]:
    """Return the ids of the messages that the function reports as failed, if the mapping allows such reports."""
    if "ReportBatchItemFailures" not in (mapping.function_response_types or []) or not isinstance(payload, dict):
        return set()
    return {str(one.get("itemIdentifier")) for one in payload.get("batchItemFailures") or []}


def _receive(queue: Any, limit: int) -> list[dict[str, Any]]:
    """Receive at most `limit` messages, as the records of Lambda's event; stop when the payload is full."""
    backend = sqs_backends[queue.account_id][queue.region]
    batch: list[dict[str, Any]] = []
    size = 0
    while len(batch) < limit and size < _MAX_BATCH_BYTES:
        received = backend.receive_message(queue.name, min(limit - len(batch), 100), 0, int(queue.visibility_timeout))
        if not received:
            break
        batch += [_record(queue, message) for message in received]
        size = sum(len(record["body"]) for record in batch)
    return batch


def _record(queue: Any, message: Any) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
        },
        "messageAttributes": {},
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.queue_arn,
        "awsRegion": queue.region,
    }


def _invalid_parameter(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message, 400)
