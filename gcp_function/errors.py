"""Google's exceptions → the engine's classes, matched on the reason in the answer before its HTTP status."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, Timeout

from gcp_function.guides import api_disabled, locations_differ, project_not_billed, right_missing, unreadable
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotFound,
    Permanent,
    RunStopped,
    Throttled,
    Transient,
    cut,
)
from shared.model import Observation, Patience
from shared.observe import as_surveyed

PRECONDITION = "precondition-failed"
ALREADY_EXISTS = "already-exists"
INVALID_QUERY = "invalid-query"
QUOTA = "quota-exceeded"
WRONG_LOCATION = "wrong-location"
LOCATIONS = "locations-differ"
API_DISABLED = "api-disabled"
ACCESS_DENIED = "access-denied"

# Sources: "Error messages" (BigQuery), "HTTP status and error codes for JSON" (Cloud Storage), google.rpc.ErrorInfo.
THROTTLES = frozenset(["rateLimitExceeded", "userRateLimitExceeded", "jobRateLimitExceeded", "RATE_LIMIT_EXCEEDED"])
PASSING = frozenset(
    [
        "backendError",
        "internalError",
        "jobBackendError",
        "jobInternalError",
        "tableUnavailable",
        "timeout",
        "stopped",
    ]
)
CREDENTIALS = frozenset(["authError", "required", "UNAUTHENTICATED", "ACCESS_TOKEN_EXPIRED"])
DISABLED = frozenset(["SERVICE_DISABLED", "accessNotConfigured"])
DENIALS = frozenset(["accessDenied", "forbidden", "insufficientPermissions", "IAM_PERMISSION_DENIED"])
EXISTING = frozenset(["duplicate", "alreadyExists"])

CREDENTIALS_REMEDY = "Renew the credentials (for the function: its service account), then run again."
RIGHTS_REMEDY = "Grant the right named in the message to the function's service account (the deployment does)."
UNDELETE = "Restore it within 30 days of its deletion (gcloud projects undelete), or deploy in another project."

_SERVICE = re.compile(r"[a-z]+\.googleapis\.com")
_PROJECT = re.compile(r"projects?[/ =]'?([a-z][a-z0-9-]{4,28}[a-z0-9]|\d{6,})")
_SECRETS = re.compile(r"\bya29\.[\w.-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=[?&]access_token=)[^&\s]+|(?<=Bearer )\S+")


def translate(error: Exception) -> CloudError:
    """Return the engine's class for anything that a call may raise."""
    if isinstance(error, GoogleAPICallError):
        first: Mapping[str, Any] = next((one for one in error.errors if isinstance(one, Mapping)), {})
        reasons = [str(reason) for reason in (error.reason, first.get("reason")) if reason]
        headers = getattr(error.response, "headers", None) or {}
        return translate_reason(reasons, str(error.message), int(error.code or 0), error.metadata or {}, headers)
    if isinstance(error, TransportError | RequestsConnectionError | Timeout | ConnectionError | TimeoutError):
        return Transient("connection", f"Google could not be reached: {_clean(str(error))}")
    if isinstance(error, GoogleAuthError):
        # The library's own words may hold a token or the answer of a credential source.
        return RunStopped(
            "credentials", f"there are no usable credentials ({type(error).__name__})", CREDENTIALS_REMEDY
        )
    if isinstance(error, RequestException):
        return Transient("connection", f"the answer broke off: {_clean(str(error))}")
    return Permanent("unexpected", f"{type(error).__name__}: {_clean(str(error))}")


def translate_reason(
    reasons: list[str],
    message: str,
    status: int = 0,
    metadata: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> CloudError:
    """Return the class for an answer's reasons (the newer APIs' first), its message and HTTP status.

    A job that failed has a reason and a message only: its status is 0.
    """
    found, said = set(reasons), _clean(message)
    told = _project_wide(found, said, message) or _by_message(said)
    if told is not None:
        return told
    if found & DISABLED:
        return _disabled(said, metadata or {})
    if "quotaExceeded" in found:
        return Transient(QUOTA, said, "The next day's quota is waited for.", within_run=False)
    if found & THROTTLES or status == 429:
        return Throttled("throttled", said, retry_after=_retry_after(headers or {}))
    if found & CREDENTIALS or status == 401:
        return RunStopped("credentials", f"Google refused the credentials ({status})", CREDENTIALS_REMEDY)
    if status == 412 or "conditionNotMet" in found:
        return Permanent(PRECONDITION, said)
    if found & EXISTING or (status == 409 and "concurrent policy changes" not in said):
        return Permanent(ALREADY_EXISTS, said)
    if "notFound" in found or status == 404:
        return NotFound(WRONG_LOCATION if "was not found in location" in said else "not-found", said)
    if "invalidQuery" in found:
        return Permanent(INVALID_QUERY, said)
    if found & PASSING or status >= 500 or status in (408, 409):
        return Transient("service-unavailable", said, retry_after=_retry_after(headers or {}))
    if found & DENIALS or status == 403:
        return Denied(ACCESS_DENIED, said, RIGHTS_REMEDY)
    return Permanent(next(iter(reasons), "") or f"status-{status}", said)


def _project_wide(found: set[str], said: str, message: str) -> RunStopped | Manual | None:
    """Return what concerns the project as a whole: nothing else can be believed or done then."""
    lower = said.lower()
    if "scheduled for deletion" in lower or "has been deleted" in lower or "pending deletion" in lower:
        return RunStopped("project-deleted", said, UNDELETE)
    if "not found: project" in lower or "consumer project" in lower or "invalid project" in lower:
        remedy = "Set GOOGLE_CLOUD_PROJECT to the id of the project that the function is deployed in."
        return RunStopped("wrong-project", said, remedy)
    if "billingNotEnabled" in found or "billing has not been enabled" in lower or "billing is disabled" in lower:
        project = _PROJECT.search(message)
        return Manual("project-without-billing", project_not_billed(said, project[1] if project else ""), said)
    return None


def _by_message(said: str) -> CloudError | None:
    """Return the class where Google uses one reason for different things."""
    if "different locations" in said:
        return Manual(LOCATIONS, locations_differ(said), said)
    return None


def _disabled(said: str, metadata: Mapping[str, Any]) -> Manual:
    named = _SERVICE.search(str(metadata.get("service", ""))) or _SERVICE.search(said)
    return Manual(API_DISABLED, api_disabled(named[0] if named else "the API named in the message"), said)


def observed(error: CloudError, what: str) -> Observation:
    """Return what a failed read of `what` lets us say: never Absent.

    A missing right becomes a person's business after three runs, a manual step at once. Raises RunStopped as it is.
    """
    return as_surveyed(error, unreadable(what, error.message, error.remedy or RIGHTS_REMEDY))


def borne(error: CloudError) -> CloudError:
    """Return a refused write as one that is waited out for three runs, since rights take minutes to be in effect.

    Source: "Access change propagation", IAM documentation. Other errors stay as they are.
    """
    if not isinstance(error, Denied) or error.patience is not None:
        return error
    guide = right_missing(error.message, error.remedy or RIGHTS_REMEDY)
    return Denied(error.code, error.message, error.remedy, patience=Patience(tries=3), guide=guide)


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


def _clean(message: str) -> str:
    return cut(_SECRETS.sub("…", message))


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    value = str(headers.get("Retry-After", ""))
    return timedelta(seconds=min(int(value), 86400)) if value.isdigit() else None
