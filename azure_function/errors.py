"""Translate azure-core's exceptions to the engine's classes, by error code and, where codes are shared, by message.

The module is long because the order of its rules matters: rules that could hide each other are in one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    DeserializationError,
    HttpResponseError,
    IncompleteReadError,
    SerializationError,
    ServiceRequestError,
    ServiceResponseError,
)

from azure_function import manual_steps
from azure_function.manual_steps import Refusal
from shared.errors import (
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
    Unreachable,
    clean,
)
from shared.model import EscalationPolicy, ManualStep
from shared.parsing import PARSING, requested_wait

ETAG = "etag-refused"
TYPE_REFUSED = "type-refused"
VERSION_REFUSED = "version-refused"
DESTINATION_UNREGISTERED = "destination-unregistered"
SOURCE_UNREGISTERED = "source-unregistered"
NO_DATA_YET = "no-cost-data-yet"
RIGHTS = "rights-missing"
UNAUTHORIZED = "unauthorized"
OTHER_TENANT = "other-tenant"
NO_APP_ON_BILLING = "billing-scope-refuses-apps"
STORAGE_RIGHTS = "storage-role-assignment-denied"
NETWORK_CLOSED = "storage-network-closed"
PRECONDITION = "precondition-failed"
CONTAINER_MISSING = frozenset({"ContainerNotFound"})

PROPAGATION = EscalationPolicy(
    longest=timedelta(hours=1)
)  # the longest that a role assignment takes to be seen everywhere
NETWORK_SETTLES = EscalationPolicy(tries=2)  # a changed network rule takes about a minute to apply
WEEK = timedelta(days=7)
HTTP_OK = 200
REGISTERING = timedelta(minutes=10)
BEING_DELETED = timedelta(seconds=20)  # a deleted container's name is available again after 30 seconds or more

CREDENTIALS_REMEDY = (
    "Renew the credentials (for the function: its managed identity, else AZURE_CLIENT_SECRET), and check "
    "AZURE_TENANT_ID and AZURE_CLOUD."
)
RIGHTS_REMEDY = (
    "Assign the function's identity the deployment's custom role on the scope in the message, then run again."
)
WAIT_REMEDY = (
    "Nothing: a later run retries. If it lasts for a day, check the Azure status page and the function's network."
)
NOT_FOUND_REMEDY = (
    "Correct the id in the settings, or assign the function's identity a role that can read this resource."
)
REPORT_REMEDY = (
    "Nothing at first: the function retries after a back-off. If the error recurs, report it with this line."
)
UNKNOWN_REMEDY = (
    "This error code is not known. Correct what the message names, then run `tailpipe-exports run azure` with the "
    "scope. docs/runbook.md (Codes of Azure) lists the known codes. The function retries after a growing wait."
)

# What the owner of a tenant, or the operator, does about a refused token. Sources: "Microsoft Entra authentication and
# authorization error codes", "Important considerations and restrictions for federated identity credentials", and
# "Inactive tenants" (Microsoft Learn).
_CONSENT = (
    "Ask an administrator of the tenant to accept the link that `tailpipe-exports tenants invite azure` prints, and to "
    "assign the roles beside it: a new consent starts without roles."
)
_FEDERATED = (
    "Add the identity TENANTS_IDENTITY to the application's federated credentials: the issuer of this deployment's "
    "tenant, its object id as the subject, and the audience api://AzureADTokenExchange. Only a user-assigned identity "
    "of the application's own tenant is accepted."
)
_CERTIFICATE = (
    "Upload the certificate in the entry's vault to the application registration, or renew it there and here."
)
ENTRY_REMEDIES = {
    "AADSTS65001": _CONSENT,
    "AADSTS700016": _CONSENT,
    "AADSTS7000229": _CONSENT,
    "AADSTS7000112": "Ask an administrator of the tenant to enable users' sign-in for this enterprise application.",
    "AADSTS53003": (
        "Ask an administrator of the tenant to exclude the application from the Conditional Access policy, or to allow "
        "the function's outbound addresses in it."
    ),
    "AADSTS5000225": "Ask an administrator of the tenant to have it reactivated by Microsoft; else remove it here.",
    "AADSTS90002": "Correct tenant_id in the tenant's entry; if the tenant was deleted, remove it from the registry.",
    "AADSTS700211": _FEDERATED,
    "AADSTS700212": _FEDERATED,
    "AADSTS700213": _FEDERATED,
    "AADSTS700236": _FEDERATED,
    "AADSTS700027": _CERTIFICATE,
    "AADSTS1000502": _CERTIFICATE,
}
ENTRY_REMEDY = (
    "Look the code up at https://login.microsoftonline.com/error, correct what it names with the tenant's "
    "administrator, then run `tailpipe-exports tenants check azure`."
)
ROLES_REMEDY = (
    "Ask an administrator of the tenant to assign the application the roles that `tailpipe-exports tenants invite "
    "azure` prints; they take effect within minutes."
)
_ENTRA_BUSY = frozenset({"AADSTS90033", "AADSTS50033"})  # "a transient error has occurred; try again"

THROTTLES = frozenset(
    {
        "429",
        "TooManyRequests",
        "RequestThrottled",
        "SubscriptionRequestsThrottled",
        "ServerBusy",
        "ResourceRequestsThrottled",
    }
)
WAIT_HEADERS = (
    "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-entity-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-tenant-retry-after",
    "x-ms-ratelimit-microsoft.costmanagement-client-retry-after",
)
WAIT_MS_HEADERS = ("retry-after-ms", "x-ms-retry-after-ms")

_EXPORTS_RP = r"microsoft\.costmanagementexports"
_NAMESPACE = re.compile(r"Microsoft\.[A-Za-z]+")
_ASSIGNMENT = re.compile(r"(?:/[\w.()-]+)+/policyAssignments/[\w.()-]+", re.IGNORECASE)


def translate(error: Exception) -> ReportedError:
    """Return the engine's error for any exception that a call may raise."""
    # The token endpoint and Resource Manager raise the same class; only a 401 of the latter concerns a scope.
    no_token = isinstance(error, ClientAuthenticationError) and (error.status_code != 401 or "AADSTS" in str(error))
    if isinstance(error, HttpResponseError) and error.status_code is not None and not no_token:
        return _answer(error)
    if isinstance(error, ClientAuthenticationError) and error.status_code == HTTP_OK:
        return NotUnderstood("the request for a token", type(error).__name__)
    if isinstance(error, ClientAuthenticationError):
        # The message of the identity library may contain parts of a token request.
        return RunStopped("credentials", f"Microsoft Entra ID issued no token ({_entra(error)})", CREDENTIALS_REMEDY)
    if isinstance(error, ServiceRequestError | ServiceResponseError | ConnectionError | TimeoutError):
        return Transient("connection", f"Azure could not be reached: {clean(str(error))}", WAIT_REMEDY)
    if isinstance(error, IncompleteReadError):
        return Transient("connection", f"the response of Azure ended early: {clean(str(error))}", WAIT_REMEDY)
    if isinstance(error, DecodeError | SerializationError | DeserializationError | PARSING):
        # Its text quotes the response, which may contain anything.
        return NotUnderstood("a call of Azure", type(error).__name__)
    if isinstance(error, AzureError):
        return Permanent("sdk-refused", f"{type(error).__name__}: {clean(str(error))}", REPORT_REMEDY)
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}", REPORT_REMEDY)


def entry_refused(error: ClientAuthenticationError, tenant: str, client: str) -> ReportedError:
    """Return the error for a token that a tenant did not issue to the application of its entry."""
    code = _entra(error)
    if code in _ENTRA_BUSY:
        return Transient("identity-endpoint", f"the tenant {tenant} issued no token ({code})", WAIT_REMEDY)
    message = f"the Entra tenant {tenant} issued no token for the application {client}"
    return Unreachable(code, message, ENTRY_REMEDIES.get(code, ENTRY_REMEDY))


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the longest delay that the response headers request, or None.

    Cost Management has several limits at once, each with its own header; the longest delay counts.
    """
    return requested_wait(headers, WAIT_HEADERS, WAIT_MS_HEADERS)


def namespace_of(error: ReportedError) -> str:
    """Return the resource provider that an error names, or Microsoft.CostManagement."""
    named = _NAMESPACE.search(error.message)
    return named.group() if named else "Microsoft.CostManagement"


def valid_values(error: ReportedError) -> tuple[str, ...]:
    """Return the valid values that an error lists (``valid values: 'Usage'``), or none."""
    _, found, tail = error.message.partition("valid values:")
    return tuple(re.findall(r"'([\w.()-]+)'", tail)) if found else ()


class Rule(msgspec.Struct, frozen=True):
    """One known error: by one of `codes`, or by a `pattern` in its message, with one of `statuses` if given.

    Codes are compared exactly; the pattern ignores case.
    """

    becomes: Callable[[Refusal], ReportedError]
    codes: tuple[str, ...] = ()
    pattern: str = ""
    statuses: tuple[int, ...] = ()

    def knows(self, refusal: Refusal) -> bool:
        """Return whether the rule matches an error response."""
        if self.statuses and refusal.status not in self.statuses:
            return False
        return refusal.code in self.codes or bool(
            self.pattern and re.search(self.pattern, refusal.message, re.IGNORECASE | re.DOTALL)
        )


def _manual(code: str, manual_step: Callable[[Refusal], ManualStep]) -> Callable[[Refusal], ReportedError]:
    """Return a translation to a manual step."""
    return lambda refusal: Manual(code, manual_step(refusal), refusal.summary)


def _later(code: str, wait: timedelta) -> Callable[[Refusal], ReportedError]:
    """Return a translation to a retry in a later run."""
    return lambda refusal: Transient(code, refusal.summary, WAIT_REMEDY, within_run=False, retry_after=wait)


def _again(code: str, remedy: str = WAIT_REMEDY, wait: timedelta | None = None) -> Callable[[Refusal], ReportedError]:
    """Return a translation to a retry within the run."""
    return lambda refusal: Transient(code, refusal.summary, remedy, retry_after=wait or refusal.wait)


def _permanent(code: str, remedy: str) -> Callable[[Refusal], ReportedError]:
    """Return a translation to a failure of the target."""
    return lambda refusal: Permanent(code, refusal.summary, remedy)


def _no_data(refusal: Refusal) -> ReportedError:
    return Transient(
        NO_DATA_YET,
        refusal.summary,
        "Nothing for three days. After that, the report contains a manual step.",
        within_run=False,
        retry_after=timedelta(days=1),
        escalation=EscalationPolicy(tries=3),
        manual_step=manual_steps.no_data(refusal),
    )


def _missing(refusal: Refusal) -> ReportedError:
    return NotFound(refusal.code or "NotFound", refusal.summary, NOT_FOUND_REMEDY)


def _denied(
    code: str, escalation: EscalationPolicy, manual_step: Callable[[Refusal], ManualStep]
) -> Callable[[Refusal], ReportedError]:
    """Return a translation to a refusal that becomes a manual step when it lasts."""

    def becomes(refusal: Refusal) -> ReportedError:
        step = manual_step(refusal)
        return Denied(code, refusal.summary, " ".join(step.steps), escalation=escalation, manual_step=step)

    return becomes


def _no_credentials(refusal: Refusal) -> ReportedError:
    return RunStopped("credentials", f"Azure returned {refusal.status} {refusal.code}".rstrip(), CREDENTIALS_REMEDY)


def _other_tenant(refusal: Refusal) -> ReportedError:
    # On a subscription it means that the subscription moved; elsewhere the token belongs to the wrong tenant.
    if not refusal.path.startswith("/subscriptions/"):
        return _no_credentials(refusal)
    return NotApplicable(OTHER_TENANT, refusal.summary, WEEK)


def _no_rights(refusal: Refusal) -> ReportedError:
    # No manual step yet: after the propagation time, the caller's permissions tell a missing role from an offer
    # that accepts no applications.
    return Denied(RIGHTS, refusal.summary, RIGHTS_REMEDY, escalation=PROPAGATION)


# Every known error; the first matching rule counts. Where Azure uses one code for several conditions, the rule that
# reads the message comes before the one that has the code.
# What a person can fix becomes Manual, or Denied with a manual step. What cannot be fixed for this scope becomes
# NotApplicable: the scope is excluded with the reason and is retried after a week.
RULES = (
    Rule(_manual("policy-denied", manual_steps.policy_denied),
         ("RequestDisallowedByPolicy",)),
    Rule(_manual("region-disallowed", manual_steps.region_disallowed), ("RequestDisallowedByAzure",)),
    Rule(_manual("scope-locked", manual_steps.scope_locked), ("ScopeLocked",)),
    Rule(_manual("destination-disabled", manual_steps.account_disabled), ("AccountIsDisabled",)),
    Rule(_manual("subscription-disabled", manual_steps.subscription_disabled),
         ("ReadOnlyDisabledSubscription", "SubscriptionNotActive", "SubscriptionIsDisabled")),
    # "Troubleshoot common Cost Management errors", Microsoft Learn: these three, and offers that it does not support.
    Rule(_manual("costs-hidden", manual_steps.costs_hidden),
         ("AccountCostDisabled", "DepartmentCostDisabled", "IndirectCostDisabled")),
    Rule(lambda it: NotApplicable("offer-unsupported", it.summary, WEEK),
         ("SubscriptionTypeNotSupported", "UnsupportedSubscriptionType")),
    Rule(_manual("subscription-restricted", manual_steps.subscription_restricted),
         ("DisallowedProvider", "DisallowedOperation")),
    Rule(lambda it: NotApplicable(it.code, it.summary, WEEK), ("SubscriptionNotFound",)),
    Rule(_other_tenant, ("InvalidAuthenticationTokenTenant",)),
    Rule(_no_credentials,
         ("ExpiredAuthenticationToken", "InvalidAuthenticationToken", "InvalidAuthenticationInfo",
          "AuthenticationFailedMissingToken"), statuses=(401,)),
    Rule(_later(SOURCE_UNREGISTERED, REGISTERING), ("MissingSubscriptionRegistration",),
         "not registered to use namespace"),
    Rule(_later("provider-registering", REGISTERING), pattern="regist", statuses=(503,)),
    Rule(_later(DESTINATION_UNREGISTERED, REGISTERING),
         pattern=f"rp not registered|{_EXPORTS_RP}.*register|register.*{_EXPORTS_RP}",
         # A 403 with these words refuses the registration itself.
         statuses=(400, 404, 409)),
    Rule(_no_data, pattern="cost management data is not supported for subscription"),
    Rule(_permanent(VERSION_REFUSED, "Set FOCUS_VERSION to a version that the message offers."),
         pattern=r"invalid dataversion|data ?version '[^']*' is not (supported|valid)"),
    Rule(_permanent(TYPE_REFUSED, "Choose datasets in EXPORTS that this agreement offers."),
         pattern="is not supported for agreement type|invalid definition type"),
    Rule(_permanent(ETAG, WAIT_REMEDY), pattern="etag value required"),
    Rule(_permanent(ETAG, WAIT_REMEDY), pattern="etag", statuses=(400, 409, 412)),
    Rule(lambda it: NotApplicable(NO_APP_ON_BILLING, it.summary, WEEK), ("NoHttpContext",), "nohttpcontext"),
    Rule(_manual("billing-role-missing", manual_steps.billing_role_missing), ("BillingAccessDenied",),
         "no claims present for the caller"),
    Rule(_denied(STORAGE_RIGHTS, EscalationPolicy(tries=2), manual_steps.storage_rights_missing),
         pattern="roleassignments/write.*storage account"),
    Rule(_manual("storage-refuses-exports", manual_steps.storage_behind_firewall),
         pattern="not authorized to access the specified storage account"),
    Rule(_manual("storage-keys-disabled", manual_steps.keys_disabled), ("KeyBasedAuthenticationNotPermitted",),
         "key[- ]based authentication"),
    Rule(_manual("role-assignments-full", manual_steps.role_assignments_full), ("RoleAssignmentLimitExceeded",),
         "maximum number of role assignments"),
    Rule(_manual("container-immutable", manual_steps.container_immutable),
         ("BlobImmutableDueToPolicy", "ContainerImmutabilityPolicyFailure"), "immutab"),
    Rule(_denied("linked-rights-missing", PROPAGATION, manual_steps.linked_rights_missing),
         ("LinkedAuthorizationFailed",)),
    Rule(_again("identity-passing"), ("FailedIdentityOperation", "PrincipalNotFound")),
    Rule(_again("container-being-deleted", wait=BEING_DELETED), ("ContainerBeingDeleted",)),
    # "Error codes for Azure Resource Manager", Microsoft Learn: another change is in progress.
    Rule(_again("change-under-way"),
         ("AccountBeingCreated", "AnotherOperationInProgress", "ConflictingConcurrentWriteNotAllowed")),
    Rule(_permanent(PRECONDITION, WAIT_REMEDY), ("ConditionNotMet", "BlobAlreadyExists", "TargetConditionNotMet")),
    # Storage has two codes: one for its network rules, the other for a missing role.
    Rule(_denied(NETWORK_CLOSED, NETWORK_SETTLES, manual_steps.storage_network_closed),
         ("AuthorizationFailure",)),
    Rule(_denied("storage-role-missing", PROPAGATION, manual_steps.storage_role_missing),
         ("AuthorizationPermissionMismatch", "InsufficientAccountPermissions")),
    Rule(_no_rights, ("RBACAccessDenied", "AuthorizationFailed", "Forbidden", "AccessDenied")),
    Rule(_no_rights, pattern="rbac", statuses=(401,)),
    Rule(_missing, tuple(CONTAINER_MISSING)),
)  # fmt: skip


def _answer(error: HttpResponseError) -> ReportedError:
    refusal = _refusal_of(error)
    if refusal.status == 429 or refusal.code in THROTTLES:
        return Throttled("throttled", refusal.summary, WAIT_REMEDY, retry_after=refusal.wait)
    if refusal.status < 400:
        # The SDK quotes the body that it could not parse, which may be a secret that was read.
        why = f"status {refusal.status}, {type(error).__name__}"
        return NotUnderstood(f"{refusal.method} {refusal.path}".strip() or "a call of Azure", why)
    for rule in RULES:
        if rule.knows(refusal):
            return rule.becomes(refusal)
    if refusal.status == 401:
        # The token is valid elsewhere unless the challenge says otherwise: this refusal concerns only the scope.
        if "invalid_token" in _challenge(error):
            return _no_credentials(refusal)
        return Denied(UNAUTHORIZED, refusal.summary, RIGHTS_REMEDY, escalation=PROPAGATION)
    call = f"{refusal.method} {refusal.path}: " if refusal.path else ""
    if refusal.status == 403:
        if refusal.code in ("", "403"):
            return _no_rights(refusal)
        # Not every 403 is a missing permission. For a code that is not listed, Azure's own message is shown.
        return Denied(refusal.code, f"{call}{refusal.summary}", UNKNOWN_REMEDY, escalation=PROPAGATION)
    if refusal.status == 404:
        return _missing(refusal)
    if refusal.status == 412:
        return Permanent(PRECONDITION, refusal.summary, WAIT_REMEDY)
    if refusal.status >= 500 or refusal.status == 408:
        return Transient("service-unavailable", refusal.summary, WAIT_REMEDY, retry_after=refusal.wait)
    return Permanent(refusal.code or "no-code", f"{call}{refusal.summary}", UNKNOWN_REMEDY)


def _refusal_of(error: HttpResponseError) -> Refusal:
    """Return the contents of the error response, wherever the SDK puts them."""
    body: Any = error.error
    code = getattr(body, "code", None) or getattr(error, "error_code", None) or ""
    message = str(getattr(body, "message", None) or error.message or error.reason or "")
    response: Any = error.response
    request = getattr(response, "request", None)
    url = urlsplit(str(getattr(request, "url", "")))
    return Refusal(
        status=error.status_code or 0,
        # The storage SDK's codes are members of an enumeration whose text is "StorageErrorCode.CONTAINER_NOT_FOUND".
        code=str(getattr(code, "value", code)),
        message=clean(message),
        method=str(getattr(request, "method", "")),
        host=url.hostname or "",
        path=url.path,
        wait=retry_after(getattr(response, "headers", None) or {}),
        policies=_policies(body, message),
    )


def _policies(body: Any, message: str) -> dict[str, str]:
    """Return the policy assignments that an error names in additionalInfo, else in its text."""
    found: dict[str, str] = {}
    for info in [one.info for one in getattr(body, "additional_info", None) or () if one.type == "PolicyViolation"]:
        if isinstance(info, Mapping) and info.get("policyAssignmentId"):
            name = info.get("policyAssignmentDisplayName") or info.get("policyAssignmentName") or ""
            found[str(info["policyAssignmentId"])] = str(name)
    if not found:
        found = dict.fromkeys(_ASSIGNMENT.findall(message), "")
    return found


def _challenge(error: HttpResponseError) -> str:
    headers = getattr(error.response, "headers", None) or {}
    return " ".join(str(value) for name, value in headers.items() if name.lower() == "www-authenticate")


def _entra(error: Exception) -> str:
    """Return the error code of Microsoft Entra ID (``AADSTS7000222``), which contains no secret."""
    found = re.search(r"AADSTS\d+", str(error))
    return found.group() if found else type(error).__name__
