"""The log of the deployed function: its group in CloudWatch Logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws.functions import missing
from cli.deployment.aws.session import Session, gone, message_of, refused
from cli.deployment.log_lines import LogLine, LogSearch, parse_line
from cli.deployment.model import OperatorError, Problem

# Lambda's own lines about each invocation, and lines in the embedded metric format, which hold only metrics.
_PLATFORM = ("INIT_START ", "START RequestId: ", "END RequestId: ", "REPORT RequestId: ")
_METRICS = '{"_aws"'


def log_group(session: Session) -> str:
    """Return the name of the function's log group."""
    return f"/aws/lambda/{session.function}"


def logs(session: Session, search: LogSearch) -> Iterator[LogLine]:
    """Yield the lines that match `search`, oldest first. Raises OperatorError.

    CloudWatch matches a quoted term anywhere in a line, so each line is checked again.
    """
    group = log_group(session)
    terms = [f'"{one}"' for one in search.terms()]
    asked: dict[str, Any] = {"logGroupName": group, "startTime": int(search.since.timestamp() * 1000)}
    if terms:
        asked["filterPattern"] = " ".join(terms)
    try:
        for page in session.aws.client("logs").get_paginator("filter_log_events").paginate(**asked):
            for event in page["events"]:
                line = _line(event)
                if line is not None and search.admits(line):
                    yield line
    except ClientError as error:
        if gone(error):
            raise OperatorError(Problem(f"log group {group} does not exist", missing(session).remedy)) from error
        remedy = f"Grant logs:FilterLogEvents on log group {group}." if refused(error) else "Try again later."
        raise OperatorError(Problem(f"log group {group} cannot be read: {message_of(error)}", remedy)) from error


def _line(event: dict[str, Any]) -> LogLine | None:
    text = str(event["message"]).rstrip()
    # A REPORT is a line of its own only if the invocation finished.
    if text.startswith(_METRICS) or (text.startswith(_PLATFORM) and "Status: " not in text):
        return None
    return parse_line(str(event["eventId"]), datetime.fromtimestamp(event["timestamp"] / 1000, UTC), text)
