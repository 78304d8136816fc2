"""Google's error responses and what they mean: a table of rules, of which the first that matches counts.

Reasons and phrases come before HTTP statuses. The module is long because the order matters, so that all rules have to
be in one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gcp_function.manual_steps import (
    api_disabled,
    key_unusable,
    locations_differ,
    object_held,
    organization_policy,
    perimeter_refused,
    project_not_billed,
    project_suspended,
    quota_project_denied,
    quota_project_missing,
    requester_pays,
    retention_blocks,
    scopes_missing,
)
from shared.errors import Denied, Manual, NotFound, Permanent, ReportedError, RunStopped, Throttled, Transient, clean
from shared.model import ManualStep
from shared.parsing import requested_wait

PRECONDITION = "precondition-failed"
ALREADY_EXISTS = "already-exists"
INVALID_QUERY = "invalid-query"
QUOTA = "quota-exceeded"
WRONG_LOCATION = "wrong-location"
LOCATIONS = "locations-differ"
API_DISABLED = "api-disabled"
ACCESS_DENIED = "access-denied"
UNAUTHORIZED = "unauthorized"
NOT_BILLED = "project-without-billing"
RETENTION = "retention-policy"
HELD = "object-held"
RANGE_EMPTY = "range-empty"
CREDENTIALS_REMEDY = (
    "On a laptop run gcloud auth application-default login. For the function, check that its service account exists "
    "and is enabled (gcloud iam service-accounts list); then run again."
)
RIGHTS_REMEDY = "Grant the function's service account the permission named in the message (the deployment does)."
UNDELETE = "Restore it within 30 days of its deletion (gcloud projects undelete), or deploy to another project."
PASSING_REMEDY = "Nothing at first: the next run tries again. If it persists, see https://status.cloud.google.com."
UNAUTHORIZED_REMEDY = (
    "Nothing at first: Google accepts the credentials for other calls. If it persists, check that the function's "
    "service account has its roles (the deployment grants them), and whether a proxy answers in Google's place."
)
GONE_REMEDY = "Check whether it was deleted, and the setting that names it."
UNKNOWN_REMEDY = "Look the reason up in Google's documentation of the call, and see 'Codes of GCP' in docs/runbook.md."
# The projects of gcloud's own OAuth clients, which are charged for calls with user credentials unless a quota project
# is set (source: "Troubleshoot your ADC setup", Google Cloud authentication).
GCLOUD_PROJECTS = ("764086051850", "32555940559")
_SERVICE = re.compile(r"[a-z]+\.googleapis\.com")
_PROJECT = re.compile(r"projects?[/ =]'?([a-z][a-z0-9-]{4,28}[a-z0-9]|\d{6,})")
_PERMISSION = re.compile(r"\b(?:bigquery|storage|billing|resourcemanager|serviceusage)\.[A-Za-z]+\.[A-Za-z]+\b")
_PERIMETER = re.compile(r"vpcServiceControlsUniqueIdentifier[:=\s\"']*([\w-]+)")
_CONSTRAINT = re.compile(r"constraints/[\w.]+")
_STATE = re.compile(r"disabled in state (\w+)")


class ErrorResponse(msgspec.Struct, frozen=True):
    """An error response: its reasons, those of the newer APIs first, and its message, shortened and without secrets.

    A failed job has only a reason and a message: its `status` is 0.
    """

    reasons: tuple[str, ...]
    message: str
    status: int = 0
    metadata: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    call: str = ""

    @property
    def service(self) -> str:
        """Return the API that the response names, "" if it names none."""
        found = _SERVICE.search(str(self.metadata.get("service", ""))) or _SERVICE.search(self.message)
        return found[0] if found else ""

    @property
    def project(self) -> str:
        """Return the id or number of the project that the response names, "" if it names none."""
        found = _PROJECT.search(str(self.metadata.get("consumer", ""))) or _PROJECT.search(self.message)
        return found[1] if found else ""


class Rule(msgspec.Struct, frozen=True):
    """One rule: it matches a response with one of its reasons or statuses, or with its words in the message."""

    code: str
    make: Callable[[ErrorResponse], ReportedError]
    reasons: frozenset[str] = frozenset()
    words: str = ""
    statuses: tuple[int, ...] = ()

    def matches(self, response: ErrorResponse) -> bool:
        """Return whether the rule matches."""
        if not self.reasons.isdisjoint(response.reasons) or response.status in self.statuses:
            return True
        text = f"{response.message} {response.metadata.get('consumer', '')}"
        return bool(self.words) and re.search(self.words, text, re.IGNORECASE) is not None


def _stopped(code: str, remedy: str) -> Callable[[ErrorResponse], ReportedError]:
    return lambda response: RunStopped(code, response.message, remedy)


def _permanent(code: str, remedy: str) -> Callable[[ErrorResponse], ReportedError]:
    return lambda response: Permanent(code, response.message, remedy)


def _manual(code: str, manual_step: Callable[[ErrorResponse], ManualStep]) -> Callable[[ErrorResponse], ReportedError]:
    return lambda response: Manual(code, manual_step(response), response.message)


def _unbilled(response: ErrorResponse) -> ManualStep:
    state = _STATE.search(response.message)
    named = state[1] if state else "delinquent" if "delinquent" in response.message else ""
    return project_not_billed(response.message, response.project, named)


def _perimeter(response: ErrorResponse) -> ManualStep:
    identifier = _PERIMETER.search(response.message)
    return perimeter_refused(identifier[1] if identifier else str(response.metadata.get("uid", "")), response.service)


def _constraint(response: ErrorResponse) -> ManualStep:
    named = _CONSTRAINT.search(response.message)
    return organization_policy(named[0] if named else "", response.message)


def _throttled(response: ErrorResponse) -> ReportedError:
    return Throttled("throttled", response.message, PASSING_REMEDY, retry_after=requested_wait(response.headers))


def _unavailable(response: ErrorResponse) -> ReportedError:
    return Transient(
        "service-unavailable", response.message, PASSING_REMEDY, retry_after=requested_wait(response.headers)
    )


def _not_found(response: ErrorResponse) -> ReportedError:
    code = WRONG_LOCATION if "was not found in location" in response.message else "not-found"
    return NotFound(code, response.message, GONE_REMEDY)


def _denied(response: ErrorResponse) -> ReportedError:
    right = _PERMISSION.search(response.message)
    remedy = f"Grant the function's service account {right[0]} (the deployment does)." if right else RIGHTS_REMEDY
    return Denied(ACCESS_DENIED, response.message, remedy)


def _unauthorized(response: ErrorResponse) -> ReportedError:
    challenge = " ".join(str(value) for name, value in response.headers.items() if name.lower() == "www-authenticate")
    if "invalid_token" in challenge:
        return _credentials(response)
    # The token was valid for earlier calls of this run, so only this call is refused.
    return Denied(UNAUTHORIZED, response.message, UNAUTHORIZED_REMEDY)


def _credentials(response: ErrorResponse) -> ReportedError:
    return RunStopped("credentials", f"Google refused the credentials ({response.status})", CREDENTIALS_REMEDY)


def _unlisted(response: ErrorResponse) -> ReportedError:
    if response.status == 403 and not any(response.reasons):
        return _denied(response)
    message = f"{response.message} ({response.call})" if response.call else response.message
    if response.status == 403:
        # Not every 403 is a missing permission: for a reason that is not listed, only Google's message is known.
        return Denied(response.reasons[0], message, UNKNOWN_REMEDY)
    return Permanent(next(iter(response.reasons), "") or f"status-{response.status}", message, UNKNOWN_REMEDY)


# Rules for the whole project come first: Google uses the same reasons for it as for single resources.
# Sources: "Error messages" (BigQuery), "HTTP status and error codes for JSON" (Cloud Storage), google.rpc.ErrorInfo and
# google.api.ErrorReason, "Troubleshoot common issues" (VPC Service Controls).
RULES: tuple[Rule, ...] = (
    Rule(
        "project-deleted",
        _stopped("project-deleted", UNDELETE),
        words="scheduled for deletion|project.{0,80} has been deleted|pending deletion",
    ),
    Rule(
        "no-quota-project",
        _manual("no-quota-project", lambda response: quota_project_missing(response.service)),
        words=f"requires a quota project|{'|'.join(GCLOUD_PROJECTS)}",
    ),
    Rule(
        "quota-project-denied",
        _manual("quota-project-denied", lambda response: quota_project_denied(response.message, response.project)),
        reasons=frozenset({"USER_PROJECT_DENIED"}),
        words="does not have required permission to use project",
    ),
    Rule(
        "wrong-project",
        _stopped(
            "wrong-project", "Set GOOGLE_CLOUD_PROJECT to the id of the project that the function is deployed in."
        ),
        reasons=frozenset({"CONSUMER_INVALID"}),
        words="not found: project|consumer project|invalid project",
    ),
    Rule(
        "project-suspended",
        _manual("project-suspended", lambda response: project_suspended(response.message, response.project)),
        reasons=frozenset({"CONSUMER_SUSPENDED"}),
        words="(consumer|project).{0,80} has been suspended",
    ),
    Rule(
        "scopes-missing",
        _manual("scopes-missing", lambda response: scopes_missing(response.message)),
        reasons=frozenset({"ACCESS_TOKEN_SCOPE_INSUFFICIENT"}),
        words="insufficient authentication scopes",
    ),
    Rule(
        NOT_BILLED,
        _manual(NOT_BILLED, _unbilled),
        reasons=frozenset({"billingNotEnabled", "BILLING_DISABLED", "accountDisabled", "UserProjectAccountProblem"}),
        words="billing has not been enabled|billing is disabled|billing to be enabled|delinquent billing account"
        "|billing account for the owning project is disabled",
    ),
    Rule(
        "vpc-service-controls",
        _manual("vpc-service-controls", _perimeter),
        reasons=frozenset({"SECURITY_POLICY_VIOLATED", "policyViolation"}),
        words="vpc service controls|vpcservicecontrolsuniqueidentifier",
    ),
    Rule(
        "organization-policy",
        _manual("organization-policy", _constraint),
        reasons=frozenset(
            {"ORG_RESTRICTION_VIOLATION", "RESOURCE_USAGE_RESTRICTION_VIOLATED", "LOCATION_ORG_POLICY_VIOLATED"}
        ),
        words="violates constraint|constraints/|violated org policy",
    ),
    Rule(
        LOCATIONS, _manual(LOCATIONS, lambda response: locations_differ(response.message)), words="different locations"
    ),
    Rule(
        "key-unusable",
        _manual("key-unusable", lambda response: key_unusable(response.message)),
        reasons=frozenset({"kmsKeyNotFound", "kmsKeyDisabled", "CLOUD_KMS_KEY_PERMISSION_DENIED"}),
        words="cloud kms|kms key|cryptokey",
    ),
    Rule(
        RETENTION,
        _manual(RETENTION, lambda response: retention_blocks(response.message)),
        reasons=frozenset({"retentionPolicyNotMet"}),
        words="retention policy",
    ),
    Rule(
        HELD,
        _manual(HELD, lambda response: object_held(response.message)),
        reasons=frozenset({"objectUnderActiveHold"}),
        words="under active",
    ),
    Rule(
        "requester-pays",
        _manual("requester-pays", lambda response: requester_pays(response.message)),
        reasons=frozenset({"userProjectMissing", "UserProjectMissing"}),
        words="requester pays",
    ),
    Rule(
        API_DISABLED,
        _manual(
            API_DISABLED,
            lambda response: api_disabled(response.service or "the API named in the message", response.project),
        ),
        reasons=frozenset({"SERVICE_DISABLED", "accessNotConfigured"}),
    ),
    Rule(
        QUOTA,
        lambda response: Transient(
            QUOTA,
            response.message,
            "Nothing at first: jobs continue with the next day's quota (UTC). If it persists, request a higher quota.",
            within_run=False,
        ),
        reasons=frozenset({"quotaExceeded", "dailyLimitExceeded"}),
    ),
    Rule(
        "throttled",
        _throttled,
        reasons=frozenset(
            {"rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded", "RATE_LIMIT_EXCEEDED"}
        ),
        statuses=(429,),
    ),
    Rule(
        "credentials",
        _credentials,
        reasons=frozenset(
            {
                "authError",
                "UNAUTHENTICATED",
                "ACCESS_TOKEN_EXPIRED",
                "ACCESS_TOKEN_TYPE_UNSUPPORTED",
                "ACCOUNT_STATE_INVALID",
                "CREDENTIALS_MISSING",
            }
        ),
    ),
    Rule(UNAUTHORIZED, _unauthorized, statuses=(401,)),
    Rule(
        RANGE_EMPTY,
        _permanent(RANGE_EMPTY, "Nothing: the object is empty, or shorter than listed; the next run reads it again."),
        reasons=frozenset({"requestedRangeNotSatisfiable"}),
        statuses=(416,),
    ),
    Rule(
        PRECONDITION,
        _permanent(
            PRECONDITION,
            "Nothing: another writer changed the object first; the next run starts from its current content.",
        ),
        reasons=frozenset({"conditionNotMet"}),
        statuses=(412,),
    ),
    Rule(
        "service-unavailable",
        _unavailable,
        words="concurrent policy changes",
    ),
    Rule(
        ALREADY_EXISTS,
        _permanent(
            ALREADY_EXISTS,
            "Nothing at first: the next run reads what has the name. Rename it if the function did not create it.",
        ),
        reasons=frozenset({"duplicate", "alreadyExists"}),
        statuses=(409,),
    ),
    Rule("not-found", _not_found, reasons=frozenset({"notFound"}), statuses=(404,)),
    Rule(
        INVALID_QUERY,
        _permanent(
            INVALID_QUERY,
            "A table does not match Google's published schema: see 'surprising-schema' in docs/runbook.md.",
        ),
        reasons=frozenset({"invalidQuery"}),
    ),
    Rule(
        "service-unavailable",
        _unavailable,
        reasons=frozenset(
            {
                "backendError",
                "internalError",
                "jobBackendError",
                "jobInternalError",
                "tableUnavailable",
                "timeout",
                "stopped",
            }
        ),
        statuses=(408, *range(500, 600)),
    ),
    Rule(
        ACCESS_DENIED,
        _denied,
        reasons=frozenset({"accessDenied", "forbidden", "insufficientPermissions", "IAM_PERMISSION_DENIED"}),
    ),
)


def translate_reason(
    reasons: list[str],
    message: str,
    status: int = 0,
    metadata: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    call: str = "",
) -> ReportedError:
    """Return the error for a response's reasons (those of the newer APIs first), its message and HTTP status.

    A failed job has only a reason and a message: its status is 0. `call` is the verb and path of the request.
    """
    response = ErrorResponse(tuple(reasons), clean(message), status, metadata or {}, headers or {}, call)
    for rule in RULES:
        if rule.matches(response):
            return rule.make(response)
    return _unlisted(response)
