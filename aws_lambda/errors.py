"""Translate botocore's exceptions into the engine's errors, by error code, or by message where causes share a code."""

from __future__ import annotations

from datetime import timedelta

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as SdkConnectionError
from botocore.parsers import ResponseParserError

from aws_lambda import manual_steps
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    NotFound,
    NotUnderstood,
    Permanent,
    ReportedError,
    RunStopped,
    Throttled,
    Transient,
    clean,
)
from shared.model import ManualStep, Observation
from shared.observe import as_bulk_observation
from shared.parsing import PARSING, requested_wait

BUCKET_PERMISSION = "bucket-permission"
DUPLICATE_NAME = "duplicate-name"
COLUMNS = "columns-not-in-table"
NO_TABLE = "no-such-table"
QUOTA = "quota-exceeded"
NOT_IN_ORGANIZATION = "AWSOrganizationsNotInUseException"
PRECONDITION = "precondition-failed"
OPERATION_RUNNING = "operation-in-progress"
NOT_MANAGEMENT = "not-management-account"

THROTTLES = frozenset(
    [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "EC2ThrottledException",
    ]
)
CREDENTIALS = frozenset(
    [
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
        "UnrecognizedClient",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "AuthFailure",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    ]
)
DENIALS = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedForDependencyException",
        "UnauthorizedOperation",
        "UnauthorizedAccess",
        "AuthorizationError",
        "Forbidden",
        "403",
        "NotAuthorized",
    ]
)
# AWS rejects the account itself; no permission is missing.
ACCOUNT = frozenset(
    ["AccountProblem", "AllAccessDisabled", "NotSignedUp", "OptInRequired", "SubscriptionRequiredException"]
)
# Prefixes of KMS errors that S3 passes on, such as "KMS.DisabledException" and "KMSInvalidStateException".
KMS = ("KMS.", "KMS", "Kms")
REGION = frozenset(["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
# The kind of policy that denied a call, by a phrase in AWS's message; the first match counts. Source: "Troubleshoot
# access denied error messages", IAM User Guide.
REFUSALS = (
    ("service control policy", "denied-by-scp"),
    ("resource control policy", "denied-by-rcp"),
    ("permissions boundary", "denied-by-boundary"),
    ("session policy", "denied-by-session-policy"),
    ("vpc endpoint policy", "denied-by-endpoint-policy"),
    ("blockpublicpolicy", "public-policy-blocked"),
    ("block public access", "public-policy-blocked"),
    ("kms:", "kms-denied"),
    ("resource-based policy", "denied-by-resource-policy"),
    ("explicit deny", "denied-explicitly"),
)
MISSING = frozenset(
    [
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchBucketPolicy",
        "NoSuchPublicAccessBlockConfiguration",
        "NoSuchLifecycleConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "ObjectLockConfigurationNotFoundError",
        "NoSuchEntity",
        "NotFound",
        "404",
        "ResourceNotFoundException",
        "StackSetNotFoundException",
        "OperationNotFoundException",
        "StackInstanceNotFoundException",
        "AccountNotFoundException",
        "ParentNotFoundException",
        "RootNotFoundException",
        "OrganizationalUnitNotFoundException",
    ]
)
PASSING = frozenset(
    [
        "InternalServerException",
        "InternalServerError",
        "InternalError",
        "InternalFailure",
        "ServiceException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ConcurrentModificationException",
        "OperationAborted",
        "500",
        "502",
        "503",
        "504",
    ]
)
CODES = {
    "PreconditionFailed": PRECONDITION,
    "ConditionalRequestConflict": PRECONDITION,
    "412": PRECONDITION,
    "ServiceQuotaExceededException": QUOTA,
    "LimitExceededException": QUOTA,
}
RUNNING = frozenset({"OperationInProgressException", "StaleRequestException", "OperationIdAlreadyExistsException"})

ACCESS_URL = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"
ORGANIZATIONS_ACCESS_GUIDE = ManualStep(
    "CloudFormation StackSets has no access to the organization",
    (
        "In the management account, run: aws cloudformation activate-organizations-access",
        "Keep it activated: all service-managed StackSets of the organization depend on it.",
    ),
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-activate-trusted-access.html",
)
NOT_MANAGEMENT_GUIDE = ManualStep(
    "this account cannot operate service-managed StackSets",
    (
        (
            'Deploy the function in the organization\'s management account, or set account_kind = "standalone" '
            "(ACCOUNT_KIND) to export only this account's costs, without roles in other accounts."
        ),
    ),
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-activate-trusted-access.html",
)
CREDENTIALS_REMEDY = (
    "Renew the credentials, then run again: on a laptop with aws sso login or aws login; for the function, check that "
    "its execution role exists and that its trust policy allows Lambda to assume it."
)
CLOCK_REMEDY = "Synchronize this machine's clock with NTP, then run again: AWS rejects signatures that are minutes off."
PASSING_REMEDY = "The next run tries again. If the error persists, check https://health.aws.amazon.com/health/status."
THROTTLED_REMEDY = "The next run tries again. If throttling persists, find other callers of this API in CloudTrail."
UNLISTED_REMEDY = (
    "This is an AWS error code: look it up in the API reference of the call in the message, and see 'Codes of AWS' in "
    "docs/runbook.md."
)
QUOTA_REMEDY = (
    "Request a higher quota in the Service Quotas console, in the region of the call, or delete unused resources."
)
# Remedies of errors for which the code is enough. All others have a remedy or a manual step of their own.
REMEDIES = {
    PRECONDITION: "Another run wrote the state in the meantime; the next run reads it again.",
    QUOTA: QUOTA_REMEDY,
    "TooManyBuckets": QUOTA_REMEDY,
    DUPLICATE_NAME: "The next run finds the export with this name, then adopts it or reports its owner.",
    COLUMNS: "The next run reads the table's columns again. If the error persists, open an AWS Support case.",
    NO_TABLE: "Remove the dataset from EXPORTS, or ask AWS Support when the table becomes available in this partition.",
    "sdk-refused": "The AWS SDK did not send the request. Report it with this message.",
    "unexpected": "The function does not recognize this failure. Report it with this message.",
    "MalformedPolicy": "Correct the statement of the bucket policy that the message names, then run again.",
    "PolicyTooLarge": "Remove unused statements (a bucket policy is limited to 20 KB), then run again.",
    "InvalidObjectState": "Restore the object that the message names from its archive tier, then run again.",
    "InvalidBucketName": "Set BUCKET_NAME to a valid bucket name, then deploy again.",
    "BucketNotEmpty": "Empty the bucket first, or keep it.",
}
RIGHTS_REMEDY = (
    "Grant the action in the message to the function's role (applying the deployment again does it), then run again."
)


def translate(error: Exception, region: str = "us-east-1") -> ReportedError:
    """Return the engine's error for any exception that a call raises, always with a remedy.

    Steps link to the console of the region's partition.
    """
    found = _translated(error, region)
    if not found.remedy:
        found.remedy = REMEDIES.get(found.code, PASSING_REMEDY if isinstance(found, Transient) else UNLISTED_REMEDY)
    return found


def _translated(error: Exception, region: str) -> ReportedError:
    if isinstance(error, ClientError):
        return _answer(error, region)
    no_credentials = (
        NoCredentialsError,
        PartialCredentialsError,
        CredentialRetrievalError,
        NoAuthTokenError,
        TokenRetrievalError,
        SSOError,
    )
    if isinstance(error, no_credentials):
        # The message of a credential provider may contain a token or the output of a credential process.
        return RunStopped(
            "credentials", f"no usable credentials were found ({type(error).__name__})", CREDENTIALS_REMEDY
        )
    if isinstance(error, HTTPClientError | SdkConnectionError | IncompleteReadError | ConnectionError | TimeoutError):
        return Transient("connection", f"AWS could not be reached: {clean(str(error))}")
    if isinstance(error, FlexibleChecksumError):
        return NotUnderstood("a read of S3", "its checksum is not that of the object")
    if isinstance(error, ResponseParserError | PARSING) and not isinstance(error, BotoCoreError):
        return NotUnderstood("a call of AWS", f"{type(error).__name__} {error}")
    if isinstance(error, BotoCoreError):
        return Permanent("sdk-refused", f"{type(error).__name__}: {clean(str(error))}")
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}")


def refusal_of(text: str) -> str:
    """Return the code of the policy type that denied a call, by AWS's message; "" if it names no policy."""
    lower = text.lower()
    return next((code for phrase, code in REFUSALS if phrase in lower), "")


def observed(error: CloudError, what: str) -> Observation:
    """Return the observation for a failed read of `what`: never Absent.

    A missing permission becomes a manual step after three runs; an error with a manual step does at once.
    """
    steps = (
        error.manual_step.steps if isinstance(error, Denied) and error.manual_step else (error.remedy or RIGHTS_REMEDY,)
    )
    manual_step = ManualStep(f"{what} cannot be read: {error.message}", steps, ACCESS_URL)
    if isinstance(error, Denied):
        error = Denied(error.code, error.message, error.remedy, escalation=error.escalation)
    return as_bulk_observation(error, manual_step)


def _answer(error: ClientError, region: str) -> ReportedError:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), clean(str(answer.get("Message", "")))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{error.operation_name} answered {code}: {message}"
    if code in THROTTLES:
        return Throttled("throttled", said, THROTTLED_REMEDY, retry_after=_retry_after(error))
    if code == "RequestTimeTooSkewed":
        return RunStopped("credentials", f"{error.operation_name} answered {code}", CLOCK_REMEDY)
    if code in CREDENTIALS:
        return RunStopped("credentials", f"{error.operation_name} answered {code}", CREDENTIALS_REMEDY)
    if code in ACCOUNT:
        return Manual("account-refused", manual_steps.account_refused(said, region), said)
    if code.startswith(KMS) and code not in DENIALS:
        return Manual("kms-key-unusable", manual_steps.key_unusable(said), said)
    if code in DENIALS:
        refusal = refusal_of(message)
        if not refusal:
            return Denied("access-denied", said, RIGHTS_REMEDY)
        manual_step = manual_steps.refused(refusal, error.operation_name, said)
        return Denied(refusal, said, " ".join(manual_step.steps), manual_step=manual_step)
    if code in MISSING:
        return NotFound(code, said)
    if code in RUNNING:
        return Transient(OPERATION_RUNNING, said, "The next run tries again.", within_run=False)
    if code in CODES:
        return Permanent(CODES[code], said)
    shared_code = _by_message(error.operation_name, code, message, said)
    if shared_code is not None:
        return shared_code
    if code in PASSING or status >= 500:
        return Transient("service-unavailable", said, retry_after=_retry_after(error))
    if code in REGION:
        return Permanent("wrong-region", said, "Set BUCKET_REGION to the region of the bucket.")
    if 300 <= status < 400:
        return NotUnderstood(
            error.operation_name, f"it is a redirect ({status} {code}), and redirects are not followed"
        )
    if not code:
        return NotUnderstood(error.operation_name, f"it has status {status} without an AWS error code")
    return Permanent(code, said)


def _by_message(operation: str, code: str, message: str, said: str) -> ReportedError | None:
    """Return the error for codes that AWS uses for several causes; None for all other codes."""
    if code not in ("ValidationException", "ValidationError", "InvalidOperationException"):
        return None
    lower = message.lower()
    if "cannot create duplicate export name" in lower:
        return Permanent(DUPLICATE_NAME, said)
    if "not a subset of the table" in lower:
        return Permanent(COLUMNS, said)
    if operation in ("CreateExport", "UpdateExport") and (not lower or "bucket permission validation" in lower):
        return Transient(BUCKET_PERMISSION, said, "The next run checks the bucket policy again.")
    missing = "does not exist" in lower or "not found" in lower or "invalid table" in lower
    if operation in ("GetTable", "CreateExport") and missing and "table" in lower:
        return NotApplicable(NO_TABLE, said)
    if "must enable organizations access" in lower:
        return Manual("organizations-access", ORGANIZATIONS_ACCESS_GUIDE, said)
    if "must be the management account" in lower or "delegated admin" in lower:
        return Manual(NOT_MANAGEMENT, NOT_MANAGEMENT_GUIDE, said)
    return None


def _retry_after(error: ClientError) -> timedelta | None:
    return requested_wait(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))
