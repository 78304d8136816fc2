"""botocore's exceptions become the engine's classes, and nothing secret gets through."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
)

from aws_lambda.errors import (
    ACCOUNT,
    CODES,
    CREDENTIALS,
    DENIALS,
    MISSING,
    PASSING,
    REFUSALS,
    REGION,
    REMEDIES,
    RUNNING,
    THROTTLES,
    UNLISTED_REMEDY,
    observed,
    translate,
)
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    NotFound,
    Permanent,
    ReportedError,
    RunStopped,
    Throttled,
    Transient,
)
from shared.model import Unknown


def answer(
    code: str, message: str = "", operation: str = "Anything", status: int = 400, headers: dict[str, str] | None = None
) -> ClientError:
    """Return what botocore raises for an answer."""
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return ClientError(response, operation)


@pytest.mark.parametrize("code", sorted(THROTTLES))
def test_throttling_answers_slow_the_limiter(code: str) -> None:
    """Whatever a service calls it, throttling is throttling, with the wait that was asked for."""
    error = translate(answer(code, "Rate exceeded", headers={"retry-after": "7"}))
    assert isinstance(error, Throttled)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 7


@pytest.mark.parametrize("code", sorted(CREDENTIALS))
def test_unusable_credentials_stop_the_run(code: str) -> None:
    """Nothing more can be believed, and the service's words, which may hold a token, are left out."""
    error = translate(answer(code, "token AbCdSecret is expired", status=403))
    assert isinstance(error, RunStopped)
    assert "AbCdSecret" not in str(error)


def test_missing_credentials_stop_the_run() -> None:
    """The remedy says what to do."""
    error = translate(NoCredentialsError())
    assert isinstance(error, RunStopped)
    assert "credentials" in error.remedy


@pytest.mark.parametrize(
    ("code", "operation", "message", "kind", "ours"),
    [
        ("ValidationException", "CreateExport", "Cannot create duplicate export name", Permanent, "duplicate-name"),
        (
            "ValidationException",
            "CreateExport",
            "S3 bucket permission validation failed",
            Transient,
            "bucket-permission",
        ),
        ("ValidationException", "UpdateExport", "", Transient, "bucket-permission"),
        (
            "ValidationException",
            "CreateExport",
            "The columns in the query provided are not a subset of the table X's columns.",
            Permanent,
            "columns-not-in-table",
        ),
        ("ValidationException", "GetTable", "The table X does not exist", NotApplicable, "no-such-table"),
        ("ServiceQuotaExceededException", "CreateExport", "limit of 2", Permanent, "quota-exceeded"),
        (
            "ValidationError",
            "CreateStackInstances",
            "You must enable organizations access to operate a service managed stack set",
            Manual,
            "organizations-access",
        ),
        (
            "ValidationError",
            "ListStackInstances",
            "You must be the management account or delegated admin account of an organization",
            Manual,
            "not-management-account",
        ),
        ("OperationInProgressException", "UpdateStackInstances", "busy", Transient, "operation-in-progress"),
        ("AccessDeniedException", "ListAccounts", "You don't have permissions", Denied, "access-denied"),
        ("NoSuchBucket", "GetBucketPolicy", "gone", NotFound, "NoSuchBucket"),
        ("InternalServerException", "GetExport", "oops", Transient, "service-unavailable"),
        ("PreconditionFailed", "PutObject", "", Permanent, "precondition-failed"),
        ("ConditionalRequestConflict", "PutObject", "", Permanent, "precondition-failed"),
        ("SomethingNew", "GetExport", "what", Permanent, "SomethingNew"),
    ],
)
def test_each_answer_has_its_class(
    code: str, operation: str, message: str, kind: type[ReportedError], ours: str
) -> None:
    """AWS's code decides, and where AWS uses one code for many things, its message."""
    error = translate(answer(code, message, operation))
    assert type(error) is kind
    assert error.code == ours


def test_codes_count_and_http_statuses_do_not() -> None:
    """A quota's refusal comes with status 402, throttling of Organizations with 400: neither says what it is."""
    assert isinstance(translate(answer("TooManyRequestsException", status=400)), Throttled)
    assert isinstance(translate(answer("AccessDeniedException", status=400)), Denied)
    assert isinstance(translate(answer("ServiceQuotaExceededException", status=402)), Permanent)


@pytest.mark.parametrize(
    "error", [ConnectTimeoutError(endpoint_url="https://x"), EndpointConnectionError(endpoint_url="https://x")]
)
def test_connections_that_fail_are_tried_again(error: Exception) -> None:
    """A network's hiccup is transient."""
    assert isinstance(translate(error), Transient)


def test_a_running_operation_is_left_to_the_next_run() -> None:
    """Waiting for a StackSet operation would block everything else."""
    error = translate(answer("OperationInProgressException"))
    assert isinstance(error, Transient)
    assert not error.within_run


def test_requests_that_the_sdk_refuses_are_never_retried() -> None:
    """They would fail again."""
    assert type(translate(ParamValidationError(report="Missing required parameter"))) is Permanent


def test_key_ids_and_encoded_messages_are_cut_out() -> None:
    """What AWS quotes in an error may identify a credential."""
    text = "user AKIAIOSFODNN7EXAMPLE may not. Encoded authorization failure message: 8VnUPAw0Q"
    shown = str(translate(answer("AccessDenied", text)))
    assert "AKIAIOSFODNN7EXAMPLE" not in shown
    assert "8VnUPAw0Q" not in shown


def test_a_failed_read_is_never_an_absence() -> None:
    """Denied and not found alike leave the target unknown: only a listing may prove that it is not there."""
    for error in (Denied("access-denied", "no"), NotFound("NoSuchThing", "no"), Transient("x", "y")):
        assert isinstance(observed(error, "it"), Unknown)


def test_credentials_that_fail_in_a_read_stop_the_run() -> None:
    """They are not taken for something that is unknown: no handler of a read's failures catches them."""

    def read() -> None:
        try:
            raise translate(answer("ExpiredToken", "expired", "GetExport"))
        except CloudError as error:
            observed(error, "it")

    with pytest.raises(RunStopped):
        read()


CODES_OF_THE_TABLE = sorted(
    THROTTLES | CREDENTIALS | DENIALS | ACCOUNT | MISSING | PASSING | RUNNING | REGION | set(CODES) | set(REMEDIES)
)


@pytest.mark.parametrize("code", [*CODES_OF_THE_TABLE, "RequestTimeTooSkewed", "KMS.DisabledException"])
def test_each_code_of_the_table_has_a_remedy_of_its_own(code: str) -> None:
    """No failure that the table knows ends in an empty remedy or in the one for unknown codes.

    What a read does not find is no failure by itself, so it has no special remedy.
    """
    error = translate(answer(code, "the words of AWS"))
    assert error.remedy.strip()
    assert error.remedy != UNLISTED_REMEDY or isinstance(error, NotFound)
    if isinstance(error, Manual | Denied) and error.manual_step:
        assert error.manual_step.steps
        assert "the words of AWS" in error.manual_step.what


REFUSED_BY = {
    "with an explicit deny in a service control policy": ("denied-by-scp", "SERVICE_CONTROL_POLICY"),
    "because no service control policy allows the s3:PutObject action": ("denied-by-scp", "SERVICE_CONTROL_POLICY"),
    "with an explicit deny in a resource control policy": ("denied-by-rcp", "RESOURCE_CONTROL_POLICY"),
    "because no permissions boundary allows the action": ("denied-by-boundary", "permissions_boundary_arn"),
    "with an explicit deny in a session policy": ("denied-by-session-policy", "session policy"),
    "because no VPC endpoint policy allows the action": ("denied-by-endpoint-policy", "VPC endpoint"),
    "with an explicit deny in a resource-based policy": ("denied-by-resource-policy", "Deny"),
    "with an explicit deny in an identity-based policy": ("denied-explicitly", "Deny"),
    "because public policies are blocked by the BlockPublicPolicy setting in S3 Block Public Access.": (
        "public-policy-blocked",
        "Principal *",
    ),
    "to perform: kms:GenerateDataKey because no identity-based policy allows the action": (
        "kms-denied",
        "key policy",
    ),
}


def test_each_sort_of_refusal_has_an_example() -> None:
    """The examples below walk the whole table of refusals."""
    assert {code for code, _ in REFUSED_BY.values()} == {code for _, code in REFUSALS}


@pytest.mark.parametrize("words", REFUSED_BY)
def test_a_refusal_says_who_forbids_and_what_lifts_it(words: str) -> None:
    """Granting the action would not help: the step names the policy that forbids, in writes and in reads."""
    code, step = REFUSED_BY[words]
    error = translate(answer("AccessDenied", f"User: arn is not authorized {words}", "PutBucketPolicy", 403))
    assert isinstance(error, Denied)
    assert error.code == code
    assert error.manual_step is not None
    assert step in error.manual_step.steps[0]
    seen = observed(error, "bucket b")
    assert isinstance(seen, Unknown)
    assert seen.manual_step is not None
    assert step in seen.manual_step.steps[0]
    assert "bucket b" in seen.manual_step.what


def test_an_unknown_code_keeps_the_words_and_leads_to_the_runbook() -> None:
    """The call and AWS's own text are in the message, the runbook in the remedy."""
    error = translate(answer("BrandNewException", "the words of AWS", "UpdateExport"))
    assert type(error) is Permanent
    assert "UpdateExport answered BrandNewException: the words of AWS" in error.message
    assert "docs/runbook.md" in error.remedy


def test_a_clock_that_is_off_is_not_a_matter_of_credentials() -> None:
    """Renewing credentials would not help."""
    error = translate(answer("RequestTimeTooSkewed", "The difference is too large", status=403))
    assert isinstance(error, RunStopped)
    assert "clock" in error.remedy
