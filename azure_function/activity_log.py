"""Reads changes from the activity log, in the Log Analytics workspace that the customer sends it to.

Sources: "AzureActivity" (Azure Monitor Logs reference), "Azure Monitor Log Analytics API response format" and "Log data
ingestion time in Azure Monitor" (Microsoft Learn): a change can be queried 3 to 20 minutes after it happened. Changes
made through a storage account's own endpoint are not in this log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from azure_function.clients import ARM_READ, LOG_ANALYTICS, Clients
from azure_function.settings import AzureSettings
from azure_function.targets import CONTAINER, EXPORT, NAME, REGISTRATION
from shared.errors import NotUnderstood
from shared.hints import AHEAD, OLDEST
from shared.parsing import mapping, parse_time, require
from shared.runtime.context import RunContext

API_VERSION = "2017-10-01"  # for queries through Resource Manager, which accept its token
COLUMNS = ("operation", "subscription", "resource", "at")
MOST_ROWS = 50_000  # the API refuses more than 500,000 rows or about 100 MB

_EXPORT = "microsoft.costmanagement/exports"
_ACCOUNT = "microsoft.storage/storageaccounts"
_UNASSIGNED = "microsoft.authorization/roleassignments/delete"
_UNREGISTERED = "microsoft.costmanagement/unregister/action"
_SERVICE_UNREGISTERED = "microsoft.costmanagementexports/unregister/action"
OPERATIONS = (
    f"{_EXPORT}/write",
    f"{_EXPORT}/delete",
    *(f"{_ACCOUNT}{part}/{verb}" for part in ("", "/blobservices/containers") for verb in ("write", "delete")),
    *(f"{_ACCOUNT}/managementpolicies/{verb}" for verb in ("write", "delete")),
    _UNASSIGNED,
    _UNREGISTERED,
    _SERVICE_UNREGISTERED,
)
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Change(msgspec.Struct, frozen=True):
    """The change in one entry: targets of a kind in a subscription (only the one with `name`, if given), and when
    (UTC). The name is in lower case, as in the log.
    """

    scope: str
    kind: str
    name: str
    at: datetime


def query(settings: AzureSettings, own: Sequence[str], since: datetime) -> str:
    """Return the query for others' successful changes since then, the last one for each operation and resource.

    `own` are the ids that the log may contain for the function as the caller.
    """
    resources = [
        rf"/subscriptions/[^/]+/providers/microsoft\.costmanagement/exports/{NAME.lower()}-",
        r"/subscriptions/[^/]+/providers/microsoft\.authorization/roleassignments/",
        *(f"{re.escape(one.id.lower())}(/|$)" for one in settings.destination),
    ]
    return " | ".join(
        [
            "AzureActivity",
            f"where TimeGenerated >= datetime({since:%Y-%m-%dT%H:%M:%SZ})",
            f"where OperationNameValue in~ ({_texts(OPERATIONS)})",
            "where ActivityStatusValue in~ ('Success', 'Succeeded')",
            *([f"where Caller !in~ ({_texts(own)})"] if own else []),
            "extend operation = tolower(OperationNameValue), subscription = tolower(SubscriptionId)",
            "extend resource = tolower(_ResourceId)",
            f"where operation endswith '/unregister/action' or resource matches regex @'^({'|'.join(resources)})'",
            "summarize at = max(TimeGenerated) by operation, subscription, resource",
            f"take {MOST_ROWS}",
        ]
    )


def read_changes(settings: AzureSettings, clients: Clients, run: RunContext) -> list[Change]:
    """Return others' changes of the last day. Raises CloudError.

    Invalid entries are logged and left out.
    """
    claims = run.calls(ARM_READ, clients.claims)
    own = [claims[one].lower() for one in ("oid", "appid") if one in claims]
    now = run.clock.now()
    text = query(settings, own, now - OLDEST)
    answer = run.calls(LOG_ANALYTICS, clients.arm_post, f"{settings.activity_log}/query", API_VERSION, {"query": text})
    changes, refused = [], 0
    for row in _rows(answer):
        change = _change(row, settings)
        if change is None or change.at > now + AHEAD:
            refused += 1
        else:
            changes.append(change)
    if refused:
        run.log("warning", "event-refused", reason=f"{refused} entries of the activity log", code="event-malformed")
    return changes


def _rows(document: object) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of the table as mappings of column names to values. Raises NotUnderstood."""
    what = "the query of the activity log"
    answer = require(document, {"tables": list}, what)
    if answer.get("error"):
        raise NotUnderstood(what, "the result is incomplete")
    table = next((one for one in map(mapping, answer["tables"]) if one.get("name") == "PrimaryResult"), {})
    columns, rows = table.get("columns"), table.get("rows")
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise NotUnderstood(what, "it has no table")
    names = [str(mapping(one).get("name")) for one in columns]
    if set(names) != set(COLUMNS):
        raise NotUnderstood(what, "its columns are not those that were asked for")
    for row in rows:
        if not isinstance(row, list) or len(row) != len(names):
            raise NotUnderstood(what, "a row of it has not as many values as there are columns")
        yield dict(zip(names, row, strict=True))


def _change(row: Mapping[str, Any], settings: AzureSettings) -> Change | None:
    """Return the change in a row, None if it is not valid."""
    at = parse_time(row["at"])
    operation, subscription, resource = (str(row[one]).lower() for one in ("operation", "subscription", "resource"))
    if at is None or operation not in OPERATIONS or not _GUID.fullmatch(subscription):
        return None
    if any(resource == one or resource.startswith(f"{one}/") for one in (a.id.lower() for a in settings.destination)):
        return Change(subscription, CONTAINER.name, "", at)
    if operation.startswith(_EXPORT):
        return Change(subscription, EXPORT.name, resource.rpartition("/")[2], at)
    if operation == _SERVICE_UNREGISTERED:
        return Change(subscription, REGISTRATION.name, "", at)
    if operation in (_UNASSIGNED, _UNREGISTERED):
        return Change(subscription, EXPORT.name, "", at)
    return None


def _texts(values: Sequence[str]) -> str:
    return ", ".join(f"'{one}'" for one in values)
