"""Billing rows in Google's schema, the same for the same seed; DuckDB makes them, to be fast.

Every row of usage carries a label ``row`` with a value that no other row of its table has, so that a copy can be
proven complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from localcloud.gcp.services.schema import to_micros


@dataclass(frozen=True)
class Batch:
    """Rows that arrive together in one table: `count` of them in the partition `day`, numbered from `first`.

    `export_time` is when the first is written, each next one a millisecond later. `buffered`: they are streamed, and
    have no partition yet.
    """

    table: int
    account: str
    currency: str
    day: date
    first: int
    count: int
    export_time: datetime
    buffered: bool = False


def select(kind: str, batches: Sequence[Batch], seed: int) -> tuple[str, dict[str, Any]]:
    """Return the query that makes the rows of these batches, with the hidden columns, and its parameters.

    The batches are parameters, since DuckDB is slow to parse thousands of rows of values.
    """
    parameters: dict[str, Any] = {
        "tables": [batch.table for batch in batches],
        "accounts": [batch.account for batch in batches],
        "currencies": [batch.currency for batch in batches],
        "days": [batch.day for batch in batches],
        "firsts": [batch.first for batch in batches],
        "counts": [batch.count for batch in batches],
        "times": [to_micros(batch.export_time) for batch in batches],
        "buffered": [batch.buffered for batch in batches],
        "seed": seed,
    }
    query = f"{_sql('rows')}{_COLUMNS[kind]}, _PARTITIONTIME, _table, _due FROM priced ORDER BY _table, day, number"
    return query, parameters


def _sql(name: str) -> str:
    return (Path(__file__).parent / f"billing_{name}.sql").read_text(encoding="utf-8")


_RESOURCE = """,
    {'name': 'resource-' || (h // 23 % 50), 'global_name': '//compute.googleapis.com/projects/' || project_id ||
        '/zones/' || region || '-b/instances/' || (h // 23 % 50)} AS resource
"""
# The columns of each kind of export, from the rows of billing_rows.sql.
_COLUMNS = {
    "standard": _sql("usage"),
    "detailed": _sql("usage") + _RESOURCE,
    "pricing": _sql("pricing"),
    "focus": _sql("focus"),
}
