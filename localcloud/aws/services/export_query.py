"""The query of an export: its SQL, table and output format, checked as Data Exports does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.services.export_tables import Table

SERVICE = "bcm-data-exports"

_STATEMENT = re.compile(
    r"^\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+(?P<table>\w+)(?:\s+WHERE\s+.+?)?(?:\s+LIMIT\s+\d+)?\s*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_COLUMN = re.compile(r"^(?P<name>\w+)(?:\.\w+|\['[^']+'\])?(?:\s+AS\s+\w+)?$", re.IGNORECASE)

# The formats that each output type supports. Source: S3OutputConfigurations in the API reference.
_FORMATS = {
    "CUSTOM": {("TEXT_OR_CSV", "GZIP"), ("TEXT_OR_CSV", "ZIP"), ("PARQUET", "PARQUET")},
    "ATHENA": {("PARQUET", "PARQUET")},
    "REDSHIFT": {("TEXT_OR_CSV", "GZIP")},
}


def read_statement(statement: str) -> tuple[str, list[str]]:
    """Return the table and the columns of `SELECT columns FROM TABLE`. Raises AwsError (ValidationException)."""
    match = _STATEMENT.match(statement)
    if match is None:
        raise invalid(SERVICE, "The query statement is invalid: expected SELECT columns FROM table.")
    columns = []
    for part in match["columns"].split(","):
        column = _COLUMN.match(part.strip())
        if column is None:
            raise invalid(SERVICE, f"The query statement is invalid near '{part.strip()}'.")
        columns.append(column["name"])
    return match["table"], columns


def table_of(statement: str) -> str:
    """Return the table that a statement reads, or "" if Data Exports would refuse the statement."""
    match = _STATEMENT.match(statement)
    return match["table"] if match else ""


def check_query(query: dict[str, Any], tables: Mapping[str, Table]) -> tuple[Table, list[str]]:
    """Return the table and columns of a DataQuery. Raises AwsError if they do not match."""
    name, columns = read_statement(query["QueryStatement"])
    table = tables.get(name)
    if table is None:
        raise invalid(SERVICE, f"The table {name} in the query provided does not exist.")
    configurations = query.get("TableConfigurations", {})
    foreign = sorted(set(configurations) - {name})
    if foreign:
        raise invalid(SERVICE, f"The table configurations name tables that the query does not: {', '.join(foreign)}")
    chosen = dict(configurations.get(name, {}))
    check_properties(table, chosen)
    existing = set(table.columns_with(chosen))
    missing = [column for column in columns if column not in existing]
    if missing:
        raise invalid(
            SERVICE,
            f"The columns in the query provided are not a subset of the table {name}'s columns. "
            f"Unknown columns: {', '.join(missing)}",
        )
    return table, columns


def check_properties(table: Table, chosen: dict[str, str]) -> None:
    """Check table properties. Raises AwsError for an unknown property or an invalid value."""
    for key, value in chosen.items():
        known = table.property(key)
        if known is None:
            raise invalid(SERVICE, f"The table property {key} is not valid for table {table.name}.")
        if key == "BILLING_VIEW_ARN" and not value:
            raise AwsError("AccessDeniedException", "User is not authorized to access the billing view ''.", 403)
        if known.values and value not in known.values:
            allowed = ", ".join(known.values)
            raise invalid(SERVICE, f"The value {value!r} of table property {key} is not one of [{allowed}].")


def check_output(output: dict[str, Any]) -> None:
    """Check that format, compression and output type can be combined. Raises AwsError."""
    pair = (output["Format"], output["Compression"])
    if pair not in _FORMATS[output["OutputType"]]:
        raise invalid(
            SERVICE,
            f"Format {pair[0]} with compression {pair[1]} is not supported for output type {output['OutputType']}.",
        )
