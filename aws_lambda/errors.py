"""botocore's exceptions → the engine's classes, matched on AWS's code and, where codes are shared, on the message."""

from __future__ import annotations

from datetime import timedelta

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
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
        "Forbidden",
        "403",
        "NotAuthorized",
    ]
)
# The account itself, and not a right, is what AWS objects to.
ACCOUNT = frozenset(
    ["AccountProblem", "AllAccessDisabled", "NotSignedUp", "OptInRequired", "SubscriptionRequiredException"]
)
# S3 passes on what KMS says of a key, with this prefix or as "KMSInvalidStateException" and the like.
KMS = ("KMS.", "KMS", "Kms")
REGION = frozenset(["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
# Who forbids, by the words in which AWS's refusals end; the first that fits counts. Source: "Troubleshoot access denied
# error messages", IAM User Guide.
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
        "In the management account run: aws cloudformation activate-organizations-access",
        "Leave it on: service-managed StackSets of the whole organization rest on it.",
    ),
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-activate-trusted-access.html",
)
NOT_MANAGEMENT_GUIDE = ManualStep(
    "this account may not operate service-managed StackSets",
    (
        (
            'Deploy the function in the organization\'s management account, or set account_kind = "standalone" '
            "(ACCOUNT_KIND) to export this account's own costs without roles in others."
        ),
    ),
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stacksets-orgs-activate-trusted-access.html",
)
CREDENTIALS_REMEDY = (
    "Renew the credentials, then run again: on a laptop by aws sso login or aws login; for the function, check that "
    "its execution role exists and that Lambda may assume it."
)
CLOCK_REMEDY = "Set this machine's clock by NTP, then run again: AWS refuses signatures that are minutes off."
PASSING_REMEDY = "The next run tries again. If it lasts, see https://health.aws.amazon.com/health/status."
THROTTLED_REMEDY = "The next run tries again. If it lasts, see in CloudTrail who else makes many of these calls."
UNLISTED_REMEDY = (
    "This code is AWS's own: look it up in the API reference of the call that the message names, and see 'Codes of "
    "AWS' in docs/runbook.md."
)
QUOTA_REMEDY = (
    "Ask for a higher quota in the Service Quotas console, in the region of the call, or delete what is unused."
)
# What to do where the code alone decides it; the answers above have their own remedies or manual_steps.
REMEDIES = {
    PRECONDITION: "The state was written in between; the next run reads it again.",
    QUOTA: QUOTA_REMEDY,
    "TooManyBuckets": QUOTA_REMEDY,
    DUPLICATE_NAME: "The next run looks for the export that has the name, and adopts it or reports whose it is.",
    COLUMNS: "The next run asks for the table's columns again. If it lasts, open an AWS Support case.",
    NO_TABLE: "Take the dataset out of EXPORTS, or ask AWS Support when the table is offered in this partition.",
    "sdk-refused": "The function's SDK would not send the request: report it with this message.",
    "unexpected": "The function does not know this failure: report it with this message.",
    "MalformedPolicy": "Correct the statement of the bucket's policy that the message names, then run again.",
    "PolicyTooLarge": "Remove statements that are no longer needed: a bucket's policy holds 20 KB. Then run again.",
    "InvalidObjectState": "Restore the object that the message names from its archive tier, then run again.",
    "InvalidBucketName": "Set BUCKET_NAME to a valid bucket name, then deploy again.",
    "BucketNotEmpty": "Empty the bucket first, or leave it where it is.",
}
RIGHTS_REMEDY = "Grant the action named in the message to the function's role (the deployment does), then run again."


def translate(error: Exception) -> ReportedError:
    """Return the engine's class for anything that a call may raise, always with a remedy."""
    found = _translated(error)
    if not found.remedy:
        found.remedy = REMEDIES.get(found.code, PASSING_REMEDY if isinstance(found, Transient) else UNLISTED_REMEDY)
    return found


def _translated(error: Exception) -> ReportedError:
    if isinstance(error, ClientError):
        return _answer(error)
    no_credentials = (
        NoCredentialsError,
        PartialCredentialsError,
        CredentialRetrievalError,
        NoAuthTokenError,
        TokenRetrievalError,
        SSOError,
    )
    if isinstance(error, no_credentials):
        # The provider's own words may hold a token or the answer of a credential process.
        return RunStopped(
            "credentials", f"there are no usable credentials ({type(error).__name__})", CREDENTIALS_REMEDY
        )
    if isinstance(error, HTTPClientError | SdkConnectionError | IncompleteReadError | ConnectionError | TimeoutError):
        return Transient("connection", f"AWS could not be reached: {clean(str(error))}")
    if isinstance(error, ResponseParserError | PARSING) and not isinstance(error, BotoCoreError):
        return NotUnderstood("a call of AWS", f"{type(error).__name__} {error}")
    if isinstance(error, BotoCoreError):
        return Permanent("sdk-refused", f"{type(error).__name__}: {clean(str(error))}")
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}")


def refusal_of(text: str) -> str:
    """Return the code of the policy that forbids a call, by the words of the refusal; "" where no policy allows it."""
    lower = text.lower()
    return next((code for phrase, code in REFUSALS if phrase in lower), "")


def observed(error: CloudError, what: str) -> Observation:
    """Return what a failed read of `what` lets us say: never Absent.

    A missing right becomes a person's business after three runs, a manual step at once.
    """
    steps = (
        error.manual_step.steps if isinstance(error, Denied) and error.manual_step else (error.remedy or RIGHTS_REMEDY,)
    )
    manual_step = ManualStep(f"{what} cannot be read: {error.message}", steps, ACCESS_URL)
    if isinstance(error, Denied):
        error = Denied(error.code, error.message, error.remedy, escalation=error.escalation)
    return as_bulk_observation(error, manual_step)


def _answer(error: ClientError) -> ReportedError:
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
        return Manual("account-refused", manual_steps.account_refused(said), said)
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
    told = _by_message(error.operation_name, code, message, said)
    if told is not None:
        return told
    if code in PASSING or status >= 500:
        return Transient("service-unavailable", said, retry_after=_retry_after(error))
    if code in REGION:
        return Permanent("wrong-region", said, "Set BUCKET_REGION to the region that the bucket is in.")
    if 300 <= status < 400:
        return NotUnderstood(error.operation_name, f"it redirects ({status} {code}), which is never followed")
    if not code:
        return NotUnderstood(error.operation_name, f"status {status} came without an error code of AWS's")
    return Permanent(code, said)


def _by_message(operation: str, code: str, message: str, said: str) -> ReportedError | None:
    """Return the class where AWS uses one code for different things."""
    if code not in ("ValidationException", "ValidationError", "InvalidOperationException"):
        return None
    lower = message.lower()
    if "cannot create duplicate export name" in lower:
        return Permanent(DUPLICATE_NAME, said)
    if "not a subset of the table" in lower:
        return Permanent(COLUMNS, said)
    if operation in ("CreateExport", "UpdateExport") and (not lower or "bucket permission validation" in lower):
        return Transient(BUCKET_PERMISSION, said, "The next run looks at the bucket's policy again.")
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
