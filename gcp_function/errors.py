"""Google's exceptions → the engine's classes: one table, matched in order, a reason or phrase before an HTTP status."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import RequestException, Timeout

from gcp_function.manual_steps import (
    right_missing,
    unreadable,
)
from gcp_function.refusals import (
    CREDENTIALS_REMEDY,
    PASSING_REMEDY,
    QUOTA,
    RIGHTS_REMEDY,
    UNAUTHORIZED_REMEDY,
    UNKNOWN_REMEDY,
    translate_reason,
)
from shared.errors import (
    CloudError,
    Denied,
    NotFound,
    NotUnderstood,
    Permanent,
    ReportedError,
    RunStopped,
    Transient,
    clean,
)
from shared.model import EscalationPolicy, ManualStep, Observation
from shared.observe import as_bulk_observation
from shared.parsing import PARSING

_QUERY = re.compile(r"(?<=\w)\?[^\s:]*(?=:)")  # of the address that the library puts before an answer's text
_STATUS = re.compile(r"[Ss]tatus:? (\d{3})")


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
    """Return the ``error`` object of the JSON document in a text, empty without one."""
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


def tolerated(error: CloudError) -> CloudError:
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
