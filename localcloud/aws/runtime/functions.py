"""Lambda's invocations: synchronous or asynchronous, with reserved concurrency, retries and failure destinations.

Source: "Understanding Lambda function invocation methods", "How Lambda handles errors and retries with asynchronous
invocation" and "Configuring reserved concurrency" in the AWS Lambda Developer Guide. moto stores the functions.

To save waiting time, retries follow immediately instead of after one and two minutes, and events do not expire.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError
from moto.awslambda.exceptions import UnknownFunctionException
from moto.awslambda.models import lambda_backends

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.sessions import Sessions, send
from localcloud.aws.runtime.function_code import PLACEHOLDER
from localcloud.aws.runtime.function_fleet import Fleet
from localcloud.aws.runtime.function_logs import FunctionLogs, add_function_metrics
from localcloud.aws.runtime.lambda_runtime import Invocation
from shared.runtime.clock import Clock

# Environments of a function without reserved concurrency. AWS allows 1,000 per account; a laptop cannot run as many.
UNRESERVED = 10
_RETRIES = 2
_JOIN_LIMIT_S = 10


@dataclass
class QueuedEvent:
    """An asynchronous event; `outcome` is queued, running, succeeded, failed or dropped."""

    request_id: str
    where: Where
    name: str
    event: Any
    at: datetime
    outcome: str = "queued"
    attempts: int = 0
    result: Invocation | None = None
    error: str = ""

    @property
    def done(self) -> bool:
        return self.outcome in ("succeeded", "failed", "dropped")

    def as_json(self) -> dict[str, Any]:
        shown = {"request_id": self.request_id, "function": self.name, "outcome": self.outcome}
        sent = {"attempts": self.attempts, "error": self.error or None}
        return shown | sent | {"payload": self.result.payload if self.result else None}


@dataclass
class _Queue:
    """The events that wait for a function and the number of its busy environments."""

    waiting: deque[QueuedEvent] = field(default_factory=deque)
    busy: int = 0


class Functions:
    """Invokes the functions that moto stores. Thread-safe."""

    def __init__(self, clock: Clock, sessions: Sessions) -> None:
        self._clock = clock
        self._sessions = sessions
        self._fleet = Fleet(sessions, FunctionLogs(sessions))
        # Builds the code of the deployed function when it first runs.
        self.package: Callable[[], bytes] | None = None
        # Runs synchronous invocations, given event and request id, in place of a deployed function.
        self.stand_in: Callable[[Any, str], Invocation] | None = None
        self._changed = threading.Condition()
        self._queues: dict[str, _Queue] = {}
        self._events: dict[str, QueuedEvent] = {}
        self._workers: list[threading.Thread] = []
        self._closed = False

    def find(self, where: Where, name: str) -> Any:
        """Return moto's record of a function. Raises AwsError (ResourceNotFoundException)."""
        try:
            return lambda_backends[where.account][where.region].get_function(name)
        except UnknownFunctionException as error:
            arn = name if name.startswith("arn:") else f"function:{name}"
            raise AwsError("ResourceNotFoundException", f"Function not found: {arn}", 404) from error

    def invoke(self, where: Where, name: str, event: Any, request_id: str) -> Invocation:
        """Run an event now. Raises AwsError (TooManyRequestsException) if no environment is free."""
        if self.stand_in is not None:
            return self.stand_in(event, request_id)
        function = self.find(where, name)
        with self._changed:
            queue = self._queues.setdefault(function.function_arn, _Queue())
            if queue.busy >= _limit(function):
                add_function_metrics(where, function.function_name, Throttles=1)
                raise _throttled(function)
            queue.busy += 1
        try:
            return self._run(function, where, event, request_id)
        finally:
            self._release(queue)

    def submit(self, where: Where, name: str, event: Any, request_id: str | None = None) -> str:
        """Queue an event to run, in order of arrival, when an environment is free; returns its id."""
        function = self.find(where, name)
        queued = QueuedEvent(request_id or str(uuid.uuid4()), where, function.function_name, event, self._clock.now())
        with self._changed:
            self._queues.setdefault(function.function_arn, _Queue()).waiting.append(queued)
            self._events[queued.request_id] = queued
            worker = threading.Thread(target=self._work, args=(queued,), name="lambda-event", daemon=True)
            self._workers = [one for one in self._workers if one.is_alive()] + [worker]
            # Start under the lock, so that close() never joins a thread that has not started.
            worker.start()
        return queued.request_id

    def wait(self, request_id: str | None = None, limit_s: float = 60) -> list[QueuedEvent]:
        """Wait for one event, or for all events so far, and return them, oldest first.

        Raises TimeoutError if they have not finished after `limit_s` seconds, KeyError for an unknown id.
        """
        with self._changed:
            wanted = [self._events[request_id]] if request_id else list(self._events.values())
            if not self._changed.wait_for(lambda: all(one.done for one in wanted), limit_s):
                raise TimeoutError(f"{sum(not one.done for one in wanted)} events have not finished after {limit_s} s")
        return wanted

    def forget(self, arn: str) -> None:
        """Close the environments of a deleted function and drop its events."""
        with self._changed:
            self._changed.notify_all()
        self._fleet.forget(arn)

    def close(self) -> None:
        """Stop immediately: running invocations fail and queued events are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers = list(self._workers)
        self._fleet.close()
        for worker in workers:
            worker.join(_JOIN_LIMIT_S)

    def _run(self, function: Any, where: Where, event: Any, request_id: str) -> Invocation:
        add_function_metrics(where, function.function_name, Invocations=1)
        if self.package is not None and function.code_bytes == PLACEHOLDER:
            function.code_bytes = self.package()
        return self._fleet.run(function, where, event, request_id)

    def _release(self, queue: _Queue) -> None:
        with self._changed:
            queue.busy -= 1
            self._changed.notify_all()

    def _work(self, queued: QueuedEvent) -> None:
        try:
            function = self._wait_for_turn(queued)
            if function is None:
                self._end(queued, "dropped", "the function was deleted, or the local cloud has stopped")
                return
            try:
                self._attempt(function, queued)
            finally:
                self._release(self._queues[function.function_arn])
            self._notify_destination(function, queued)
            self._end(queued, "failed" if queued.error else "succeeded", queued.error)
        except Exception as error:  # reported to the caller that waits for the event
            self._end(queued, "dropped", f"{type(error).__name__}: {error}")
            raise

    def _wait_for_turn(self, queued: QueuedEvent) -> Any:
        """Wait for the event's turn and return the current function, or None if it was deleted."""
        with self._changed:
            while not self._closed:
                try:
                    function = self.find(queued.where, queued.name)
                except AwsError:
                    break
                queue = self._queues[function.function_arn]
                if queue.waiting[0] is queued and queue.busy < _limit(function):
                    queue.waiting.popleft()
                    queue.busy += 1
                    queued.outcome = "running"
                    # There may be a free environment for the next event, too.
                    self._changed.notify_all()
                    return function
                self._changed.wait()
            for queue in self._queues.values():
                if queued in queue.waiting:
                    queue.waiting.remove(queued)
            return None

    def _attempt(self, function: Any, queued: QueuedEvent) -> None:
        tries = 1 + int(_configuration(function).get("MaximumRetryAttempts", _RETRIES))
        while queued.attempts < tries and not self._closed:
            queued.attempts += 1
            try:
                queued.result = self._run(function, queued.where, queued.event, queued.request_id)
            except AwsError as error:
                queued.error = f"{error.code}: {error.message}"
                continue
            failure = queued.result.error
            queued.error = f"{failure['errorType']}: {failure['errorMessage']}" if failure else ""
            if not failure:
                return

    def _notify_destination(self, function: Any, queued: QueuedEvent) -> None:
        """Send the result of the event to its destination, with the function's role."""
        kind = "OnFailure" if queued.error else "OnSuccess"
        destination = _configuration(function).get("DestinationConfig", {}).get(kind, {}).get("Destination")
        if not destination:
            return
        try:
            session = self._sessions.assume(
                "lambda.amazonaws.com", str(function.role), function.function_name, queued.where
            )
            client = self._sessions.client(session, destination.split(":")[2], destination.split(":")[3])
            send(client, destination, json.dumps(_record(function, queued)))
        except (AwsError, ClientError):
            add_function_metrics(queued.where, function.function_name, DestinationDeliveryFailures=1)

    def _end(self, queued: QueuedEvent, outcome: str, error: str) -> None:
        with self._changed:
            queued.outcome, queued.error = outcome, error
            self._changed.notify_all()


def _limit(function: Any) -> int:
    reserved = function.reserved_concurrency
    return UNRESERVED if reserved is None else int(reserved)


def _configuration(function: Any) -> dict[str, Any]:
    configured = function.event_invoke_config
    return dict(configured[0].config) if configured else {}


def _throttled(function: Any) -> AwsError:
    reserved = function.reserved_concurrency is not None
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded" if reserved else "ConcurrentInvocationLimitExceeded"
    return AwsError("TooManyRequestsException", "Rate Exceeded.", 429, {"Reason": reason, "Type": "User"})


def _record(function: Any, queued: QueuedEvent) -> dict[str, Any]:
    """Return the invocation record that a destination receives.

    Source: "Capturing records of Lambda asynchronous invocations" in the AWS Lambda Developer Guide.
    """
    result = queued.result
    answer = result.error if result and result.error else result.payload if result else None
    return {
        "version": "1.0",
        "timestamp": f"{queued.at:%Y-%m-%dT%H:%M:%S.000Z}",
        "requestContext": {
            "requestId": queued.request_id,
            "functionArn": f"{function.function_arn}:$LATEST",
            "condition": "RetriesExhausted" if queued.error else "Success",
            "approximateInvokeCount": queued.attempts,
        },
        "requestPayload": queued.event,
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"}
        | ({"functionError": "Unhandled"} if queued.error else {}),
        "responsePayload": answer,
    }
