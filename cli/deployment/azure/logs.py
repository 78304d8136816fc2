"""The log of the deployed function: the traces of its Application Insights, in its Log Analytics workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from cli.deployment.azure.functions import require
from cli.deployment.azure.session import Session
from cli.deployment.log_lines import LogLine, LogSearch, parse_line
from cli.deployment.model import OperatorError, Problem
from shared.errors import NotFound

# The query API through Resource Manager, so that the caller's one token is enough.
# https://learn.microsoft.com/azure/azure-monitor/logs/api/request-format
QUERY_API = "2017-10-01"
ROWS = 5000  # of one response; the API refuses more than 500,000 rows or about 100 MB
# By severity; https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
WARNING = 2


def logs(session: Session, search: LogSearch) -> Iterator[LogLine]:
    """Yield the lines that match `search`, oldest first. Raises OperatorError.

    Lines of the host below the level of a warning are left out.
    """
    app = require(session)
    group = app.id.split("/providers/")[0]
    # The module names the workspace after the app.
    workspace = f"{group}/providers/Microsoft.OperationalInsights/workspaces/{app.name}"
    since = search.since
    while True:
        rows = _rows(session, workspace, _query(search, since))
        for row in rows:
            line = _line(row)
            if search.admits(line):
                yield line
        # Lines with one time stamp that exceed one response cannot be distinguished from those already shown.
        if len(rows) < ROWS or _moment(rows[-1]) == since:
            return
        since = _moment(rows[-1])


def _query(search: LogSearch, since: datetime) -> str:
    # A string literal of the Kusto query language has the escapes of JSON.
    terms = "".join(f" | where Message contains {json.dumps(one)}" for one in search.terms())
    return (
        f"AppTraces | where TimeGenerated >= datetime({since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ})"
        f" | where SeverityLevel >= {WARNING} or Message has 'event'{terms}"
        f" | order by TimeGenerated asc | take {ROWS} | project TimeGenerated, SeverityLevel, Message, OperationId"
    )


def _rows(session: Session, workspace: str, query: str) -> list[dict[str, Any]]:
    """Return the rows of the response as mappings of column names to values."""
    try:
        answer = session.rest.ask("POST", f"{workspace}/query", QUERY_API, {"query": query})
    except NotFound as error:
        raise OperatorError(
            Problem(f"log workspace {workspace} does not exist", "Deploy again: tailpipe-exports deploy azure.")
        ) from error
    except OperatorError as error:
        remedy = f"Log Analytics Reader on it lets you read it. {error.problems[0].remedy}"
        raise OperatorError(Problem(f"log workspace {workspace}: {error}", remedy)) from error
    try:
        (table,) = (one for one in answer["tables"] if one["name"] == "PrimaryResult")
        names = [str(column["name"]) for column in table["columns"]]
        return [dict(zip(names, row, strict=True)) for row in table["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise OperatorError(Problem(f"log workspace {workspace} answers no table", "Try again later.")) from error


def _line(row: dict[str, Any]) -> LogLine:
    severity = row["SeverityLevel"]
    level = LEVELS[severity] if isinstance(severity, int) and 0 <= severity < len(LEVELS) else ""
    text = str(row["Message"])
    return parse_line(f"{row['TimeGenerated']} {row['OperationId']} {text}", _moment(row), text, level)


def _moment(row: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(str(row["TimeGenerated"]))
