"""What Google's refusals mean: one table, matched in order, a reason or phrase before an HTTP status.

The module is long because its order decides: rows that could hide each other stand in one table.
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
RIGHTS_REMEDY = "Grant the right named in the message to the function's service account (the deployment does)."
UNDELETE = "Restore it within 30 days of its deletion (gcloud projects undelete), or deploy in another project."
PASSING_REMEDY = "The next run tries again. If it lasts, see https://status.cloud.google.com."
UNAUTHORIZED_REMEDY = (
    "Nothing at first: Google accepts the credentials elsewhere. If it stays, see whether the function's service "
    "account has its roles there (the deployment grants them), and whether a proxy answers in Google's place."
)
UNKNOWN_REMEDY = (
    "This reason is Google's own: look it up in Google's documentation of the call, and see 'Codes of GCP' in "
    "docs/runbook.md."
)
# The projects of gcloud's own OAuth clients: calls with user credentials are counted there unless a quota project is
# set (source: "Troubleshoot your ADC setup", Google Cloud authentication).
GCLOUD_PROJECTS = ("764086051850", "32555940559")
_SERVICE = re.compile(r"[a-z]+\.googleapis\.com")
_PROJECT = re.compile(r"projects?[/ =]'?([a-z][a-z0-9-]{4,28}[a-z0-9]|\d{6,})")
_PERMISSION = re.compile(r"\b(?:bigquery|storage|billing|resourcemanager|serviceusage)\.[A-Za-z]+\.[A-Za-z]+\b")
_PERIMETER = re.compile(r"vpcServiceControlsUniqueIdentifier[:=\s\"']*([\w-]+)")
_CONSTRAINT = re.compile(r"constraints/[\w.]+")
_STATE = re.compile(r"disabled in state (\w+)")


class Said(msgspec.Struct, frozen=True):
    """What an answer says: its reasons, the newer APIs' first, and its message without secrets, cut.

    A job that failed has a reason and a message only: its `status` is 0.
    """

    reasons: tuple[str, ...]
    message: str
    status: int = 0
    metadata: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    call: str = ""

    @property
    def service(self) -> str:
        """Return the API that the answer names, "" for none."""
        found = _SERVICE.search(str(self.metadata.get("service", ""))) or _SERVICE.search(self.message)
        return found[0] if found else ""

    @property
    def project(self) -> str:
        """Return the id or number of the project that the answer names, "" for none."""
        found = _PROJECT.search(str(self.metadata.get("consumer", ""))) or _PROJECT.search(self.message)
        return found[1] if found else ""


class Rule(msgspec.Struct, frozen=True):
    """One row of the table. It fits an answer with one of the reasons or statuses, or with the words in its message."""

    code: str
    make: Callable[[Said], ReportedError]
    reasons: frozenset[str] = frozenset()
    words: str = ""
    statuses: tuple[int, ...] = ()

    def fits(self, said: Said) -> bool:
        """Return whether the row fits."""
        if not self.reasons.isdisjoint(said.reasons) or said.status in self.statuses:
            return True
        text = f"{said.message} {said.metadata.get('consumer', '')}"
        return bool(self.words) and re.search(self.words, text, re.IGNORECASE) is not None


def _stopped(code: str, remedy: str) -> Callable[[Said], ReportedError]:
    return lambda said: RunStopped(code, said.message, remedy)


def _permanent(code: str, remedy: str) -> Callable[[Said], ReportedError]:
    return lambda said: Permanent(code, said.message, remedy)


def _manual(code: str, manual_step: Callable[[Said], ManualStep]) -> Callable[[Said], ReportedError]:
    return lambda said: Manual(code, manual_step(said), said.message)


def _unbilled(said: Said) -> ManualStep:
    state = _STATE.search(said.message)
    named = state[1] if state else "delinquent" if "delinquent" in said.message else ""
    return project_not_billed(said.message, said.project, named)


def _perimeter(said: Said) -> ManualStep:
    told = _PERIMETER.search(said.message)
    return perimeter_refused(told[1] if told else str(said.metadata.get("uid", "")), said.service)


def _constraint(said: Said) -> ManualStep:
    named = _CONSTRAINT.search(said.message)
    return organization_policy(named[0] if named else "", said.message)


def _throttled(said: Said) -> ReportedError:
    return Throttled("throttled", said.message, PASSING_REMEDY, retry_after=requested_wait(said.headers))


def _unavailable(said: Said) -> ReportedError:
    return Transient("service-unavailable", said.message, PASSING_REMEDY, retry_after=requested_wait(said.headers))


def _not_found(said: Said) -> ReportedError:
    code = WRONG_LOCATION if "was not found in location" in said.message else "not-found"
    return NotFound(code, said.message, "Check whether it was deleted, or the setting that names it.")


def _denied(said: Said) -> ReportedError:
    right = _PERMISSION.search(said.message)
    remedy = f"Grant {right[0]} to the function's service account (the deployment does)." if right else RIGHTS_REMEDY
    return Denied(ACCESS_DENIED, said.message, remedy)


def _unauthorized(said: Said) -> ReportedError:
    challenge = " ".join(str(value) for name, value in said.headers.items() if name.lower() == "www-authenticate")
    if "invalid_token" in challenge:
        return _credentials(said)
    # The token was good for what this run has read before, so this is the refusal of what was asked for.
    return Denied(UNAUTHORIZED, said.message, UNAUTHORIZED_REMEDY)


def _credentials(said: Said) -> ReportedError:
    return RunStopped("credentials", f"Google refused the credentials ({said.status})", CREDENTIALS_REMEDY)


def _unlisted(said: Said) -> ReportedError:
    if said.status == 403 and not any(said.reasons):
        return _denied(said)
    message = f"{said.message} ({said.call})" if said.call else said.message
    if said.status == 403:
        # Not every 403 is a missing right: what a reason means that is not listed, Google's own words say.
        return Denied(said.reasons[0], message, UNKNOWN_REMEDY)
    return Permanent(next(iter(said.reasons), "") or f"status-{said.status}", message, UNKNOWN_REMEDY)


# What concerns the project as a whole comes first: Google uses the same reasons for it as for smaller things.
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
        _manual("no-quota-project", lambda said: quota_project_missing(said.service)),
        words=f"requires a quota project|{'|'.join(GCLOUD_PROJECTS)}",
    ),
    Rule(
        "quota-project-denied",
        _manual("quota-project-denied", lambda said: quota_project_denied(said.message, said.project)),
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
        _manual("project-suspended", lambda said: project_suspended(said.message, said.project)),
        reasons=frozenset({"CONSUMER_SUSPENDED"}),
        words="(consumer|project).{0,80} has been suspended",
    ),
    Rule(
        "scopes-missing",
        _manual("scopes-missing", lambda said: scopes_missing(said.message)),
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
    Rule(LOCATIONS, _manual(LOCATIONS, lambda said: locations_differ(said.message)), words="different locations"),
    Rule(
        "key-unusable",
        _manual("key-unusable", lambda said: key_unusable(said.message)),
        reasons=frozenset({"kmsKeyNotFound", "kmsKeyDisabled", "CLOUD_KMS_KEY_PERMISSION_DENIED"}),
        words="cloud kms|kms key|cryptokey",
    ),
    Rule(
        RETENTION,
        _manual(RETENTION, lambda said: retention_blocks(said.message)),
        reasons=frozenset({"retentionPolicyNotMet"}),
        words="retention policy",
    ),
    Rule(
        HELD,
        _manual(HELD, lambda said: object_held(said.message)),
        reasons=frozenset({"objectUnderActiveHold"}),
        words="under active",
    ),
    Rule(
        "requester-pays",
        _manual("requester-pays", lambda said: requester_pays(said.message)),
        reasons=frozenset({"userProjectMissing", "UserProjectMissing"}),
        words="requester pays",
    ),
    Rule(
        API_DISABLED,
        _manual(API_DISABLED, lambda said: api_disabled(said.service or "the API named in the message", said.project)),
        reasons=frozenset({"SERVICE_DISABLED", "accessNotConfigured"}),
    ),
    Rule(
        QUOTA,
        lambda said: Transient(
            QUOTA,
            said.message,
            "Jobs go on with the next day's quota (UTC). If it is spent daily, ask Google for a higher quota.",
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
        _permanent(RANGE_EMPTY, "The object is empty, or shorter than it was listed. The next run looks again."),
        reasons=frozenset({"requestedRangeNotSatisfiable"}),
        statuses=(416,),
    ),
    Rule(
        PRECONDITION,
        _permanent(PRECONDITION, "Somebody else wrote at the same moment. The next run starts from what is there."),
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
        _permanent(ALREADY_EXISTS, "The next run looks at what has the name; rename or remove it if it is not ours."),
        reasons=frozenset({"duplicate", "alreadyExists"}),
        statuses=(409,),
    ),
    Rule("not-found", _not_found, reasons=frozenset({"notFound"}), statuses=(404,)),
    Rule(
        INVALID_QUERY,
        _permanent(
            INVALID_QUERY, "A table has other columns than Google publishes: see 'surprising-schema' in the runbook."
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
    """Return the class for an answer's reasons (the newer APIs' first), its message and HTTP status.

    A job that failed has a reason and a message only: its status is 0. `call` is the verb and path of the request.
    """
    said = Said(tuple(reasons), clean(message), status, metadata or {}, headers or {}, call)
    for rule in RULES:
        if rule.fits(said):
            return rule.make(said)
    return _unlisted(said)
