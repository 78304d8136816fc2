"""Translates the exceptions of Google's libraries into the engine's errors, by the rules in `refusals`."""

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

_QUERY = re.compile(r"(?<=\w)\?[^\s:]*(?=:)")  # the query of the URL that the library puts before an error's text
_STATUS = re.compile(r"[Ss]tatus:? (\d{3})")


def translate(error: Exception) -> ReportedError:
    """Return the engine's error for anything that a call may raise."""
    if isinstance(error, GoogleAPICallError):
        return _of_answer(error)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error)
    if isinstance(error, RequestsConnectionError | Timeout | ConnectionError | TimeoutError):
        return Transient("connection", f"cannot reach Google: {clean(str(error))}", PASSING_REMEDY)
    if isinstance(error, RequestException):
        return Transient("connection", f"the response ended early: {clean(str(error))}", PASSING_REMEDY)
    if isinstance(error, PARSING):
        return NotUnderstood("a call of Google", f"{type(error).__name__} {error}")
    return Permanent("unexpected", f"{type(error).__name__}: {clean(str(error))}", UNKNOWN_REMEDY)


def _of_answer(error: GoogleAPICallError) -> ReportedError:
    first: Mapping[str, Any] = next((one for one in error.errors if isinstance(one, Mapping)), {})
    reasons, metadata = [error.reason, first.get("reason")], error.metadata or {}
    # For uploads and downloads google-resumable-media puts Google's JSON into the message, as text.
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
    """Return the verb and path of a response's request, without its query; "" if it is not known."""
    request = getattr(response, "request", None)
    path = urlsplit(str(getattr(request, "url", "") or "")).path
    return f"{getattr(request, 'method', '')} {path}" if path else ""


def _document(text: str) -> Mapping[str, Any]:
    """Return the ``error`` object of the JSON document in a text, or an empty one."""
    start = text.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:]) if start >= 0 else ({}, 0)
    except (ValueError, RecursionError):
        return {}
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, dict) else {}


def _of_credentials(error: GoogleAuthError) -> ReportedError:
    # The library's message may contain a token or the response of a credential source, so it is left out.
    name = type(error).__name__
    if error.retryable or any(_is_temporary(one) for one in _chain(error) if isinstance(one, TransportError)):
        message = f"the source of the credentials (metadata server or token service) did not respond ({name})"
        return Transient("connection", message, PASSING_REMEDY)
    return RunStopped("credentials", f"no usable credentials ({name})", CREDENTIALS_REMEDY)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, up to eight levels."""
    found: BaseException | None = error
    for _ in range(8):
        if found is None:
            return
        yield found
        found = found.__cause__ or next((one for one in found.args if isinstance(one, BaseException)), None)


def _is_temporary(error: TransportError) -> bool:
    """Return whether a credential source failed temporarily: with no response at all, or with 408, 429 or 5xx."""
    response = error.args[1] if len(error.args) > 1 else None
    quoted = _STATUS.search(str(error.args[0])) if error.args else None
    status = getattr(response, "status", None) or (int(quoted[1]) if quoted else 0)
    return status in (0, 408, 429) or status >= 500


def observed(error: CloudError, what: str) -> Observation:
    """Return the observation for a failed read of `what`: never Absent.

    A missing permission is reported as a manual step after three runs, an error that has a manual step at once.
    """
    return as_bulk_observation(error, unreadable(what, error.message, error.remedy or RIGHTS_REMEDY))


def tolerated(error: CloudError) -> CloudError:
    """Return a refused write as one that is tolerated for three runs, since new roles take minutes to take effect.

    Source: "Access change propagation", IAM documentation. Other errors are returned unchanged.
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
    """Return the error for a table or bucket that was deleted during the run as one that the next run retries."""
    if isinstance(error, NotFound):
        remedy = "Nothing: the next run reads it again."
        return Transient("gone-meanwhile", error.message, remedy, within_run=False)
    return error


def until_tomorrow(error: Transient, now: datetime) -> Transient:
    """Return the error for an exhausted daily quota as one that waits for the next day (UTC), an hour at least."""
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    wait = max(midnight - now, timedelta(hours=1))
    return Transient(QUOTA, error.message, error.remedy, retry_after=wait, within_run=False)
