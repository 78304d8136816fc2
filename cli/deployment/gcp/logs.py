"""The log of the deployed function in Cloud Logging, as the Cloud Run service of the same name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cli.deployment.gcp.functions import missing
from cli.deployment.gcp.rest import refused
from cli.deployment.gcp.session import Session
from cli.deployment.log_lines import LogLine, LogSearch, level_of, parse_line
from cli.deployment.model import OperatorError
from shared.errors import Denied, ReportedError

PAGE = 1000  # the maximum of one response


def logs(session: Session, search: LogSearch) -> Iterator[LogLine]:
    """Yield the lines that match `search`, oldest first. Raises OperatorError."""
    if session.live is None:
        raise OperatorError(missing(session))
    asked: dict[str, Any] = {
        "resourceNames": [session.parent],
        "filter": _filter(session, search),
        "orderBy": "timestamp asc",
        "pageSize": PAGE,
    }
    while True:
        try:
            page = session.google.post("logging", "v2/entries:list", asked)
        except ReportedError as error:
            role = f"roles/logging.viewer on project {session.project} lets you read its log."
            raise refused(error, role if isinstance(error, Denied) else "") from error
        for entry in page.get("entries", ()):
            line = _line(entry)
            if search.admits(line):
                yield line
        if not page.get("nextPageToken"):
            return
        asked = {**asked, "pageToken": page["nextPageToken"]}


def _filter(session: Session, search: LogSearch) -> str:
    conditions = {
        "resource.type=": "cloud_run_revision",
        "resource.labels.service_name=": session.function,
        "timestamp>=": f"{search.since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        **{f"jsonPayload.{name}=": one for name, one in search.wanted()},
    }
    # An entry without a payload is the request's, which the function's own lines describe better.
    kinds = "(jsonPayload.event:* OR textPayload:*)"
    # A quoted string has the escapes of JSON.
    return " AND ".join([*(f"{name}{json.dumps(one)}" for name, one in conditions.items()), kinds])


def _line(entry: dict[str, Any]) -> LogLine:
    at = datetime.fromisoformat(str(entry["timestamp"]))
    level = level_of(entry.get("severity"))
    payload = entry.get("jsonPayload")
    text = json.dumps(payload) if isinstance(payload, dict) else str(entry.get("textPayload", ""))
    return parse_line(str(entry["insertId"]), at, text, level)
