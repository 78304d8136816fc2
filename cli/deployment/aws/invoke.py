"""Invokes the deployed Lambda function: waits for other runs, and reads the full report if the response was cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from cli.deployment.aws.functions import missing, settings_of
from cli.deployment.aws.logs import log_group
from cli.deployment.aws.session import Session, code_of, gone, message_of, refused
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.waiting import subject
from shared.report import was_cut

# A run holds the lock at most for a function's longest duration (900 s) plus a lease of five minutes.
LONGEST_WAIT_S = 1200.0
AGAIN_S = 5.0


def invoke(session: Session, payload: Mapping[str, Any], tell: Tell, sleep: Callable[[float], None]) -> dict[str, Any]:
    """Call the function once and return its report; wait while another run holds the lock. Raises OperatorError."""
    client = session.aws.client("lambda")
    waited, shown = 0.0, ""
    while True:
        holder, answer = _call(session, client, payload)
        if answer is not None:
            return _report(session, answer, str(payload.get("tenant", "")))
        if waited >= LONGEST_WAIT_S:
            raise OperatorError(Problem(f"after {waited / 60:.0f} minutes still: {holder}", "Try again later."))
        if subject(holder) != shown:
            tell(f"waiting: {holder}")
            shown = subject(holder)
        sleep(AGAIN_S)
        waited += AGAIN_S


def _call(session: Session, client: Any, payload: Mapping[str, Any]) -> tuple[str, Any]:
    """Invoke once; return "" and the response, or why the function is busy and None."""
    try:
        answer = client.invoke(FunctionName=session.function, Payload=json.dumps(dict(payload)).encode())
    except ReadTimeoutError as error:
        raise OperatorError(
            Problem("the function did not respond within 15 minutes", "Read its log group, and call again.")
        ) from error
    except ClientError as error:
        if code_of(error) == "TooManyRequestsException":
            return "another invocation of the function is in progress", None
        if gone(error):
            raise OperatorError(missing(session)) from error
        remedy = "See tailpipe-exports doctor aws." if refused(error) else f"Read the log group {log_group(session)}."
        raise OperatorError(Problem(message_of(error), remedy)) from error
    document = json.loads(answer["Payload"].read() or b"null")
    if answer.get("FunctionError") and document.get("errorType") == "AnotherRun":
        return str(document.get("errorMessage", "another run is in progress")), None
    return "", document


def _report(session: Session, document: Any, tenant: str) -> dict[str, Any]:
    """Return the report of a response: the stored one if lists were cut or if the run failed."""
    if isinstance(document, dict) and "status" in document:
        whole = _stored(session, str(document["run_id"]), tenant) if was_cut(document) else None
        return whole or document
    failure = document if isinstance(document, dict) else {}
    kind, message = str(failure.get("errorType", "no answer")), str(failure.get("errorMessage", ""))
    words = message.split()
    if kind == "RunFailed" and len(words) > 1:
        report = _stored(session, words[1], tenant)
        if report is not None:
            return report
    raise OperatorError(Problem(f"{kind}: {message}", f"Read the log group {log_group(session)}."))


def _stored(session: Session, run_id: str, tenant: str) -> dict[str, Any] | None:
    folder = f"runs/tenants/{tenant}" if tenant else "runs"
    settings = settings_of(session)
    client = session.aws.client("s3", settings.bucket_region)
    try:
        answer = client.get_object(
            Bucket=settings.bucket_of(session.place.id),
            Key=f"{folder}/{run_id}.json",
            ExpectedBucketOwner=session.place.id,
        )
        found = json.loads(answer["Body"].read())
    except (ClientError, ValueError):
        return None
    return found if isinstance(found, dict) and "status" in found else None
