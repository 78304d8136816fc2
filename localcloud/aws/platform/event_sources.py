"""Event source mappings from queues to functions: moto keeps the mappings, and the queues are polled here.

Messages are collected until the batch is full or its window has passed, and handed to the function in one synchronous
invocation; what the function does not fail is deleted, the rest comes back after the queue's visibility timeout. The
poller acts as the function's role. Source: "Using Lambda with Amazon SQS", "Creating and configuring an Amazon SQS
event source mapping" and "Handling errors for an SQS event source in Lambda" in the AWS Lambda Developer Guide.
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
MOST_BYTES = 6_291_456  # a batch's payload
_POLL_S = 0.2
_ACTIONS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")


# difference: AWS-23
class EventSources:
    """Polls the queues of all mappings, in a thread of its own once there is one; safe for threads."""

    def __init__(
        self,
        clock: Clock,
        sessions: Sessions,
        functions: Functions,
        enforcement: Enforcement,
        calls: CallLog,
        before: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._functions = functions
        self._enforcement = enforcement
        self._calls = calls
        self._before = before
        self._places: set[Where] = set()
        self._since: dict[str, datetime] = {}  # by queue, when the first message of the next batch was there
        self._settling = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self, params: dict[str, Any], where: Where) -> None:
        """Raise AwsError for a mapping that AWS refuses and moto takes."""
        if int(params.get("BatchSize") or 10) > 10 and not params.get("MaximumBatchingWindowInSeconds"):
            raise _refused(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
            )
        function = self._functions.find(where, str(params["FunctionName"]))
        arn = str(params["EventSourceArn"])
        queue = _queue(arn)
        if queue is None:
            raise AwsError("ResourceNotFoundException", f"Error occurred while ReceiveMessage. Queue {arn}", 404)
        if int(queue.visibility_timeout) < int(function.timeout):
            raise _refused(
                f"Queue visibility timeout: {queue.visibility_timeout} seconds is less than Function timeout: "
                f"{function.timeout} seconds"
            )
        self._session(function, where, arn)

    def watch(self, where: Where) -> None:
        """Poll the mappings of an account and region from now on, in moto's stead."""
        for queue in sqs_backends[where.account][where.region].queues.values():
            queue.lambda_event_source_mappings.clear()
        self._places.add(where)
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, name="event-sources", daemon=True)
            self._thread.start()

    def arrived(self, queue: str) -> None:
        """Note that a message is in a queue, given by its ARN: a batch's window begins."""
        self._since.setdefault(queue, self._clock.now())

    def settle(self) -> int:
        """Invoke functions with the batches that are due, and return the number of invocations.

        A batch that could not be handed over stays in its queue.
        """
        with self._settling:
            self._before()
            mappings = [(one, where) for where in list(self._places) for one in _mappings(where) if one.enabled]
            return sum(self._invoke(mapping, where) for mapping, where in mappings)

    def close(self) -> None:
        """End the polling."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)

    def _poll(self) -> None:
        while not self._ended.wait(_POLL_S):
            self.settle()

    def _invoke(self, mapping: Any, where: Where) -> bool:
        arn = str(mapping.event_source_arn)
        queue = _queue(arn)
        visible = len(queue.messages) if queue is not None else 0
        if queue is None or not visible:
            self._since.pop(arn, None)
            return False
        now = self._clock.now()
        window = timedelta(seconds=int(mapping.max_batch_window or 0))
        if visible < int(mapping.batch_size) and now < self._since.setdefault(arn, now) + window:
            return False
        self._since.pop(arn, None)
        try:
            function = self._functions.find(where, str(mapping.function_arn))
            self._session(function, where, arn)
            batch = _receive(queue, int(mapping.batch_size))
            done = self._functions.invoke(where, function.function_name, {"Records": batch}, str(uuid.uuid4()))
        except AwsError:
            return False
        if done.error is None:
            reports = "ReportBatchItemFailures" in (mapping.function_response_types or [])
            failures = (
                (done.payload or {}).get("batchItemFailures") or []
                if reports and isinstance(done.payload, dict)
                else []
            )
            failed = {one.get("itemIdentifier") for one in failures}
            for record in batch:
                if record["messageId"] not in failed:
                    queue.delete_message(record["receiptHandle"])
        return True

    def _session(self, function: Any, where: Where, queue: str) -> None:
        """Assume the function's role and use its rights on the queue. Raises AwsError where it lacks one."""
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


def _failed(mapping: Any, payload: Any) -> set[str]:
    """Return the ids of the messages that the function did not do: none where it reports no single ones."""
    if "ReportBatchItemFailures" not in (mapping.function_response_types or []) or not isinstance(payload, dict):
        return set()
    return {str(one["itemIdentifier"]) for one in payload.get("batchItemFailures") or []}


def _receive(queue: Any, most: int) -> list[dict[str, Any]]:
    """Take messages as Lambda hands them over, at most a payload's worth."""
    backend = sqs_backends[queue.account_id][queue.region]
    batch: list[dict[str, Any]] = []
    size = 0
    while len(batch) < most and size < MOST_BYTES:
        received = backend.receive_message(queue.name, min(most - len(batch), 100), 0, int(queue.visibility_timeout))
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


def _refused(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message, 400)
