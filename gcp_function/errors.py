"""Google's exceptions → the engine's classes: one table, matched in order, a reason or phrase before an HTTP status."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, Timeout

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
    right_missing,
    scopes_missing,
    unreadable,
)
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotFound,
    NotUnderstood,
    Permanent,
    ReportedError,
    RunStopped,
    Throttled,
    Transient,
    clean,
)
from shared.model import EscalationPolicy, ManualStep, Observation
from shared.observe import as_bulk_observation
from shared.parsing import PARSING, asked_wait

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
_QUERY = re.compile(r"(?<=\w)\?[^\s:]*(?=:)")  # of the address that the library puts before an answer's text
_STATUS = re.compile(r"[Ss]tatus:? (\d{3})")


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


def translate(error: Exception) -> ReportedError:
    """Return the engine's class for anything that a call may raise."""
    if isinstance(error, GoogleAPICallError):
        return _of_answer(error)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error)
    if isinstance(error, RequestsConnectionError | Timeout | ConnectionError | TimeoutError):
        return Transient("connection", f"Google could not be reached: {clean(str(error))}", PASSING_REMEDY)
    if isinstance(error, RequestException):
        return Transient("connection", f"the answer broke off: {clean(str(error))}", PASSING_REMEDY)
    if isinstance(error, PARSING):
        return NotUnderstood("a call of Google", f"{type(error).__name__} {error}")
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}", UNKNOWN_REMEDY)


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


def _of_answer(error: GoogleAPICallError) -> ReportedError:
    first: Mapping[str, Any] = next((one for one in error.errors if isinstance(one, Mapping)), {})
    reasons, metadata = [error.reason, first.get("reason")], error.metadata or {}
    # Uploads and downloads have Google's JSON in their message as text, put there by google-resumable-media.
    answer = _document(str(getattr(error.response, "text", "") or error.message))
    message = str(answer.get("message") or _QUERY.sub("", str(error.message)))
    if not any(reasons):
        details, legacy = (
            [one for one in found if isinstance(one, Mapping)] if isinstance(found := answer.get(name), list) else []
            for name in ("details", "errors")
        )
        reasons = [one.get("reason") for one in (*details, *legacy)]
        metadata = next((one["metadata"] for one in details if isinstance(one.get("metadata"), Mapping)), metadata)
    headers = getattr(error.response, "headers", None) or {}
    named = [str(one) for one in reasons if one]
    return translate_reason(named, message, int(error.code or 0), metadata, headers, _call(error.response))


def _call(response: Any) -> str:
    """Return verb and path of the request that was answered, without its query; empty where it is not known."""
    request = getattr(response, "request", None)
    path = urlsplit(str(getattr(request, "url", "") or "")).path
    return f"{getattr(request, 'method', '')} {path}" if path else ""


def _document(text: str) -> Mapping[str, Any]:
    """Return the ``error`` object of the JSON document in a text, empty where there is none."""
    start = text.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:]) if start >= 0 else ({}, 0)
    except (ValueError, RecursionError):
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _of_credentials(error: GoogleAuthError) -> ReportedError:
    # The library's own words may hold a token or the answer of a credential source, so they are left out.
    name = type(error).__name__
    if error.retryable or any(_passing(one) for one in _chain(error) if isinstance(one, TransportError)):
        message = f"the source of the credentials (metadata server or token service) did not answer ({name})"
        return Transient("connection", message, PASSING_REMEDY)
    return RunStopped("credentials", f"no usable credentials ({name})", CREDENTIALS_REMEDY)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it, as far as eight levels."""
    found: BaseException | None = error
    for _ in range(8):
        if found is None:
            return
        yield found
        found = found.__cause__ or next((one for one in found.args if isinstance(one, BaseException)), None)


def _passing(error: TransportError) -> bool:
    """Return whether a credential source failed for the moment: no answer at all, or one of 408, 429 or 5xx."""
    response = error.args[1] if len(error.args) > 1 else None
    told = _STATUS.search(str(error.args[0])) if error.args else None
    status = getattr(response, "status", None) or (int(told[1]) if told else 0)
    return status in (0, 408, 429) or status >= 500


def observed(error: CloudError, what: str) -> Observation:
    """Return what a failed read of `what` lets us say: never Absent.

    A missing right becomes a person's business after three runs, a manual step at once.
    """
    return as_bulk_observation(error, unreadable(what, error.message, error.remedy or RIGHTS_REMEDY))


def borne(error: CloudError) -> CloudError:
    """Return a refused write as one that is waited out for three runs, since rights take minutes to be in effect.

    Source: "Access change propagation", IAM documentation. Other errors stay as they are.
    """
    if not isinstance(error, Denied) or error.escalation is not None:
        return error
    manual_step = right_missing(error.message, error.remedy or RIGHTS_REMEDY)
    if error.remedy in (UNKNOWN_REMEDY, UNAUTHORIZED_REMEDY):
        manual_step = ManualStep(f"Google refuses the call: {error.message}", (error.remedy,))
    return Denied(
        error.code, error.message, error.remedy, escalation=EscalationPolicy(tries=3), manual_step=manual_step
    )


def later(error: CloudError) -> CloudError:
    """Return a table or bucket that vanished between look and job as what it is: the next run's business."""
    if isinstance(error, NotFound):
        return Transient("gone-meanwhile", error.message, "The next run looks again.", within_run=False)
    return error


def until_tomorrow(error: Transient, now: datetime) -> Transient:
    """Return a spent daily quota as one that waits for the next day (UTC), an hour at least."""
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    wait = max(midnight - now, timedelta(hours=1))
    return Transient(QUOTA, error.message, error.remedy, retry_after=wait, within_run=False)


# The rows of the table


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
    return Throttled("throttled", said.message, PASSING_REMEDY, retry_after=asked_wait(said.headers))


def _unavailable(said: Said) -> ReportedError:
    return Transient("service-unavailable", said.message, PASSING_REMEDY, retry_after=asked_wait(said.headers))


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
