"""Azure's answers → the engine's classes: every row of what operators really meet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from azure.mgmt.core.exceptions import ARMErrorFormat

from azure_function.errors import namespace_of, retry_after, translate, valid_types
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
)


class Answer:
    """What azure-core's exceptions read of a response."""

    reason = "refused"
    request = None

    def __init__(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.headers = headers
        self._body = body

    def text(self) -> str:
        return self._body


def answered(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> CloudError:
    """Return what an answer of Azure is translated to."""
    body = json.dumps({"error": {"code": code, "message": message}})
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    return translate(kind(response=Answer(status, body, headers or {}), error_format=ARMErrorFormat))


UNREGISTERED = (
    "RP Not Registered. Register destination storage account subscription with Microsoft.CostManagementExports"
)
NOT_REGISTERED = "The subscription is not registered to use namespace 'Microsoft.CostManagement'"
STORAGE_RIGHTS = "no 'Microsoft.Authorization/roleAssignments/write' action on specified storage account"
ROWS = [
    (400, "BadRequest", UNREGISTERED, Transient, "destination-unregistered"),
    (409, "MissingSubscriptionRegistration", NOT_REGISTERED, Transient, "source-unregistered"),
    (503, "ServiceUnavailable", "The provider is registering", Transient, "provider-registering"),
    (400, "400", "Cost management data is not supported for subscription(s) x", Transient, "no-cost-data-yet"),
    (400, "BadRequest", "Export type: FocusCost is not supported for Agreement Type: WebDirect", Permanent,
     "type-refused"),
    (400, "BadRequest", "Invalid definition type 'AmortizedCost'; valid values: 'Usage'", Permanent, "type-refused"),
    (401, "RBACAccessDenied", "The client does not have authorization", Denied, "rights-missing"),
    (403, "AuthorizationFailed", "The client does not have authorization", Denied, "rights-missing"),
    (403, "LinkedAuthorizationFailed", "no permission on the linked scope", Denied, "linked-rights-missing"),
    (401, "RBACAccessDenied", "NoHttpContext", NotApplicable, "billing-scope-refuses-apps"),
    (401, "Unauthorized", "No claims present for the caller", Manual, "billing-role-missing"),
    (403, "BillingAccessDenied", "no", Manual, "billing-role-missing"),
    (403, "AuthorizationFailed", STORAGE_RIGHTS, Denied, "storage-role-assignment-denied"),
    (400, "BadRequest", "The exports service is not authorized to access the specified storage account", Manual,
     "storage-refuses-exports"),
    (400, "BadRequest", "Key-based authentication is currently disabled on this storage account", Manual,
     "storage-keys-disabled"),
    (400, "RoleAssignmentLimitExceeded", "The role assignment limit of 4000", Manual, "role-assignments-full"),
    (400, "BadRequest", "Etag value required for update operation of report: x", Permanent, "etag-refused"),
    (409, "Conflict", "The eTag of report: x has changed", Permanent, "etag-refused"),
    (412, "PreconditionFailed", "The eTag of report: x has changed", Permanent, "etag-refused"),
    (400, "FailedIdentityOperation", "Identity operation failed", Transient, "identity-passing"),
    (400, "PrincipalNotFound", "Principal does not exist", Transient, "identity-passing"),
    (409, "ReadOnlyDisabledSubscription", "disabled", NotApplicable, "ReadOnlyDisabledSubscription"),
    (404, "SubscriptionNotFound", "could not be found", NotApplicable, "SubscriptionNotFound"),
    (401, "AccountCostDisabled", "Access to cost data has been disabled", NotApplicable, "AccountCostDisabled"),
    (403, "DisallowedProvider", "not allowed", NotApplicable, "DisallowedProvider"),
    (403, "DisallowedOperation", "not allowed", NotApplicable, "DisallowedOperation"),
    (401, "ExpiredAuthenticationToken", "expired", RunStopped, "credentials"),
    (401, "InvalidAuthenticationTokenTenant", "wrong issuer", RunStopped, "credentials"),
    (404, "ResourceNotFound", "not found", NotFound, "ResourceNotFound"),
    (500, "InternalServerError", "oops", Transient, "service-unavailable"),
    (400, "BadRequest", "something else", Permanent, "BadRequest"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "kind", "told"), ROWS, ids=lambda value: str(value)[:40])
def test_each_refusal_has_its_class(status: int, code: str, message: str, kind: type[CloudError], told: str) -> None:
    """A refusal is recognised by its code and words, whatever the HTTP status it comes with."""
    error = answered(status, code, message)
    assert type(error) is kind
    assert error.code == told


def test_throttling_waits_for_the_longest_of_all_headers() -> None:
    """The headers of Cost Management's several quotas are read, which the SDK leaves alone; the longest decides."""
    prefix = "x-ms-ratelimit-microsoft.costmanagement-"
    headers = {"Retry-After": "5", f"{prefix}qpu-retry-after": "11", f"{prefix}Tenant-Retry-After": "40"}
    error = answered(429, "429", "Too many requests", headers)
    assert isinstance(error, Throttled)
    assert error.retry_after == timedelta(seconds=40)
    for quota in ("qpu", "entity", "tenant", "client"):
        assert retry_after({f"{prefix}{quota}-retry-after": "7"}) == timedelta(seconds=7)
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"retry-after-ms": "1500"}) == timedelta(seconds=1.5)


def test_rights_get_an_hour_and_storage_rights_a_second_try() -> None:
    """Role assignments spread within an hour; a storage account's own right is a person's business the second time."""
    rights = answered(401, "RBACAccessDenied", "no")
    assert isinstance(rights, Denied)
    assert rights.patience is not None
    assert not rights.patience.exhausted(timedelta(minutes=59), 9)
    assert rights.patience.exhausted(timedelta(hours=1), 1)
    storage = answered(403, "AuthorizationFailed", STORAGE_RIGHTS)
    assert isinstance(storage, Denied)
    assert storage.patience is not None
    assert not storage.patience.exhausted(timedelta(0), 1)
    assert storage.patience.exhausted(timedelta(0), 2)


def test_registration_is_left_to_the_next_run() -> None:
    """A provider registers for minutes: nobody waits for it within a run."""
    for status, code, message, kind, _ in ROWS[:3]:
        error = answered(status, code, message)
        assert kind is Transient
        assert isinstance(error, Transient)
        assert not error.within_run
        assert error.retry_after == timedelta(minutes=10)


def test_refusals_say_which_types_and_providers_are_meant() -> None:
    """The allowed type and the provider's namespace are read from the words."""
    refused = answered(400, "BadRequest", "Invalid definition type 'AmortizedCost'; valid values: 'Usage'")
    assert valid_types(refused) == ("Usage",)
    assert valid_types(answered(400, "BadRequest", "Export type: FocusCost is not supported")) == ()
    missing = answered(409, "MissingSubscriptionRegistration", "not registered to use namespace 'Microsoft.Billing'")
    assert namespace_of(missing) == "Microsoft.Billing"


def test_credentials_that_get_no_token_stop_the_run() -> None:
    """The issuer's refusal ends the run with its code and without its words, which may quote the request."""
    error = translate(ClientAuthenticationError(message="AADSTS7000222: the secret 'hush' has expired"))
    assert isinstance(error, RunStopped)
    assert "AADSTS7000222" in error.message
    assert "hush" not in str(error)
    body = '{"error":"invalid_client","error_description":"AADSTS90002: Tenant not found"}'
    refused = ClientAuthenticationError(message="AADSTS90002", response=Answer(400, body, {}))
    assert isinstance(translate(refused), RunStopped)


def test_an_unreachable_azure_is_transient() -> None:
    """A lost connection is tried again, not reported as a refusal."""
    assert isinstance(translate(ServiceRequestError("connection refused")), Transient)


def test_secrets_never_reach_messages() -> None:
    """Signatures, keys and tokens that an answer quotes are left out."""
    quoted = "https://a.blob/x?sv=1&sig=abc%2Bdef AccountKey=c2VjcmV0; Bearer eyJhbGciOi.eyJzdWIi.c2ln"
    message = answered(400, "BadRequest", quoted).message
    for secret in ("abc%2Bdef", "c2VjcmV0", "eyJhbGciOi"):
        assert secret not in message
