"""The collector merges a batch of events into one asynchronous invocation of the function."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from aws_lambda import collector, handler
from aws_lambda.collector import MOST_PAYLOAD_BYTES, NotInvoked, collect
from aws_lambda.log import logger
from shared.errors import NotUnderstood, SettingsError
from shared.hints import parse_hints
from shared.runtime.clock import VirtualClock
from tests.aws_lambda.cloudtrail import (
    ACCOUNT,
    FUNCTION_ROLE,
    MEMBER,
    OWN,
    called,
    deleted_export,
    instance_changed,
    of_bucket,
)
from tests.aws_lambda.support import START, Lines


class Context:
    """The part of Lambda's context that the collector reads."""

    invoked_function_arn = f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:tailpipe-exports-events"


class Lambda:
    """Stands in for Lambda's API: keeps the invocations, or fails."""

    def __init__(self, failure: Exception | None = None, status: int = 202) -> None:
        self.invocations: list[Mapping[str, Any]] = []
        self.failure = failure
        self.status = status

    @property
    def functions(self) -> Lambda:
        return self

    def invoke(self, **call: Any) -> dict[str, Any]:
        if self.failure:
            raise self.failure
        self.invocations.append(call)
        return {"StatusCode": self.status, "Payload": io.BytesIO()}

    def payloads(self) -> list[Any]:
        return [json.loads(call["Payload"]) for call in self.invocations]


@pytest.fixture
def lambda_api(monkeypatch: pytest.MonkeyPatch) -> Lambda:
    """Set the collector's environment, and return what takes its invocations."""
    given = {"AWS_REGION": "eu-west-1", "FUNCTION_NAME": "keeper", "FUNCTION_ROLE_ARN": FUNCTION_ROLE}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    api = Lambda()
    monkeypatch.setattr(collector, "warm_clients", lambda *_: api)
    return api


def batch(*events: Any) -> dict[str, Any]:
    """Return the event of an SQS batch."""
    bodies = [one if isinstance(one, str) else json.dumps(one) for one in events]
    return {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}


def invoke(event: Any) -> dict[str, int]:
    """Invoke the collector as Lambda does."""
    context: Any = Context()
    return collector.handler(event, context, clock=VirtualClock(START))


def test_a_batch_becomes_one_asynchronous_invocation(lambda_api: Lambda) -> None:
    """The function receives the accounts and kinds of all events, and the time of the first."""
    late = of_bucket("DeleteBucketPolicy", eventTime="2026-11-02T08:59:59Z")
    done = invoke(batch(late, deleted_export(), instance_changed("DELETE"), deleted_export()))
    assert done == {"hints": 4, "refused": 0}
    (call,) = lambda_api.invocations
    assert (call["FunctionName"], call["InvocationType"]) == ("keeper", "Event")
    assert lambda_api.payloads() == [
        {
            "hints": {
                "count": 4,
                "oldest": "2026-11-02T08:59:30Z",
                "scopes": {ACCOUNT: ["bucket", "export"], MEMBER: ["member-role"]},
            }
        }
    ]
    request = handler.request_of(lambda_api.payloads()[0])
    assert (request.trigger, set(request.scopes)) == ("event", {ACCOUNT, MEMBER})


def test_refused_events_are_logged_once_a_code_and_do_not_hold_up_the_others(
    lambda_api: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A storm of forged events writes one line a reason, and the true event among them is acted on."""
    stream = io.StringIO()
    monkeypatch.setattr(logger.handlers[0], "stream", stream)
    forged = deleted_export() | {"account": MEMBER}
    assert invoke(batch("{", *[forged] * 50, deleted_export(), {"x": 1})) == {"hints": 1, "refused": 52}
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    refused = {line["code"]: (line["level"], line["count"]) for line in lines if line["event"] == "event-refused"}
    assert refused == {"event-malformed": ("WARNING", 2), "event-of-another-account": ("WARNING", 50)}
    assert [line["event"] for line in lines][-1] == "events-collected"
    assert len(lambda_api.invocations) == 1


@pytest.mark.parametrize("event", [batch(), batch("{"), batch(deleted_export(role=FUNCTION_ROLE)), {}, None, [1]])
def test_without_a_hint_nothing_is_invoked(lambda_api: Lambda, event: Any) -> None:
    """Refused events and the function's own writes start no run."""
    assert invoke(event)["hints"] == 0
    assert lambda_api.invocations == []


REFUSED = ClientError({"Error": {"Code": "TooManyRequestsException", "Message": "x"}}, "Invoke")


@pytest.mark.parametrize(
    ("failure", "status", "named"),
    [
        (REFUSED, 202, "TooManyRequestsException"),
        (EndpointConnectionError(endpoint_url="https://x"), 202, "EndpointConnectionError"),
        (NotUnderstood("lambda Invoke", "it is an HTML page"), 202, "NotUnderstood"),
        (None, 200, "status 200"),
    ],
)
def test_a_batch_that_is_not_passed_on_returns_to_the_queue(
    lambda_api: Lambda, failure: Exception | None, status: int, named: str
) -> None:
    """The collector fails, so Lambda keeps the messages: no event is lost."""
    lambda_api.failure, lambda_api.status = failure, status
    with pytest.raises(NotInvoked, match=named):
        invoke(batch(deleted_export()))


def test_invalid_settings_keep_the_messages_too(lambda_api: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misconfigured collector loses nothing."""
    monkeypatch.setenv("FUNCTION_NAME", "not a name")
    monkeypatch.setenv("FUNCTION_ROLE_ARN", "a role")
    with pytest.raises(SettingsError) as caught:
        invoke(batch(deleted_export()))
    assert len(caught.value.problems) == 2
    assert lambda_api.invocations == []


def test_more_accounts_than_fit_ask_for_a_full_run(lambda_api: Lambda) -> None:
    """The payload stays within what Lambda takes, also in regions with the older limit."""
    invoke(batch(*(instance_changed("DELETE", f"{number:012d}") for number in range(8_000))))
    (call,) = lambda_api.invocations
    assert len(call["Payload"]) <= MOST_PAYLOAD_BYTES
    hints = parse_hints(lambda_api.payloads()[0]["hints"])
    assert (hints.count, hints.scopes) == (8_000, {})


def test_order_repetition_and_batches_change_no_scope() -> None:
    """Events come late, twice and in any order: together the batches name the same accounts and kinds."""
    events = [deleted_export(), *(instance_changed("DELETE", f"{number:012d}") for number in range(30))]
    clock, sink = VirtualClock(START), Lines()
    whole, _ = collect(batch(*events), OWN, sink, clock)
    shuffled = events * 2
    random.Random(7).shuffle(shuffled)
    parts = [collect(batch(*shuffled[at : at + 7]), OWN, sink, clock)[0] for at in range(0, len(shuffled), 7)]
    found = {scope: kinds for part in parts if part for scope, kinds in part.scopes.items()}
    assert whole is not None
    assert found == whole.scopes
    assert sink.lines == []


def test_an_unknown_event_says_its_name() -> None:
    """The reason names the event and its source, so that its rule can be found."""
    sink = Lines()
    collect(batch(called("aws.s3", "PutObject\n")), OWN, sink, VirtualClock(START))
    ((level, event, fields),) = sink.lines
    assert (level, event) == ("warning", "event-refused")
    assert "'PutObject" in fields["reason"]
    assert "'aws.s3'" in fields["reason"]
