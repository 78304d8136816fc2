"""Queries of a Log Analytics workspace: traces of the function app with the same name, and activity logs.

Source: "Azure Monitor Log Analytics API request format" and "response format" (Azure Monitor); "AppTraces" (Azure
Monitor Logs reference).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from localcloud.azure.errors import ArmError, resource_not_found
from localcloud.azure.platform.activity_query import TABLE, answer_activity, unknown
from localcloud.azure.platform.sites import Site
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

_SEVERITIES = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TYPES = {"TimeGenerated": "datetime", "SeverityLevel": "int", "Message": "string", "OperationId": "string"}
_STAGE = re.compile(r"\s*\|\s*")
_LITERAL = r"""('[^'\\]*'|"(?:[^"\\]|\\.)*")"""
_SINCE = re.compile(r"TimeGenerated >= datetime\(([^)]+)\)")
_SEVERE = re.compile(r"SeverityLevel >= (\d)")
_TEXT = re.compile(rf"Message (has|contains) {_LITERAL}")

Row = dict[str, Any]
Test = Callable[[Row], bool]


# difference: AZURE-17
class LogAnalytics:
    """Log queries, limited to the operators that this project uses.

    Call with the world's lock held. Every method raises ArmError.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def query(self, request: Request) -> Answer:
        """Answer a query of the table AppTraces or AzureActivity."""
        where = request.path.rpartition("/")[0]
        if where.lower() not in self._world.resources:
            raise resource_not_found(where)
        query = request.json().get("query")
        if not isinstance(query, str) or not query.strip():
            raise ArmError(400, "BadArgumentError", "The request had some invalid properties: query is required.")
        if query.startswith(f"{TABLE} "):
            self._check_table(request, where)
            return Answer(answer_activity(self._world.activity, where, query, self._world.clock.now()))
        table, *stages = _STAGE.split(query.strip())
        if table != "AppTraces":
            raise unknown(table)
        name = where.rpartition("/")[2].lower()
        sites = [one for one in self._world.sites.values() if one.name.lower() == name]
        rows = [row for site in sites for row in _rows(site)]
        columns = list(_TYPES)
        for stage in stages:
            rows, columns = _apply_stage(stage, rows, columns)
        described = [{"name": one, "type": _TYPES[one]} for one in columns]
        values = [[row[one] for one in columns] for row in rows]
        return Answer({"tables": [{"name": "PrimaryResult", "columns": described, "rows": values}]})

    def _check_table(self, request: Request, where: str) -> None:
        """Check the right to read one table ("Manage access to Log Analytics workspaces"). Raises ArmError 403."""
        action = f"Microsoft.OperationalInsights/workspaces/query/{TABLE}/read"
        if not self._world.rights.allows(request.caller.principal, action, where):
            raise ArmError(403, "InsufficientAccessError", "The provided credentials have insufficient access.")


def _rows(site: Site) -> Iterable[Row]:
    for at, line in site.lines:
        level = _level(line)
        severity = _SEVERITIES.index(level) if level in _SEVERITIES else 1
        moment = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        yield {"TimeGenerated": moment, "SeverityLevel": severity, "Message": line, "OperationId": ""}


def _level(line: str) -> str:
    """Return the level in a log line of the function; the real platform takes it from the logging call."""
    try:
        return str(json.loads(line)["level"])
    except (ValueError, TypeError, KeyError):
        return ""


def _apply_stage(stage: str, rows: list[Row], columns: list[str]) -> tuple[list[Row], list[str]]:
    """Return rows and columns after one stage of a query. Raises ArmError if the stage is not supported."""
    word, _, rest = stage.partition(" ")
    if word == "where":
        tests = [_test(one) for one in rest.split(" or ")]
        return [row for row in rows if any(test(row) for test in tests)], columns
    if word == "take" and rest.isdecimal():
        return rows[: int(rest)], columns
    if stage == "order by TimeGenerated asc":
        return sorted(rows, key=lambda row: str(row["TimeGenerated"])), columns
    chosen = [one.strip() for one in rest.split(",")]
    if word == "project" and set(chosen) <= set(_TYPES):
        return rows, chosen
    raise unknown(stage)


def _test(text: str) -> Test:
    if found := _SINCE.fullmatch(text):
        since = datetime.fromisoformat(found[1]).astimezone(UTC)
        return lambda row: datetime.fromisoformat(row["TimeGenerated"]) >= since
    if found := _SEVERE.fullmatch(text):
        minimum = int(found[1])
        return lambda row: bool(row["SeverityLevel"] >= minimum)
    if found := _TEXT.fullmatch(text):
        term = re.escape(found[2][1:-1] if found[2].startswith("'") else str(json.loads(found[2])))
        # `has` matches whole terms, with no adjacent letter or digit.
        pattern = rf"(?<![A-Za-z0-9]){term}(?![A-Za-z0-9])" if found[1] == "has" else term
        whole = re.compile(pattern, re.IGNORECASE)
        return lambda row: bool(whole.search(row["Message"]))
    raise unknown(text)
