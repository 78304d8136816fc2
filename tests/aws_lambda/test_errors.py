"""botocore's exceptions are translated into the engine's errors, without secrets."""

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
    """Return the exception that botocore raises for an error response."""
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
    }
    return ClientError(response, operation)


@pytest.mark.parametrize("code", sorted(THROTTLES))
def test_throttling_codes_slow_the_limiter(code: str) -> None:
    """All of AWS's throttling codes are Throttled, with the requested wait."""
    error = translate(answer(code, "Rate exceeded", headers={"retry-after": "7"}))
    assert isinstance(error, Throttled)
    assert error.retry_after is not None
    assert error.retry_after.total_seconds() == 7


@pytest.mark.parametrize("code", sorted(CREDENTIALS))
def test_unusable_credentials_stop_the_run(code: str) -> None:
    """AWS's message is left out, since it may contain a token."""
    error = translate(answer(code, "token AbCdSecret is expired", status=403))
    assert isinstance(error, RunStopped)
    assert "AbCdSecret" not in str(error)


def test_missing_credentials_stop_the_run() -> None:
    """The remedy says how to renew them."""
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
def test_each_error_code_has_its_class(
    code: str, operation: str, message: str, kind: type[ReportedError], ours: str
) -> None:
    """AWS's code decides, or its message where AWS uses one code for several causes."""
    error = translate(answer(code, message, operation))
    assert type(error) is kind
    assert error.code == ours


def test_error_codes_count_and_http_statuses_do_not() -> None:
    """A reached quota has status 402 and throttling by Organizations 400: statuses do not identify the cause."""
    assert isinstance(translate(answer("TooManyRequestsException", status=400)), Throttled)
    assert isinstance(translate(answer("AccessDeniedException", status=400)), Denied)
    assert isinstance(translate(answer("ServiceQuotaExceededException", status=402)), Permanent)


@pytest.mark.parametrize(
    "error", [ConnectTimeoutError(endpoint_url="https://x"), EndpointConnectionError(endpoint_url="https://x")]
)
def test_connection_failures_are_transient(error: Exception) -> None:
    """A network failure may pass."""
    assert isinstance(translate(error), Transient)


def test_running_operation_is_deferred_to_the_next_run() -> None:
    """Waiting for a StackSet operation would block everything else."""
    error = translate(answer("OperationInProgressException"))
    assert isinstance(error, Transient)
    assert not error.within_run


def test_requests_rejected_by_the_sdk_are_not_retried() -> None:
    """They would fail again."""
    assert type(translate(ParamValidationError(report="Missing required parameter"))) is Permanent


def test_key_ids_and_encoded_messages_are_redacted() -> None:
    """AWS's error messages may contain credentials."""
    text = "user AKIAIOSFODNN7EXAMPLE may not. Encoded authorization failure message: 8VnUPAw0Q"
    shown = str(translate(answer("AccessDenied", text)))
    assert "AKIAIOSFODNN7EXAMPLE" not in shown
    assert "8VnUPAw0Q" not in shown


def test_failed_read_is_never_absent() -> None:
    """After a denied or not-found read the target is unknown: only a listing can prove absence."""
    for error in (Denied("access-denied", "no"), NotFound("NoSuchThing", "no"), Transient("x", "y")):
        assert isinstance(observed(error, "it"), Unknown)


def test_credentials_that_fail_in_a_read_stop_the_run() -> None:
    """They do not become Unknown: no handler of failed reads catches RunStopped."""

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
def test_each_known_code_has_a_specific_remedy(code: str) -> None:
    """No known failure has an empty remedy or that of unknown codes.

    NotFound is not a failure by itself, so it has no specific remedy.
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


def test_each_denying_policy_has_an_example() -> None:
    """The examples below cover all of REFUSALS."""
    assert {code for code, _ in REFUSED_BY.values()} == {code for _, code in REFUSALS}


@pytest.mark.parametrize("words", REFUSED_BY)
def test_denied_call_names_the_policy_and_the_remedy(words: str) -> None:
    """Granting the action would not help: the step names the denying policy, in writes and in reads."""
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


def test_unknown_code_keeps_the_message_and_refers_to_the_runbook() -> None:
    """The message has the call and AWS's text; the remedy refers to the runbook."""
    error = translate(answer("BrandNewException", "the words of AWS", "UpdateExport"))
    assert type(error) is Permanent
    assert "UpdateExport answered BrandNewException: the words of AWS" in error.message
    assert "docs/runbook.md" in error.remedy


def test_wrong_clock_has_its_own_remedy() -> None:
    """Renewing credentials would not help."""
    error = translate(answer("RequestTimeTooSkewed", "The difference is too large", status=403))
    assert isinstance(error, RunStopped)
    assert "clock" in error.remedy
