"""The three entry points as the clouds call them, with any body: named faults, or the settings' own, and no call."""

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
def bare() -> Any:
    """Take the settings away: what gets as far as reading them ends there, before any call."""
    with pytest.MonkeyPatch.context() as patch:
        for _, names in READERS.values():
            for name in names:
                patch.delenv(name, raising=False)
        yield


def is_named(code: int, document: Any) -> bool:
    """Return whether an answer names every fault in text that can be shown."""
    named = document["error"] in ("bad-request", "bad-settings")
    return named and code in (400, 500) and bool(document["faults"]) and all(one.encode() for one in document["faults"])


@settings(max_examples=examples(150), deadline=None)
@given(BODIES)
def test_any_body_posted_to_azure_ends_in_named_faults(body: bytes) -> None:
    """400 for the request's, 500 for those of the settings."""
    assert is_named(*post({name: one.get_user_function() for name, one in indexed().items()}, body))


@settings(max_examples=examples(150), deadline=None)
@given(
    BODIES, st.dictionaries(st.sampled_from(["Content-Type", "User-Agent", "X-Cloud-Trace-Context"]), st.just("²/;o=1"))
)
def test_any_body_posted_to_google_ends_in_named_faults(body: bytes, headers: dict[str, str]) -> None:
    """400 for the request's, 500 for those of the settings, whatever its headers say."""
    with GATEWAY.test_request_context(method="POST", data=body, headers=headers):
        answered: Any = gcp_function.handler.reconcile(request)
    assert is_named(answered[1], json.loads(answered[0]))


class Context:
    """What Lambda passes beside the event."""

    invoked_function_arn = ""

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@settings(max_examples=examples(150), deadline=None)
@given(JSON | st.fixed_dictionaries({"source": TEXT, "detail": JSON}))
def test_any_event_of_lambda_ends_in_named_faults(event: Any) -> None:
    """The request's faults, or those of the settings, are raised by name: nothing else is."""
    context: Any = Context()
    with pytest.raises((RequestError, SettingsError)) as raised:
        aws_lambda.handler.handler(event, context)
    assert raised.value.problems
