"""Property tests of the three entry points: any body is refused with named problems, and no call is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask, request
from hypothesis import given, settings
from hypothesis import strategies as st

import aws_lambda.handler
import gcp_function.handler
from shared.errors import RequestError, SettingsError
from tests.azure_function.test_handler import indexed, post
from tests.limits import examples
from tests.test_fuzz_inputs import JSON, READERS, TEXT

BODIES = st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode())
GATEWAY = Flask("gateway")


@pytest.fixture(scope="module", autouse=True)
def without_settings() -> Any:
    """Remove all settings, so that a valid request fails while they are read, before any call."""
    with pytest.MonkeyPatch.context() as patch:
        for _, names in READERS.values():
            for name in names:
                patch.delenv(name, raising=False)
        yield


def names_problems(code: int, document: Any) -> bool:
    """Return whether a response lists every problem as text that can be encoded."""
    named = document["error"] in ("bad-request", "bad-settings")
    return named and code in (400, 500) and bool(document["faults"]) and all(one.encode() for one in document["faults"])


@settings(max_examples=examples(150), deadline=None)
@given(BODIES)
def test_any_body_posted_to_azure_is_refused_with_its_problems(body: bytes) -> None:
    """The status is 400 for an invalid request and 500 for the missing settings."""
    assert names_problems(*post({name: one.get_user_function() for name, one in indexed().items()}, body))


@settings(max_examples=examples(150), deadline=None)
@given(
    BODIES, st.dictionaries(st.sampled_from(["Content-Type", "User-Agent", "X-Cloud-Trace-Context"]), st.just("²/;o=1"))
)
def test_any_body_posted_to_gcp_is_refused_with_its_problems(body: bytes, headers: dict[str, str]) -> None:
    """The status is 400 for an invalid request and 500 for the missing settings, whatever the headers."""
    with GATEWAY.test_request_context(method="POST", data=body, headers=headers):
        response: Any = gcp_function.handler.reconcile(request)
    assert names_problems(response[1], json.loads(response[0]))


class Context:
    """The context object that Lambda passes with the event."""

    invoked_function_arn = ""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@settings(max_examples=examples(150), deadline=None)
@given(JSON | st.fixed_dictionaries({"source": TEXT, "detail": JSON}))
def test_any_lambda_event_is_refused_with_its_problems(event: Any) -> None:
    """The handler raises only errors of the request or of the settings."""
    context: Any = Context()
    with pytest.raises((RequestError, SettingsError)) as raised:
        aws_lambda.handler.handler(event, context)
    assert raised.value.problems
