"""azure-core's exceptions → the engine's classes, by Azure's code and, where codes are shared, by the message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from azure_function import guides
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    NotFound,
    Permanent,
    RunStopped,
    Throttled,
    Transient,
    cut,
)
from shared.model import Patience

ETAG = "etag-refused"
TYPE_REFUSED = "type-refused"
DESTINATION_UNREGISTERED = "destination-unregistered"
SOURCE_UNREGISTERED = "source-unregistered"
NO_DATA_YET = "no-cost-data-yet"
RIGHTS = "rights-missing"
NO_APP_ON_BILLING = "billing-scope-refuses-apps"
STORAGE_RIGHTS = "storage-role-assignment-denied"
PRECONDITION = "precondition-failed"
CONTAINER_MISSING = frozenset({"ContainerNotFound", "ContainerBeingDeleted"})

PROPAGATION = Patience(longest=timedelta(hours=1))  # the longest that a role assignment takes to be seen everywhere
WEEK = timedelta(days=7)
HTTP_UNAUTHORIZED = 401  # storage answers 403 with the same codes to a key that it does not know
REGISTERING = timedelta(minutes=10)

CREDENTIALS_REMEDY = (
    "Renew the credentials (for the function: its managed identity, else AZURE_CLIENT_SECRET), and see whether "
    "AZURE_TENANT_ID and AZURE_CLOUD are the right ones."
)
RIGHTS_REMEDY = "Grant the function's identity the deployment's custom role on the scope named, then run again."

THROTTLES = frozenset({"429", "TooManyRequests", "RequestThrottled", "SubscriptionRequestsThrottled", "ServerBusy"})
CREDENTIALS = frozenset(
    [
        "ExpiredAuthenticationToken",
        "InvalidAuthenticationToken",
        "InvalidAuthenticationTokenTenant",
        "InvalidAuthenticationInfo",
        "AuthenticationFailed",
        "AuthenticationFailedMissingToken",
    ]
)
DENIALS = frozenset(
    [
        "RBACAccessDenied",
        "AuthorizationFailed",
        "AuthorizationFailure",
        "Forbidden",
        "AuthorizationPermissionMismatch",
        "InsufficientAccountPermissions",
        "Unauthorized",
        "AccessDenied",
    ]
)
GONE = frozenset(
    [
        "ReadOnlyDisabledSubscription",
        "SubscriptionNotFound",
        "AccountCostDisabled",
        "DisallowedProvider",
        "DisallowedOperation",
        "SubscriptionNotActive",
    ]
)
IDENTITY_PASSING = frozenset({"FailedIdentityOperation", "PrincipalNotFound"})
PRECONDITIONS = frozenset({"ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet"})

WAIT_HEADERS = (
    "retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-entity-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-tenant-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-client-retry-after",
)
WAIT_MS_HEADERS = ("retry-after-ms", "x-ms-retry-after-ms")

# What may carry a secret in an answer that is quoted: SAS signatures, keys, tokens.
_SECRETS = re.compile(
    r"(?i)(?<=sig=)[^&\s\"']+|(?<=AccountKey=)[^;\s\"']+|(?<=Bearer )\S+|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
)
_NAMESPACE = re.compile(r"Microsoft\.[A-Za-z]+")


def translate(error: Exception) -> CloudError:
    """Return the engine's class for anything that a call may raise."""
    # The token's issuer and Resource Manager raise the same class; only the latter's 401 says something of a scope.
    no_token = isinstance(error, ClientAuthenticationError) and (error.status_code != 401 or "AADSTS" in str(error))
    if isinstance(error, HttpResponseError) and error.status_code is not None and not no_token:
        return _answer(error)
    if isinstance(error, ClientAuthenticationError):
        # The identity library's own words may hold parts of a request for a token.
        return RunStopped("credentials", f"no token was issued ({_entra(error)})", CREDENTIALS_REMEDY)
    if isinstance(error, ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError):
        return Transient("connection", f"Azure could not be reached: {clean(str(error))}")
    if isinstance(error, AzureError):
        return Permanent("sdk-refused", f"{type(error).__name__}: {clean(str(error))}")
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}")


def clean(message: str) -> str:
    """Return a message on one line, cut, and without secrets."""
    return cut(_SECRETS.sub("…", message))


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the longest wait that any of the answer's headers asks for; None if none does.

    Cost Management counts several things at once, each with a header of its own: the longest one decides.
    """
    low = {name.lower(): value for name, value in headers.items()}
    waits = [float(low[name]) for name in WAIT_HEADERS if _is_number(low.get(name))]
    waits += [float(low[name]) / 1000 for name in WAIT_MS_HEADERS if _is_number(low.get(name))]
    return timedelta(seconds=max(waits)) if waits else None


def namespace_of(error: CloudError) -> str:
    """Return the provider that a refusal names, Cost Management's own if it names none."""
    named = _NAMESPACE.search(error.message)
    return named.group() if named else "Microsoft.CostManagement"


def valid_types(error: CloudError) -> tuple[str, ...]:
    """Return the types that a refusal offers (``valid values: 'Usage'``), empty if it does not say."""
    _, found, tail = error.message.partition("valid values:")
    return tuple(re.findall(r"'(\w+)'", tail)) if found else ()


def _answer(error: HttpResponseError) -> CloudError:
    code, message = _told(error)
    status = int(error.status_code or 0)
    headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
    said = f"Azure answered {status} {code}: {message}" if code else f"Azure answered {status}: {message}"
    if status == 429 or code in THROTTLES:
        return Throttled("throttled", said, retry_after=retry_after(headers))
    for find in (_by_message, _by_code):
        found = find(code, message.lower(), said, status)
        if found is not None:
            return found
    if status == 401:
        return RunStopped("credentials", f"Azure answered 401 {code}", CREDENTIALS_REMEDY)
    if status == 403:
        return Denied(RIGHTS, said, RIGHTS_REMEDY, patience=PROPAGATION)
    if status == 404:
        return NotFound(code or "NotFound", said)
    if status >= 500 or status == 408:
        return Transient("service-unavailable", said, retry_after=retry_after(headers))
    return Permanent(code or "no-code", said)


def _by_message(code: str, lower: str, said: str, status: int) -> CloudError | None:
    """Return the class where Azure uses one code for different things; the first that matches counts."""
    if code == "MissingSubscriptionRegistration" or "not registered to use namespace" in lower:
        return Transient(SOURCE_UNREGISTERED, said, within_run=False, retry_after=REGISTERING)
    if status == 503 and ("regist" in lower or "regist" in code.lower()):
        return Transient("provider-registering", said, within_run=False, retry_after=REGISTERING)
    if "rp not registered" in lower or ("microsoft.costmanagementexports" in lower and "register" in lower):
        return Transient(DESTINATION_UNREGISTERED, said, within_run=False, retry_after=REGISTERING)
    if "cost management data is not supported for subscription" in lower:
        return Transient(
            NO_DATA_YET,
            said,
            within_run=False,
            retry_after=timedelta(days=1),
            patience=Patience(tries=3),
            guide=guides.no_data(said),
        )
    if "is not supported for agreement type" in lower or "invalid definition type" in lower:
        return Permanent(TYPE_REFUSED, said)
    if "etag value required" in lower or ("etag" in lower and status in (400, 409, 412)):
        return Permanent(ETAG, said)
    if "nohttpcontext" in lower or code == "NoHttpContext":
        return NotApplicable(NO_APP_ON_BILLING, said, WEEK)
    if "no claims present for the caller" in lower or code == "BillingAccessDenied":
        return Manual("billing-role-missing", guides.billing_role_missing(said), said)
    if "roleassignments/write" in lower and "storage account" in lower:
        # A right that was just given may need a moment; the second refusal is a person's business.
        return Denied(STORAGE_RIGHTS, said, patience=Patience(tries=2), guide=guides.storage_rights_missing())
    if "not authorized to access the specified storage account" in lower:
        return Manual("storage-refuses-exports", guides.storage_behind_firewall(), said)
    if "key-based authentication is currently disabled" in lower or "key based authentication" in lower:
        return Manual("storage-keys-disabled", guides.KEYS_DISABLED, said)
    if code == "RoleAssignmentLimitExceeded" or "maximum number of role assignments" in lower:
        return Manual("role-assignments-full", guides.role_assignments_full(), said)
    return None


def _by_code(code: str, lower: str, said: str, status: int) -> CloudError | None:
    if code in CREDENTIALS and status == HTTP_UNAUTHORIZED:
        return RunStopped("credentials", f"Azure answered {status} {code}", CREDENTIALS_REMEDY)
    if code == "LinkedAuthorizationFailed":
        return Denied(
            "linked-rights-missing", said, RIGHTS_REMEDY, patience=PROPAGATION, guide=guides.linked_rights_missing(said)
        )
    if code in GONE:
        return NotApplicable(code, said, WEEK)
    if code in IDENTITY_PASSING:
        return Transient("identity-passing", said)
    if code in PRECONDITIONS or (status == 412 and code != ETAG):
        return Permanent(PRECONDITION, said)
    if code in DENIALS or (status == 401 and "rbac" in lower):
        return Denied(RIGHTS, said, RIGHTS_REMEDY, patience=PROPAGATION)
    if code in CONTAINER_MISSING:
        return NotFound(code, said)
    return None


def _told(error: HttpResponseError) -> tuple[str, str]:
    """Return code and message of the answer, wherever this SDK puts them."""
    body: Any = error.error
    code = getattr(body, "code", None) or getattr(error, "error_code", None) or ""
    message = str(getattr(body, "message", None) or error.message or error.reason or "")
    # The storage SDK's codes are members of an enumeration whose text is "StorageErrorCode.CONTAINER_NOT_FOUND".
    return str(getattr(code, "value", code)), clean(message)


def _entra(error: Exception) -> str:
    """Return Entra's own code of a refusal (``AADSTS7000222``), which says what is wrong and no secret."""
    found = re.search(r"AADSTS\d+", str(error))
    return found.group() if found else type(error).__name__


def _is_number(value: str | None) -> bool:
    return value is not None and re.fullmatch(r"\d+(\.\d+)?", value.strip()) is not None
