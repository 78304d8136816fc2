"""Odd requests and settings on all three handlers: a request or settings error that names the faults, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aws_lambda.handler
import aws_lambda.settings
import azure_function.settings
import gcp_function.settings
from shared.errors import RequestError, SettingsError
from shared.request import RunRequest, parse_request
from tests.limits import examples

TEXT = st.text(max_size=40) | st.sampled_from(
    ["²", "٣", "\ud800", "1e400", "nan", "-1", "9" * 5000, "0x10", "1_0", " "]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
READERS: Mapping[str, tuple[Callable[[Mapping[str, str]], Any], tuple[str, ...]]] = {
    "aws": (
        aws_lambda.settings.read_settings,
        ("AWS_REGION", "BUCKET_NAME", "BUCKET_REGION", "EXPORT_PREFIX", "EXPORTS", "CALL_BUDGET", "INCLUDE_ACCOUNTS",
         "KMS_KEY_ARN", "TAILPIPE_PRINCIPAL_ARN", "AWS_ENDPOINT_URL", "CALLS_AT_ONCE", "INCLUDE_OUS"),
    ),
    "azure": (
        azure_function.settings.read_settings,
        ("DESTINATION", "STATE_ACCOUNT", "EXPORTS", "RUN_SECONDS", "BACKFILL_MONTHS", "BILLING_SCOPES", "ARM_ENDPOINT",
         "AZURE_TENANT_ID", "INCLUDE_SUBSCRIPTIONS", "MAX_WRITES_PER_RUN", "REGION_NAME", "MANAGEMENT_GROUP"),
    ),
    "gcp": (
        gcp_function.settings.read_settings,
        ("GOOGLE_CLOUD_PROJECT", "BILLING_DATASET", "DATASET_LOCATION", "EXPORT_BUCKET", "COPY_DAYS", "COPY",
         "CLOUD_RUN_TIMEOUT_SECONDS", "RUN_SECONDS", "INCLUDE_ACCOUNTS", "STORAGE_EMULATOR_HOST", "EXPORTS"),
    ),
}  # fmt: skip


@settings(max_examples=examples(400), deadline=None)
@given(JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(("scopes", "dry_run", "force", "verify_all"), JSON)))
def test_any_request_is_a_request_or_its_faults(payload: object) -> None:
    """Whatever a trigger brings, each fault is named in text that can be written and sent."""
    try:
        asked = parse_request(payload)
    except RequestError as error:
        "; ".join(error.problems).encode()
        return
    assert all(scope.encode() for scope in asked.scopes)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from(["CreateAccountResult", "AcceptHandshake", "MoveAccount", "AccountJoinedOrganization", "Other"])
    | JSON,
    JSON,
    JSON,
    JSON,
    JSON,
)
def test_any_event_of_organizations_is_a_request_or_refused(
    name: object, service: object, response: object, asked: object, identity: object
) -> None:
    """Fields of another type ask for a full run: only an account's id of twelve ASCII digits names one."""
    detail = {
        "eventName": name,
        "serviceEventDetails": service,
        "responseElements": response,
        "requestParameters": asked,
        "userIdentity": identity,
    }
    try:
        request = aws_lambda.handler.request_of({"source": "aws.organizations", "detail": detail})
    except RequestError as error:
        str(error).encode()
        return
    assert isinstance(request, RunRequest)
    assert all(len(scope) == 12 and scope.isascii() and scope.isdigit() for scope in request.scopes)


@pytest.mark.parametrize("cloud", READERS)
def test_any_settings_are_settings_or_their_faults(cloud: str) -> None:
    """Whatever the environment holds, each fault is named, and none is raised about later."""
    read, names = READERS[cloud]

    @settings(max_examples=examples(150), deadline=None)
    @given(st.fixed_dictionaries({}, optional=dict.fromkeys(names, TEXT)))
    def check(environment: dict[str, str]) -> None:
        try:
            read(environment)
        except SettingsError as error:
            repr(error.problems[0])

    check()


@pytest.mark.parametrize("odd", ["²", "٣", "9" * 5000, "1e3", "nan", "1_0", "+7"])
@pytest.mark.parametrize("cloud", READERS)
def test_a_number_in_the_settings_is_in_ascii_digits(cloud: str, odd: str) -> None:
    """Digits of other scripts and numbers of thousands of digits are refused by the setting's name."""
    with pytest.raises(SettingsError) as refused:
        READERS[cloud][0]({"MAX_WRITES_PER_RUN": odd})
    assert any(fault.startswith("MAX_WRITES_PER_RUN: ") for fault in refused.value.problems)
