"""Entry point of the collector, a Lambda function of its own: merge a batch of events into one run of the function.

The function has a single concurrent execution. Were the queue its own event source, Lambda would throttle the mapping
while a run is in progress, and the messages would come back only after the queue's visibility timeout, which is at
least the function's timeout. The collector ends within seconds instead, and Lambda keeps its asynchronous invocation
until the function is free ("How Lambda handles errors and retries with asynchronous invocation").

It also announces deliveries: S3's events of manifests come through a queue of their own, and concern no run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from aws_lambda.clients import Clients, new_run, warm_clients
from aws_lambda.deliveries import announcer_of
from aws_lambda.events import Own, own_of, read_event
from aws_lambda.log import powertools_sink
from aws_lambda.object_events import read_object_event
from aws_lambda.secrets import webhook_of
from aws_lambda.settings import AwsSettings, account_of, read_settings
from shared.deliveries.document import Series
from shared.errors import CloudError
from shared.hints import Hint, Hints, as_document, describe, merge, read_all
from shared.parsing import mapping
from shared.redaction import printable
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.log import Sink
from shared.settings import Reader

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Lambda accepts 1 MB asynchronously, formerly 256 KB ("Lambda quotas"); hints that are larger become a full run.
MOST_PAYLOAD_BYTES = 200_000
ACCEPTED = 202  # the status of an accepted asynchronous invocation


class NotInvoked(Exception):
    """The function could not be invoked: Lambda returns the whole batch to the queue."""


class NotAnnounced(Exception):
    """Some deliveries could not be announced: Lambda returns the whole batch to the queue, and repeats are harmless."""


def handler(event: Any, context: LambdaContext, *, clock: Clock | None = None) -> dict[str, int]:
    """Merge the events of an SQS batch, and invoke the function once for all of them; or announce deliveries.

    Returns the numbers of hints or deliveries and of refused events; a refused event would be refused again, so its
    message counts as processed. Raises SettingsError, NotInvoked if Lambda does not accept the invocation, and
    NotAnnounced: then Lambda returns the whole batch to the queue, and nothing is lost.
    """
    settings = read_settings(os.environ)
    function, role = _read_own_settings(os.environ)
    account = account_of(str(context.invoked_function_arn)) or ""
    clock = clock or SystemClock()
    if _queue_of(event) == f"{function}-deliveries":
        seconds = context.get_remaining_time_in_millis() / 1000
        return announce(event, settings, account, warm_clients(settings, os.environ), powertools_sink, clock, seconds)
    hints, refused = collect(event, own_of(settings, account, role), powertools_sink, clock)
    if hints is not None:
        _invoke(warm_clients(settings, os.environ), function, _payload(hints))
        powertools_sink("info", "events-collected", {"cloud": "aws", "reason": describe(hints)})
    return {"hints": hints.count if hints else 0, "refused": refused}


def collect(event: Any, own: Own, sink: Sink, clock: Clock) -> tuple[Hints | None, int]:
    """Return the merged hints of a batch, None without any, and the number of refused events.

    Refused events are logged, one line for each code, with the first reason.
    """

    def read(record: object) -> Hint | None:
        return read_event(_body_of(record), own)

    found, refused = read_all(_records_of(event), read, sink, "aws")
    return merge(found, clock.now()), refused


def announce(
    event: Any, settings: AwsSettings, account: str, clients: Clients, sink: Sink, clock: Clock, seconds: float
) -> dict[str, int]:
    """Announce the deliveries that a batch's events name, within `seconds`. Raises NotAnnounced.

    Returns the number of periods and of refused events. A period whose files are not complete is no failure.
    """
    own = own_of(settings, account)

    def read(record: object) -> Series | None:
        return read_object_event(_body_of(record), own, settings.prefix)

    named, refused = read_all(_records_of(event), read, sink, "aws")
    run = new_run(settings, sink, clock, seconds)
    announcer = announcer_of(settings, account, clients, run, webhook_of(settings, clients, run), clients)
    if announcer is not None and (failed := announcer.announce_named(named)):
        raise NotAnnounced(f"{failed} of {len(set(named))} periods could not be announced; the log says why")
    return {"deliveries": len(set(named)), "refused": refused}


def _records_of(event: Any) -> list[Any]:
    records = mapping(event).get("Records")
    return records if isinstance(records, list) else [None]


def _body_of(record: object) -> str:
    body = mapping(record).get("body")
    return body if isinstance(body, str) else ""


def _queue_of(event: Any) -> str:
    """Return the name of the queue that a batch comes from; a batch is of one queue."""
    return str(mapping(next(iter(_records_of(event)), None)).get("eventSourceARN")).rpartition(":")[2]


def _payload(hints: Hints) -> bytes:
    body = json.dumps({"hints": as_document(hints)}).encode()
    if len(body) > MOST_PAYLOAD_BYTES:
        body = json.dumps({"hints": as_document(hints) | {"scopes": {}}}).encode()
    return body


def _read_own_settings(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the name of the function to invoke and the ARN of its role. Raises SettingsError."""
    reader = Reader(environment)
    function = reader.text("FUNCTION_NAME", "tailpipe-exports", r"[A-Za-z0-9_-]{1,64}", "a function's name")
    pattern = r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+"
    role = reader.text("FUNCTION_ROLE_ARN", "", pattern, "the ARN of the function's role")
    reader.finish()
    return function, role


def _invoke(clients: Clients, function: str, payload: bytes) -> None:
    """Invoke the function asynchronously. Raises NotInvoked."""
    try:
        answer = clients.functions.invoke(FunctionName=function, InvocationType="Event", Payload=payload)
        answer["Payload"].close()
        status = int(answer["StatusCode"])
    except (BotoCoreError, ClientError, CloudError) as error:
        # Not chained: the Lambda runtime prints the cause, whose text comes from outside.
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        raise NotInvoked(f"{function} could not be invoked: {printable(str(code))[:80]}") from None
    if status != ACCEPTED:
        raise NotInvoked(f"{function} could not be invoked: Lambda returned status {status}, not {ACCEPTED}")
