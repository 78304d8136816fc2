"""Azure's answers → the engine's classes: every row of what operators really meet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, DecodeError, HttpResponseError, ServiceRequestError
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


class Answer:
    """What azure-core's exceptions read of a response."""

    reason = "refused"

    def __init__(self, status: int, body: str, headers: Mapping[str, str], url: str = "") -> None:
        self.request = HttpRequest("PUT", url) if url else None
        self.status_code = status
        self.headers = headers
        self._body = body

    def text(self) -> str:
        return self._body


def answered(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, url: str = "", **more: Any
) -> ReportedError:
    """Return what an answer of Azure to `PUT url` is translated to; no code and no message is an empty body."""
    body = json.dumps({"error": {"code": code, "message": message, **more}}) if code or message else ""
    kind = ClientAuthenticationError if status == 401 else HttpResponseError
    return translate(kind(response=Answer(status, body, headers or {}, url), error_format=ARMErrorFormat))


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


@pytest.mark.parametrize(("status", "code", "message", "kind", "told"), ROWS, ids=lambda value: str(value)[:40])
def test_each_refusal_has_its_class(status: int, code: str, message: str, kind: type[ReportedError], told: str) -> None:
    """A refusal is recognized by its code and words; each has a remedy, or is excluded with the reason."""
    error = answered(status, code, message)
    assert type(error) is kind
    assert error.code == told
    assert error.remedy or isinstance(error, NotApplicable)


def rule_of(status: int, code: str, message: str) -> Rule | None:
    """Return the first rule of the table that knows a refusal."""
    refusal = Refusal(status, code, message)
    return next((rule for rule in RULES if rule.knows(refusal)), None)


def test_every_rule_of_the_table_is_met_and_each_of_its_codes_has_a_remedy_of_its_own() -> None:
    """No rule hides another one, and what a person is told names the step, not only that something failed."""
    known = [found for status, code, message, *_ in ROWS if (found := rule_of(status, code, message))]
    assert [rule for rule in RULES if rule not in known] == []
    steps: dict[str, str] = {}
    for rule in RULES:
        for code in rule.codes:
            status = rule.statuses[0] if rule.statuses else 409
            error = answered(status, code, "words of Azure", url=f"https://management.azure.com{EXPORT}")
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
                assert steps[manual_step.steps[0]] == error.code, "two different refusals share one remedy"


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
    assert rights.escalation is not None
    assert not rights.escalation.exhausted(timedelta(minutes=59), 9)
    assert rights.escalation.exhausted(timedelta(hours=1), 1)
    storage = answered(403, "AuthorizationFailed", STORAGE_RIGHTS)
    assert isinstance(storage, Denied)
    assert storage.escalation is not None
    assert not storage.escalation.exhausted(timedelta(0), 1)
    assert storage.escalation.exhausted(timedelta(0), 2)


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
    assert valid_values(refused) == ("Usage",)
    assert valid_values(answered(400, "BadRequest", "Export type: FocusCost is not supported")) == ()
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


def test_every_code_of_the_table_is_in_the_runbook(repository: Path) -> None:
    """The operator finds what Azure refused under the code that the report shows."""
    runbook = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    told = {answered(status, code, message).code for status, code, message, *_ in ROWS}
    azures_own = {code for _, code, *_ in ROWS}
    assert [code for code in sorted(told - azures_own) if f"`{code}`" not in runbook] == []


def test_a_bare_401_is_one_scopes_refusal_unless_the_challenge_blames_the_token() -> None:
    """Without a code it says nothing about the token; with ``invalid_token`` in the challenge the run ends."""
    assert isinstance(answered(401, "", ""), Denied)
    challenge = {"WWW-Authenticate": 'Bearer authorization_uri="https://login", error="invalid_token"'}
    assert isinstance(answered(401, "", "", challenge), RunStopped)


def test_a_wrong_issuer_is_a_subscription_that_moved_or_a_wrong_token() -> None:
    """Azure answers so for one subscription that another tenant has taken over: that one alone is excluded."""
    url = f"https://management.azure.com{EXPORT}?api-version=2025-03-01"
    moved = answered(401, "InvalidAuthenticationTokenTenant", "wrong issuer", url=url)
    assert isinstance(moved, NotApplicable)
    assert moved.code == "other-tenant"
    listing = "https://management.azure.com/subscriptions?api-version=2022-12-01"
    assert isinstance(answered(401, "InvalidAuthenticationTokenTenant", "wrong issuer", url=listing), RunStopped)


def test_a_policy_is_named_with_the_exemption_to_make() -> None:
    """The assignment comes from the answer's additionalInfo, or from the list in its text; the command names both."""
    group = "/providers/Microsoft.Management/managementGroups/corp"
    assignment = f"{group}/providers/Microsoft.Authorization/policyAssignments/deny-types"
    violation = {"policyAssignmentId": assignment, "policyAssignmentDisplayName": "Not allowed resource types"}
    url = f"https://management.azure.com{EXPORT}"
    told = answered(
        403,
        "RequestDisallowedByPolicy",
        "Resource was disallowed by policy.",
        url=url,
        additionalInfo=[{"type": "PolicyViolation", "info": violation}],
    )
    assert isinstance(told, Manual)
    assert "Not allowed resource types" in told.manual_step.what
    text = f'disallowed by policy. Policy identifiers: \'[{{"policyAssignment":{{"id":"{assignment}"}}}}]\'.'
    listed = answered(403, "RequestDisallowedByPolicy", text, url=url)
    for error in (told, listed):
        assert isinstance(error, Manual)
        assert f'--scope "{SUBSCRIPTION}" --policy-assignment "{assignment}"' in error.manual_step.steps[0]


def test_a_refusal_with_a_code_that_nobody_knows_is_not_taken_for_a_missing_right() -> None:
    """A 403 may mean anything: Azure's words of which call are kept, and nobody is told to grant a role."""
    url = f"https://management.azure.com{EXPORT}"
    error = answered(403, "SomethingNewAndForbidden", "the words of Azure", url=url)
    assert isinstance(error, Denied)
    assert "the words of Azure" in error.message
    assert EXPORT in error.message
    assert "Grant" not in error.remedy
    assert "runbook" in error.remedy


def test_a_registration_that_is_refused_is_a_missing_right() -> None:
    """The refusal names the service and the action, as an answer about an unregistered service does."""
    words = "no authorization to perform action 'Microsoft.CostManagementExports/register/action' over scope '/x'"
    assert answered(403, "AuthorizationFailed", words).code == "rights-missing"
    told = answered(400, "BadRequest", "RP Not Registered. Register subscription with Microsoft.CostManagementExports")
    assert told.code == "destination-unregistered"


def test_costs_that_a_partner_or_a_department_hides_name_who_shows_them() -> None:
    """The code tells whose step it is where the words do not."""
    partner, department = (answered(400, f"{one}CostDisabled", "disabled") for one in ("Indirect", "Department"))
    assert "the partner publishes the prices" in partner.remedy
    assert "DA View Charges" in department.remedy
    assert "partner" not in department.remedy


def test_a_lock_is_named_with_its_scope() -> None:
    """The step says which lock to remove, and which sort of lock does no harm."""
    locked = f"{SUBSCRIPTION}/resourceGroups/core"
    error = answered(
        409, "ScopeLocked", f"cannot perform write operation because following scope(s) are locked: '{locked}'."
    )
    assert isinstance(error, Manual)
    assert locked in error.manual_step.what
    assert "CanNotDelete" in " ".join(error.manual_step.steps)


def test_storage_tells_its_network_rules_from_a_missing_role() -> None:
    """``AuthorizationFailure`` is the firewall: the step is a network one and grants nothing."""
    url = "https://exports01.blob.core.windows.net/dataexport?restype=container"
    network = answered(403, "AuthorizationFailure", "not authorized", url=url)
    role = answered(403, "AuthorizationPermissionMismatch", "not authorized", url=url)
    assert "Networking" in network.remedy
    assert "Assign" not in network.remedy
    assert "Storage Blob Data" in role.remedy
    assert "exports01" in network.remedy
    assert "exports01" in role.remedy


def test_an_unknown_refusal_keeps_the_call_the_scope_and_azures_words() -> None:
    """Nothing is guessed: the reader gets what Azure said of which call, without the query, and where to look."""
    url = f"https://management.azure.com{EXPORT}?api-version=2025-03-01&sig=hush"
    error = answered(422, "Brandnew", "the words of Azure", url=url)
    assert (type(error), error.code) == (Permanent, "Brandnew")
    assert f"PUT {EXPORT}: Azure returned 422 Brandnew: the words of Azure" in error.message
    assert "hush" not in error.message
    assert "docs/runbook.md" in error.remedy


@pytest.mark.parametrize("error", [
    DecodeError("JSON is invalid", response=Answer(200, "<html>", {})),
    json.JSONDecodeError("Expecting value", "<html>", 0),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_looked_at_again(error: Exception) -> None:
    """A proxy's page with status 200 is no answer of Azure: the call is tried again, and the page is not quoted."""
    found = translate(error)
    assert type(found) is NotUnderstood
    assert found.code == "answer-not-understood"
    assert "<html>" not in found.message
