"""Queries of the table AzureActivity, limited to the operators that the function's query uses.

Source: "AzureActivity" (Azure Monitor Logs reference) and "Kusto Query Language" (Microsoft Learn).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from localcloud.azure.errors import ArmError
from localcloud.azure.services.activity_log import ActivityLog, Entry

TABLE = "AzureActivity"
_STAGES = re.compile(r"\s*\|\s*(?=(?:[^']*'[^']*')*[^']*$)")  # a pipe inside a string literal is not an operator
_SINCE = re.compile(r"where TimeGenerated >= datetime\(([^)]+)\)")
_IN = re.compile(r"where (\w+) (!?)in~ \(([^)]*)\)")
_EXTEND = re.compile(r"(\w+) = tolower\((\w+)\)")
_EITHER = re.compile(r"where (\w+) endswith '([^']*)' or (\w+) matches regex @'([^']*)'")
_SUMMARIZE = re.compile(r"summarize (\w+) = max\(TimeGenerated\) by (\w+(?:, \w+)*)")
_TEXT = re.compile(r"'([^']*)'")
_TAKE = re.compile(r"take (\d+)")

Row = dict[str, str]


def answer_activity(log: ActivityLog, workspace: str, query: str, now: datetime) -> dict[str, Any]:
    """Return the result table of a query of AzureActivity. Raises ArmError 501 for unsupported syntax."""
    _, since, *stages = _STAGES.split(query.strip())
    begin = _SINCE.fullmatch(since)
    if begin is None:
        raise unknown(since)
    moment = datetime.fromisoformat(begin[1]).astimezone(UTC)
    rows, columns = [_row(one) for one in log.found(workspace, moment, now)], list(_row(_EMPTY_ENTRY))
    for stage in stages:
        rows, columns = _apply_stage(stage, rows, columns)
    described = [{"name": one, "type": "datetime" if one in ("TimeGenerated", "at") else "string"} for one in columns]
    return {
        "tables": [
            {
                "name": "PrimaryResult",
                "columns": described,
                "rows": [[row[one] for one in columns] for row in rows],
            }
        ]
    }


def _apply_stage(stage: str, rows: list[Row], columns: list[str]) -> tuple[list[Row], list[str]]:
    if found := _IN.fullmatch(stage):
        values, wanted = {one.lower() for one in _TEXT.findall(found[3])}, not found[2]
        return [row for row in rows if (row[found[1]].lower() in values) == wanted], columns
    if stage.startswith("extend "):
        made = _EXTEND.findall(stage)
        if ", ".join(f"{name} = tolower({source})" for name, source in made) != stage.removeprefix("extend "):
            raise unknown(stage)
        added = [{**row, **{name: row[source].lower() for name, source in made}} for row in rows]
        return added, columns + [name for name, _ in made]
    if found := _EITHER.fullmatch(stage):
        pattern: Callable[[str], object] = re.compile(found[4]).search
        return [row for row in rows if row[found[1]].endswith(found[2]) or pattern(row[found[3]])], columns
    if found := _SUMMARIZE.fullmatch(stage):
        return _summarized(rows, found[1], found[2].split(", "))
    if found := _TAKE.fullmatch(stage):
        return rows[: int(found[1])], columns
    raise unknown(stage)


def _summarized(rows: list[Row], name: str, by: list[str]) -> tuple[list[Row], list[str]]:
    latest: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = tuple(row[one] for one in by)
        latest[key] = max(latest.get(key, ""), row["TimeGenerated"])
    return [{**dict(zip(by, key, strict=True)), name: at} for key, at in latest.items()], [*by, name]


def _row(entry: Entry) -> Row:
    return {
        "TimeGenerated": entry.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "OperationNameValue": entry.operation.upper(),
        "ActivityStatusValue": entry.status,
        "Caller": entry.caller,
        "SubscriptionId": entry.subscription,
        "_ResourceId": entry.resource,
    }


_EMPTY_ENTRY = Entry(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC), "", "", "")


def unknown(part: str) -> ArmError:
    """Return a 501 error: the local Azure does not support this part of a query."""
    return ArmError(501, "NotImplemented", f"The local Azure does not support this part of a query: {part}")
