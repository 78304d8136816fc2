"""Property tests of parsing requests and settings on all clouds: the error for invalid input lists its problems."""

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
def test_any_payload_is_parsed_or_refused_with_its_problems(payload: object) -> None:
    """The problems are text that can be encoded, whatever the payload."""
    try:
        parsed = parse_request(payload)
    except RequestError as error:
        "; ".join(error.problems).encode()
        return
    assert all(scope.encode() for scope in parsed.scopes)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from(["CreateAccountResult", "AcceptHandshake", "MoveAccount", "AccountJoinedOrganization", "Other"])
    | JSON,
    JSON,
    JSON,
    JSON,
    JSON,
)
def test_any_organizations_event_is_parsed_or_refused(
    name: object, service: object, response: object, parameters: object, identity: object
) -> None:
    """Only an id of twelve ASCII digits selects an account; any other type selects a full run."""
    detail = {
        "eventName": name,
        "serviceEventDetails": service,
        "responseElements": response,
        "requestParameters": parameters,
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
def test_any_environment_is_parsed_or_refused_with_its_problems(cloud: str) -> None:
    """No other exception is raised, whatever the environment contains."""
    read, names = READERS[cloud]

    @settings(max_examples=examples(150), deadline=None)
    @given(st.fixed_dictionaries({}, optional=dict.fromkeys(names, TEXT)))
    def check(environment: dict[str, str]) -> None:
        try:
            read(environment)
        except SettingsError as error:
            repr(error.problems[0])

    check()


@pytest.mark.parametrize("value", ["²", "٣", "9" * 5000, "1e3", "nan", "1_0", "+7"])
@pytest.mark.parametrize("cloud", READERS)
def test_number_in_settings_must_have_ascii_digits(cloud: str, value: str) -> None:
    """Digits of other scripts and overlong numbers are refused with the setting's name."""
    with pytest.raises(SettingsError) as refused:
        READERS[cloud][0]({"MAX_WRITES_PER_RUN": value})
    assert any(problem.startswith("MAX_WRITES_PER_RUN: ") for problem in refused.value.problems)
