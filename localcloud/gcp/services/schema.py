"""Converts BigQuery's table schemas to DuckDB types, and DuckDB's results to BigQuery's REST responses."""

from __future__ import annotations

import calendar
import math
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from localcloud.gcp.errors import GoogleError, invalid

Field = dict[str, Any]

_TO_DUCKDB = {
    "STRING": "VARCHAR",
    "INTEGER": "BIGINT",
    "INT64": "BIGINT",
    "FLOAT": "DOUBLE",
    "FLOAT64": "DOUBLE",
    "NUMERIC": "DECIMAL(38, 9)",
    "BOOLEAN": "BOOLEAN",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP",
    "DATE": "DATE",
}
_FROM_DUCKDB = {
    "varchar": "STRING",
    "tinyint": "INTEGER",
    "smallint": "INTEGER",
    "integer": "INTEGER",
    "bigint": "INTEGER",
    "hugeint": "INTEGER",
    "utinyint": "INTEGER",
    "usmallint": "INTEGER",
    "uinteger": "INTEGER",
    "ubigint": "INTEGER",
    "uhugeint": "INTEGER",
    "float": "FLOAT",
    "double": "FLOAT",
    "decimal": "NUMERIC",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP",
    "date": "DATE",
    "NULL": "INTEGER",
    '"null"': "INTEGER",
    "null": "INTEGER",
}


def duckdb_type(field: Field) -> str:
    """Return the DuckDB type of a BigQuery column. Raises GoogleError for an unsupported type."""
    kind = str(field.get("type", "")).upper()
    if kind in ("RECORD", "STRUCT"):
        members = ", ".join(f"{quoted(child['name'])} {duckdb_type(child)}" for child in field.get("fields", []))
        if not members:
            raise invalid(f"Field {field.get('name')} is type RECORD but has no schema")
        base = f"STRUCT({members})"
    elif kind in _TO_DUCKDB:
        base = _TO_DUCKDB[kind]
    else:
        raise GoogleError(501, "notImplemented", f"The type {kind} is not covered by the local BigQuery")
    return f"{base}[]" if str(field.get("mode", "")).upper() == "REPEATED" else base


def quoted(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def fields_of(description: Sequence[Any]) -> list[Field]:
    """Return the schema of a DuckDB cursor's result, in BigQuery's form."""
    return [_field(column[0], column[1]) for column in description]


def _field(name: str, kind: Any, mode: str = "NULLABLE") -> Field:
    identifier = str(kind.id)
    if identifier in ("list", "array"):
        return _field(name, kind.children[0][1], "REPEATED")
    if identifier == "struct":
        members = [_field(child, child_kind) for child, child_kind in kind.children]
        return {"name": name, "type": "RECORD", "mode": mode, "fields": members}
    found = _FROM_DUCKDB.get(identifier)
    if found is None:
        raise GoogleError(501, "notImplemented", f"A result of type {kind} is not covered by the local BigQuery")
    return {"name": name, "type": found, "mode": mode}


def encode_row(fields: Sequence[Field], row: Sequence[Any], int64_timestamp: bool) -> dict[str, Any]:
    """Return one row in REST form, ``{"f": [{"v": …}, …]}``; optionally with timestamps as whole microseconds."""
    cells = [{"v": _encode(field, value, int64_timestamp)} for field, value in zip(fields, row, strict=True)]
    return {"f": cells}


def _encode(field: Field, value: Any, int64_timestamp: bool) -> Any:
    if field["mode"] == "REPEATED":
        single = field | {"mode": "NULLABLE"}
        return [{"v": _encode(single, item, int64_timestamp)} for item in value or ()]
    if value is None:
        return None
    kind = field["type"]
    if kind == "RECORD":
        members = [value.get(child["name"]) for child in field["fields"]]
        return encode_row(field["fields"], members, int64_timestamp)
    if kind == "TIMESTAMP":
        micros = to_micros(value)
        return str(micros) if int64_timestamp else repr(micros / 1_000_000)
    if kind == "BOOLEAN":
        return "true" if value else "false"
    if kind == "DATE":
        return value.isoformat()
    if kind == "NUMERIC":
        return _decimal(value)
    if kind == "FLOAT" and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return str(value)


def _decimal(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_micros(moment: datetime | date) -> int:
    """Return microseconds since 1970 of a moment in UTC."""
    if not isinstance(moment, datetime):
        return calendar.timegm(moment.timetuple()) * 1_000_000
    return calendar.timegm(moment.utctimetuple()) * 1_000_000 + moment.microsecond


def check_fields(fields: Sequence[Field]) -> None:
    """Raise GoogleError unless these columns form a valid schema."""
    seen: set[str] = set()
    for field in fields:
        name = str(field.get("name", ""))
        if not name or name.lower() in seen:
            raise invalid(f"Invalid or duplicate field name: {name!r}")
        seen.add(name.lower())
        duckdb_type(field)
