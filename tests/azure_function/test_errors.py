"""Translation of Azure's error responses into the engine's error classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
)
from azure.core.rest import HttpRequest
from azure.mgmt.core.exceptions import ARMErrorFormat

from azure_function.errors import RULES, Rule, namespace_of, retry_after, translate, valid_values
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
)


class Response:
    """The parts of a response that azure-core's exceptions read."""

    reason = "refused"

    def __init__(self, status: int, body: str, headers: Mapping[str, str], url: str = "") -> None:
        self.request = HttpRequest("PUT", url) if url else None
        self.status_code = status
        self.headers = headers
        self._body = body

    def text(self) -> str:
        return self._body


def error_of(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, url: str = "", **more: Any
) -> ReportedError:
    """Return the translated error of a response to `PUT url`; without code and message the body is empty."""
    body = json.dumps({"error": {"code": code, "message": message, **more}}) if code or message else ""
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    return translate(kind(response=Response(status, body, headers or {}, url), error_format=ARMErrorFormat))


UNREGISTERED = (
    "RP Not Registered. Register destination storage account subscription with Microsoft.CostManagementExports"
)
NOT_REGISTERED = "The subscription is not registered to use namespace 'Microsoft.CostManagement'"
STORAGE_RIGHTS = "no 'Microsoft.Authorization/roleAssignments/write' action on specified storage account"
SUBSCRIPTION = "/subscriptions/5d3b2a4e-0000-4000-8000-000000000001"
EXPORT = f"{SUBSCRIPTION}/providers/Microsoft.CostManagement/exports/TailpipeDataExport-000001"
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
    (409, "ReadOnlyDisabledSubscription", "disabled", Manual, "subscription-disabled"),
    (403, "AccountIsDisabled", "The specified account is disabled", Manual, "destination-disabled"),
    (404, "SubscriptionNotFound", "could not be found", NotApplicable, "SubscriptionNotFound"),
    (400, "AccountCostDisabled", "'AO View Charges' must be enabled on the enrollment", Manual, "costs-hidden"),
    (401, "AccountCostDisabled", "Access to cost data has been disabled", Manual, "costs-hidden"),
    (400, "DepartmentCostDisabled", "disabled", Manual, "costs-hidden"),
    (400, "IndirectCostDisabled", "disabled", Manual, "costs-hidden"),
    (400, "SubscriptionTypeNotSupported", "not supported", NotApplicable, "offer-unsupported"),
    (403, "DisallowedProvider", "not allowed", Manual, "subscription-restricted"),
    (403, "DisallowedOperation", "not allowed", Manual, "subscription-restricted"),
    (403, "RequestDisallowedByPolicy", "was disallowed by policy", Manual, "policy-denied"),
    (403, "RequestDisallowedByAzure", "was disallowed by Azure", Manual, "region-disallowed"),
    (403, "SomethingNewAndForbidden", "the words of Azure", Denied, "SomethingNewAndForbidden"),
    (409, "ScopeLocked", "the following scope(s) are locked: '/subscriptions/x'", Manual, "scope-locked"),
    (409, "AccountBeingCreated", "The storage account is being created", Transient, "change-under-way"),
    (409, "ConflictingConcurrentWriteNotAllowed", "Retry later", Transient, "change-under-way"),
    (409, "ContainerBeingDeleted", "The specified container is being deleted", Transient, "container-being-deleted"),
    (403, "AuthorizationFailure", "This request is not authorized", Denied, "storage-network-closed"),
    (403, "AuthorizationPermissionMismatch", "This request is not authorized", Denied, "storage-role-missing"),
    (403, "KeyBasedAuthenticationNotPermitted", "not permitted", Manual, "storage-keys-disabled"),
    (409, "BlobImmutableDueToPolicy", "not permitted by a policy", Manual, "container-immutable"),
    (400, "BadRequest", "Invalid dataVersion '1.2-preview' for export type 'FocusCost'", Permanent, "version-refused"),
    (401, "", "", Denied, "unauthorized"),
    (403, "", "", Denied, "rights-missing"),
    (404, "ContainerNotFound", "The specified container does not exist", NotFound, "ContainerNotFound"),
    (412, "ConditionNotMet", "The condition is not met", Permanent, "precondition-failed"),
    (429, "429", "Too many requests", Throttled, "throttled"),
    (401, "ExpiredAuthenticationToken", "expired", RunStopped, "credentials"),
    (401, "InvalidAuthenticationTokenTenant", "wrong issuer", RunStopped, "credentials"),
    (401, "RBACAccessDenied", "no", Denied, "rights-missing"),
    (401, "Unauthorized", "RBAC refuses it", Denied, "rights-missing"),
    (404, "ResourceNotFound", "not found", NotFound, "ResourceNotFound"),
    (500, "InternalServerError", "oops", Transient, "service-unavailable"),
    (400, "BadRequest", "something else", Permanent, "BadRequest"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message", "kind", "expected"), ROWS, ids=lambda value: str(value)[:40])
def test_each_error_response_has_its_class_and_code(
    status: int, code: str, message: str, kind: type[ReportedError], expected: str
) -> None:
    """An error is recognized by status, code and message. Each has a remedy, or excludes the scope."""
    error = error_of(status, code, message)
    assert type(error) is kind
    assert error.code == expected
    assert error.remedy or isinstance(error, NotApplicable)


def rule_of(status: int, code: str, message: str) -> Rule | None:
    """Return the first rule of the table that matches an error."""
    refusal = Refusal(status, code, message)
    return next((rule for rule in RULES if rule.knows(refusal)), None)


def test_each_rule_matches_an_error_and_each_code_has_its_own_remedy() -> None:
    """No rule is shadowed by an earlier one, and no two codes have the same step."""
    matched = [rule_of(status, code, message) for status, code, message, *_ in ROWS]
    assert [rule for rule in RULES if rule not in matched] == []
    steps: dict[str, str] = {}
    for rule in RULES:
        for code in rule.codes:
            status = rule.statuses[0] if rule.statuses else 409
            error = error_of(status, code, "words of Azure", url=f"https://management.azure.com{EXPORT}")
            manual_step = getattr(error, "manual_step", None)
            if isinstance(error, NotApplicable):
                assert "words of Azure" in error.message
                continue
            assert len(error.remedy) > 20, code
            assert not manual_step or all(
                (manual_step.what, manual_step.steps, manual_step.url.startswith("https://learn"))
            ), code
            if manual_step and "words of Azure" in manual_step.what:
                steps.setdefault(manual_step.steps[0], error.code)
                assert steps[manual_step.steps[0]] == error.code, "two different codes have the same step"


def test_throttling_waits_for_the_longest_retry_after_header() -> None:
    """Cost Management has a header for each of its quotas, which the SDK ignores."""
    prefix = "x-ms-ratelimit-microsoft.costmanagement-"
    headers = {"Retry-After": "5", f"{prefix}qpu-retry-after": "11", f"{prefix}Tenant-Retry-After": "40"}
    error = error_of(429, "429", "Too many requests", headers)
    assert isinstance(error, Throttled)
    assert error.retry_after == timedelta(seconds=40)
    for quota in ("qpu", "entity", "tenant", "client"):
        assert retry_after({f"{prefix}{quota}-retry-after": "7"}) == timedelta(seconds=7)
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"retry-after-ms": "1500"}) == timedelta(seconds=1.5)


def test_missing_permissions_escalate_after_an_hour_or_a_second_run() -> None:
    """A role assignment can take an hour to propagate.

    A missing permission on the storage account escalates in the second run.
    """
    rights = error_of(401, "RBACAccessDenied", "no")
    assert isinstance(rights, Denied)
    assert rights.escalation is not None
    assert not rights.escalation.exhausted(timedelta(minutes=59), 9)
    assert rights.escalation.exhausted(timedelta(hours=1), 1)
    storage = error_of(403, "AuthorizationFailed", STORAGE_RIGHTS)
    assert isinstance(storage, Denied)
    assert storage.escalation is not None
    assert not storage.escalation.exhausted(timedelta(0), 1)
    assert storage.escalation.exhausted(timedelta(0), 2)


def test_unregistered_provider_is_retried_by_a_later_run() -> None:
    """A registration takes minutes, so no run waits for it."""
    for status, code, message, kind, _ in ROWS[:3]:
        error = error_of(status, code, message)
        assert kind is Transient
        assert isinstance(error, Transient)
        assert not error.within_run
        assert error.retry_after == timedelta(minutes=10)


def test_allowed_types_and_provider_are_parsed_from_the_message() -> None:
    """Azure reports both only in the text of the error."""
    refused = error_of(400, "BadRequest", "Invalid definition type 'AmortizedCost'; valid values: 'Usage'")
    assert valid_values(refused) == ("Usage",)
    assert valid_values(error_of(400, "BadRequest", "Export type: FocusCost is not supported")) == ()
    missing = error_of(409, "MissingSubscriptionRegistration", "not registered to use namespace 'Microsoft.Billing'")
    assert namespace_of(missing) == "Microsoft.Billing"


def test_rejected_credentials_stop_the_run() -> None:
    """The message has the code of the token endpoint but not its text, which may quote the request."""
    error = translate(ClientAuthenticationError(message="AADSTS7000222: the secret 'hush' has expired"))
    assert isinstance(error, RunStopped)
    assert "AADSTS7000222" in error.message
    assert "hush" not in str(error)
    body = '{"error":"invalid_client","error_description":"AADSTS90002: Tenant not found"}'
    refused = ClientAuthenticationError(message="AADSTS90002", response=Response(400, body, {}))
    assert isinstance(translate(refused), RunStopped)


def test_lost_connection_is_transient() -> None:
    """It is retried, not reported as an error of Azure."""
    assert isinstance(translate(ServiceRequestError("connection refused")), Transient)


def test_response_that_ends_early_is_transient() -> None:
    """The SDK raises a decoding error for it, but the connection was lost."""
    error = translate(IncompleteReadError("Connection broken: IncompleteRead(1 bytes read, 2 more expected)"))
    assert isinstance(error, Transient)
    assert (error.code, error.within_run) == ("connection", True)
    assert "ended early" in error.message


def test_message_redacts_secrets_in_an_error() -> None:
    """Azure may quote signatures, keys and tokens."""
    quoted = "https://a.blob/x?sv=1&sig=abc%2Bdef AccountKey=c2VjcmV0; Bearer eyJhbGciOi.eyJzdWIi.c2ln"
    message = error_of(400, "BadRequest", quoted).message
    for secret in ("abc%2Bdef", "c2VjcmV0", "eyJhbGciOi"):
        assert secret not in message


def test_runbook_has_every_code_of_the_table(repository: Path) -> None:
    """An operator looks up the code that the report shows."""
    runbook = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    codes = {error_of(status, code, message).code for status, code, message, *_ in ROWS}
    azures_own = {code for _, code, *_ in ROWS}
    assert [code for code in sorted(codes - azures_own) if f"`{code}`" not in runbook] == []


def test_401_without_a_code_affects_one_scope_unless_the_token_is_invalid() -> None:
    """Only ``invalid_token`` in the challenge means that the token is the cause, which ends the run."""
    assert isinstance(error_of(401, "", ""), Denied)
    challenge = {"WWW-Authenticate": 'Bearer authorization_uri="https://login", error="invalid_token"'}
    assert isinstance(error_of(401, "", "", challenge), RunStopped)


def test_wrong_issuer_excludes_a_subscription_but_ends_the_run_for_the_listing() -> None:
    """For a single subscription, it means that the subscription moved to another tenant."""
    url = f"https://management.azure.com{EXPORT}?api-version=2025-03-01"
    moved = error_of(401, "InvalidAuthenticationTokenTenant", "wrong issuer", url=url)
    assert isinstance(moved, NotApplicable)
    assert moved.code == "other-tenant"
    listing = "https://management.azure.com/subscriptions?api-version=2022-12-01"
    assert isinstance(error_of(401, "InvalidAuthenticationTokenTenant", "wrong issuer", url=listing), RunStopped)


def test_policy_denial_has_the_command_for_an_exemption() -> None:
    """The assignment is in additionalInfo, or in a list in the message; the command has assignment and scope."""
    group = "/providers/Microsoft.Management/managementGroups/corp"
    assignment = f"{group}/providers/Microsoft.Authorization/policyAssignments/deny-types"
    violation = {"policyAssignmentId": assignment, "policyAssignmentDisplayName": "Not allowed resource types"}
    url = f"https://management.azure.com{EXPORT}"
    detailed = error_of(
        403,
        "RequestDisallowedByPolicy",
        "Resource was disallowed by policy.",
        url=url,
        additionalInfo=[{"type": "PolicyViolation", "info": violation}],
    )
    assert isinstance(detailed, Manual)
    assert "Not allowed resource types" in detailed.manual_step.what
    text = f'disallowed by policy. Policy identifiers: \'[{{"policyAssignment":{{"id":"{assignment}"}}}}]\'.'
    listed = error_of(403, "RequestDisallowedByPolicy", text, url=url)
    for error in (detailed, listed):
        assert isinstance(error, Manual)
        assert f'--scope "{SUBSCRIPTION}" --policy-assignment "{assignment}"' in error.manual_step.steps[0]


def test_403_with_an_unknown_code_is_not_reported_as_a_missing_role() -> None:
    """The message has the call and Azure's text, and the remedy does not suggest a role."""
    url = f"https://management.azure.com{EXPORT}"
    error = error_of(403, "SomethingNewAndForbidden", "the words of Azure", url=url)
    assert isinstance(error, Denied)
    assert "the words of Azure" in error.message
    assert EXPORT in error.message
    assert "Grant" not in error.remedy
    assert "runbook" in error.remedy


def test_denied_registration_is_a_missing_permission() -> None:
    """Its message names the same resource provider as the error about an unregistered one."""
    denied = "no authorization to perform action 'Microsoft.CostManagementExports/register/action' over scope '/x'"
    assert error_of(403, "AuthorizationFailed", denied).code == "rights-missing"
    unregistered = error_of(
        400, "BadRequest", "RP Not Registered. Register subscription with Microsoft.CostManagementExports"
    )
    assert unregistered.code == "destination-unregistered"


def test_hidden_costs_name_the_partner_or_the_department() -> None:
    """The code decides if the message does not."""
    partner, department = (error_of(400, f"{one}CostDisabled", "disabled") for one in ("Indirect", "Department"))
    assert "the partner publishes the prices" in partner.remedy
    assert "DA View Charges" in department.remedy
    assert "partner" not in department.remedy


def test_lock_is_reported_with_its_scope() -> None:
    """The steps say which lock to remove, and which type of lock allows exports."""
    locked = f"{SUBSCRIPTION}/resourceGroups/core"
    error = error_of(
        409, "ScopeLocked", f"cannot perform write operation because following scope(s) are locked: '{locked}'."
    )
    assert isinstance(error, Manual)
    assert locked in error.manual_step.what
    assert "CanNotDelete" in " ".join(error.manual_step.steps)


def test_storage_distinguishes_network_rules_from_a_missing_role() -> None:
    """``AuthorizationFailure`` comes from the firewall, so the step concerns the network and not a role."""
    url = "https://exports01.blob.core.windows.net/dataexport?restype=container"
    network = error_of(403, "AuthorizationFailure", "not authorized", url=url)
    role = error_of(403, "AuthorizationPermissionMismatch", "not authorized", url=url)
    assert "Networking" in network.remedy
    assert "Assign" not in network.remedy
    assert "Storage Blob Data" in role.remedy
    assert "exports01" in network.remedy
    assert "exports01" in role.remedy


def test_unknown_error_is_reported_with_its_call_and_message() -> None:
    """The message has method and path without the query, and the remedy refers to the runbook."""
    url = f"https://management.azure.com{EXPORT}?api-version=2025-03-01&sig=hush"
    error = error_of(422, "Brandnew", "the words of Azure", url=url)
    assert (type(error), error.code) == (Permanent, "Brandnew")
    assert f"PUT {EXPORT}: Azure returned 422 Brandnew: the words of Azure" in error.message
    assert "hush" not in error.message
    assert "docs/runbook.md" in error.remedy


@pytest.mark.parametrize("error", [
    DecodeError("JSON is invalid", response=Response(200, "<html>", {})),
    json.JSONDecodeError("Expecting value", "<html>", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_unparsable_response_is_transient(error: Exception) -> None:
    """A proxy's page with status 200 is not a response of Azure. The message does not quote it."""
    translated = translate(error)
    assert type(translated) is NotUnderstood
    assert translated.code == "answer-not-understood"
    assert "<html>" not in translated.message
