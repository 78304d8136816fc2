"""Validates successful responses: one without the fields that Google documents proves nothing and is not used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import requests

from shared.errors import NotUnderstood
from shared.parsing import parse_int, permit, require

# What every successful response contains, by the verb and path of the call: one without it was truncated or came from
# another server. The first pattern that matches counts; any other response must be a JSON object. BigQuery and Cloud
# Storage name the kind of each response, even of an empty listing; the newer APIs omit empty fields, so nothing is
# required of their listings. Source: the APIs' discovery documents.
Fields = Mapping[str, type | tuple[type, ...]]
_EXPECTED: tuple[tuple[str, Fields, str], ...] = (
    (
        r"(GET|POST|PATCH) .*/storage/v1/b/[^/]+",
        {"name": str, "location": str, "iamConfiguration.uniformBucketLevelAccess": Mapping},
        "storage#bucket",
    ),
    (r"POST .*/storage/v1/b", {"name": str}, "storage#bucket"),
    (r"GET .*/storage/v1/b/[^/]+/o", {}, "storage#objects"),
    (r"GET .*/storage/v1/b/[^/]+/o/[^/]+", {}, "storage#object"),
    (r"POST .*/storage/v1/b/[^/]+/o", {"generation": (str, int)}, "storage#object"),
    (r"POST .*/copyTo/.*", {"generation": (str, int)}, "storage#object"),
    (r"GET .*/bigquery/v2/projects/[^/]+/datasets", {}, "bigquery#datasetList"),
    (
        r"(GET|POST) .*/bigquery/v2/projects/[^/]+/datasets(/[^/]+)?",
        {"datasetReference.datasetId": str, "location": str},
        "bigquery#dataset",
    ),
    (r"GET .*/datasets/[^/]+/tables/[^/]+", {"tableReference.tableId": str}, "bigquery#table"),
    (r"POST .*/bigquery/v2/projects/[^/]+/queries", {"jobComplete": bool}, "bigquery#queryResponse"),
    (r"GET .*/bigquery/v2/projects/[^/]+/queries/[^/]+", {"jobComplete": bool}, "bigquery#getQueryResultsResponse"),
    (
        r"(GET|POST) .*/bigquery/v2/projects/[^/]+/jobs(/[^/]+)?",
        {"jobReference.jobId": str, "status.state": str},
        "bigquery#job",
    ),
    (r"GET .*/v3/projects/[^/]+", {"name": str, "projectId": str, "state": str}, ""),
    (r"GET .*/services:batchGet", {"services": list}, ""),
    (r"GET .*/versions/[^/]+:access", {"name": str, "payload.data": str}, ""),
    (r"POST .*/topics/[^/]+:publish", {"messageIds": list}, ""),
    # A pull without messages is an empty object.
    (r"POST .*/subscriptions/[^/]+:pull", {}, ""),
    # Fields that are false may be omitted: `open` of a closed account, `billingEnabled` of a project without one.
    (r"GET .*/v1/billingAccounts/[^/]+", {"name": str}, ""),
    (r"GET .*/v1/projects/[^/]+/billingInfo", {"name": str}, ""),
)
EXPECTED = tuple((re.compile(pattern), fields, kind) for pattern, fields, kind in _EXPECTED)
# Optional fields that this package reads, and their types, by the verb and path of the call. A name that ends in []
# is a list, and means each of its items.
_TEXT, _NUMBER, _OBJECT = (str,), (str, int), (Mapping,)
_OBJECTS: Mapping[str, tuple[type, ...]] = {"nextPageToken": _TEXT, "items[]": _OBJECT} | {
    f"items[].{name}": kinds
    for name, kinds in (
        ("name", _TEXT),
        ("metadata", _OBJECT),
        ("generation", _NUMBER),
        ("size", _NUMBER),
        ("crc32c", _TEXT),
    )
}
_ACCOUNT: Mapping[str, tuple[type, ...]] = {
    "name": _TEXT,
    "displayName": _TEXT,
    "masterBillingAccount": _TEXT,
    "parent": _TEXT,
    "open": (bool,),
}
_QUERY: Mapping[str, tuple[type, ...]] = {
    "jobReference": _OBJECT,
    "jobReference.jobId": _TEXT,
    "pageToken": _TEXT,
    "errors[]": _OBJECT,
}
_PERMITTED: tuple[tuple[str, Mapping[str, tuple[type, ...]]], ...] = (
    (
        r".*/storage/v1/b(/[^/]+)?",
        {
            "projectNumber": _NUMBER,
            "metageneration": _NUMBER,
            "labels": _OBJECT,
            "iamConfiguration": _OBJECT,
            "iamConfiguration.uniformBucketLevelAccess": _OBJECT,
            "lifecycle": _OBJECT,
            "lifecycle.rule[]": _OBJECT,
            "lifecycle.rule[].action": _OBJECT,
            "lifecycle.rule[].condition": _OBJECT,
            "lifecycle.rule[].condition.matchesPrefix[]": _TEXT,
            "lifecycle.rule[].condition.matchesSuffix[]": _TEXT,
            "retentionPolicy": _OBJECT,
            "softDeletePolicy": _OBJECT,
            "versioning": _OBJECT,
            "defaultEventBasedHold": (bool,),
        },
    ),
    (r"GET .*/storage/v1/b/[^/]+/o", _OBJECTS),
    (
        r"GET .*/bigquery/v2/projects/[^/]+/datasets",
        {
            "datasets[]": _OBJECT,
            "datasets[].datasetReference": _OBJECT,
            "datasets[].location": _TEXT,
            "nextPageToken": _TEXT,
        },
    ),
    (
        r".*/bigquery/v2/projects/[^/]+/datasets/[^/]+",
        {
            "access[]": _OBJECT,
            "access[].userByEmail": _TEXT,
            "labels": _OBJECT,
            "defaultEncryptionConfiguration": _OBJECT,
        },
    ),
    (r".*/bigquery/v2/projects/[^/]+/queries(/[^/]+)?", _QUERY),
    (
        r".*/bigquery/v2/projects/[^/]+/jobs(/[^/]+)?",
        {
            "status.errorResult": _OBJECT,
            "statistics": _OBJECT,
            "statistics.extract": _OBJECT,
            "statistics.extract.destinationUriFileCounts[]": _NUMBER,
        },
    ),
    (r"GET .*/services:batchGet", {"services[]": _OBJECT, "services[].name": _TEXT, "services[].state": _TEXT}),
    (r"GET .*/v1/billingAccounts/[^/]+", _ACCOUNT),
    (
        r"GET .*/v1/billingAccounts",
        {"nextPageToken": _TEXT, "billingAccounts[]": _OBJECT}
        | {f"billingAccounts[].{name}": kinds for name, kinds in _ACCOUNT.items()},
    ),
    (
        r"POST .*/subscriptions/[^/]+:pull",
        {
            "receivedMessages[]": _OBJECT,
            "receivedMessages[].ackId": _TEXT,
            "receivedMessages[].message": _OBJECT,
            "receivedMessages[].message.data": _TEXT,
        },
    ),
    (r"GET .*/v1/projects/[^/]+/billingInfo", {"billingAccountName": _TEXT, "billingEnabled": (bool,)}),
)
PERMITTED = tuple((re.compile(pattern), fields) for pattern, fields in _PERMITTED)


def prove(answer: requests.Response, what: str) -> None:
    """Check that a successful response belongs to this call. Raises NotUnderstood."""
    try:
        document = json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(what, f"it is not JSON ({type(error).__name__})") from error
    expected = next((one[1:] for one in EXPECTED if one[0].fullmatch(what)), ({}, ""))
    require(document, expected[0], what)
    if expected[1] and document.get("kind") != expected[1]:
        raise NotUnderstood(what, f"it is not of the kind {expected[1]}")
    for pattern, fields in PERMITTED:
        if pattern.fullmatch(what):
            permit(document, fields, what)
    if expected[1] == "bigquery#queryResponse" or expected[1] == "bigquery#getQueryResultsResponse":
        _rows_understood(document, what)
    answer.json = lambda **_: document  # type: ignore[method-assign]  # decoded once, for later callers


def _rows_understood(document: Mapping[str, Any], what: str) -> None:
    """Check that the response to a complete query has its columns and its number of rows. Raises NotUnderstood."""
    if not document["jobComplete"]:
        require(document, {"jobReference.jobId": str}, what)
        return
    require(document, {"schema.fields": list, "totalRows": (str, int)}, what)
    rows, columns = document.get("rows") or (), len(document["schema"]["fields"])
    if parse_int(document["totalRows"]) and not rows:
        raise NotUnderstood(what, "its rows are missing")
    if not isinstance(rows, list | tuple) or not all(_is_row(row, columns) for row in rows):
        raise NotUnderstood(what, f"its rows are not lists of {columns} strings")


def _is_row(row: Any, columns: int) -> bool:
    """Return whether a row has as many cells as the query has columns, each a string or null."""
    cells = row.get("f") if isinstance(row, Mapping) else None
    return (
        isinstance(cells, list)
        and len(cells) == columns
        and all(isinstance(cell, Mapping) and isinstance(cell.get("v"), str | None) for cell in cells)
    )
