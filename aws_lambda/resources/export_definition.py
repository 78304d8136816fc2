"""The definition of an export: how it is written, and the normal form in which a live one is compared with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aws_lambda.settings import AwsSettings
from aws_lambda.targets import ALL_COLUMNS, OUTPUT, Dataset

SELECT = re.compile(r"\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+(?P<table>\w+)\s*(?P<rest>.*?)\s*;?\s*", re.I | re.S)
COSTS = ("COST_AND_USAGE_REPORT", "FOCUS_")  # the beginnings of tables of costs; FOCUS has one for each version
OUTPUT_FIELDS = ("OutputType", "Format", "Compression", "Overwrite")


class Query(msgspec.Struct, frozen=True):
    """A parsed query statement: plain column names, the table, and whatever follows it (a filter)."""

    columns: tuple[str, ...]
    table: str
    rest: str = ""


def parse_query(statement: str) -> Query:
    """Return the parsed statement; an empty Query if it cannot be parsed."""
    match = SELECT.fullmatch(statement)
    if match is None:
        return Query((), "")
    return Query(tuple(part.strip() for part in match["columns"].split(",")), match["table"], match["rest"])


def query_of(export: Mapping[str, Any]) -> Query:
    """Return the parsed query of an export as GetExport returns it."""
    return parse_query(str(export["DataQuery"]["QueryStatement"]))


def address_of(export: Mapping[str, Any]) -> str:
    """Return where an export delivers, as ``s3://BUCKET/PREFIX``."""
    bucket = export["DestinationConfigurations"]["S3Destination"]
    return f"s3://{bucket['S3Bucket']}/{bucket['S3Prefix']}"


def table_properties(export: Mapping[str, Any] | None, dataset: Dataset) -> dict[str, str]:
    """Return the live export's configuration of the dataset's table; empty without an export."""
    return dict(export["DataQuery"].get("TableConfigurations", {}).get(dataset.table, {})) if export else {}


def wanted_properties(live: Mapping[str, Any] | None, dataset: Dataset) -> dict[str, str]:
    """Return the table configuration to write: the managed properties, and further ones of the live export.

    GetExport adds properties with empty values, which CreateExport and UpdateExport refuse.
    """
    properties = {**table_properties(live, dataset), **dataset.properties}
    return {name: value for name, value in properties.items() if value}


def export_definition(
    dataset: Dataset, columns: Sequence[str], live: Mapping[str, Any] | None, settings: AwsSettings, account: str
) -> Any:
    """Return the whole export as CreateExport and UpdateExport take it; it keeps the live one's description."""
    statement = f"SELECT {', '.join(columns)} FROM {dataset.table}"  # noqa: S608 - AWS's own names, no database
    query: dict[str, Any] = {"QueryStatement": statement}
    properties = wanted_properties(live, dataset)
    if properties:
        query["TableConfigurations"] = {dataset.table: properties}
    return {
        "Name": dataset.name,
        "Description": (live or {}).get("Description") or "Cost data for Tailpipe, kept by tailpipe-exports",
        "DataQuery": query,
        "DestinationConfigurations": {
            "S3Destination": {
                "S3Bucket": settings.bucket_of(account),
                "S3BucketOwner": settings.owner_of_bucket(account),
                "S3Prefix": settings.prefix,
                "S3Region": settings.bucket_region,
                "S3OutputConfigurations": dict(zip(OUTPUT_FIELDS, OUTPUT.split(), strict=True)),
            }
        },
        "RefreshCadence": {"Frequency": "SYNCHRONOUS"},
    }


def managed_fields(export: Mapping[str, Any], dataset: Dataset, columns: Sequence[str], account: str) -> dict[str, Any]:
    """Return the managed fields of a live export in the form of `Target.desired`.

    `columns` are those that the table has; `account` is the export's own. Fields that the service adds are left out.
    """
    bucket = export["DestinationConfigurations"]["S3Destination"]
    output = bucket["S3OutputConfigurations"]
    query = query_of(export)
    missing = [column for column in columns if column not in query.columns]
    properties = table_properties(export, dataset)
    return {
        "table": query.table,
        "columns": f"missing: {', '.join(missing)}" if missing else ALL_COLUMNS,
        "filter": query.rest,
        "properties": {name: properties.get(name, "") for name in dataset.properties},
        "bucket": bucket["S3Bucket"],
        # Exports created before AWS allowed buckets of other accounts name no owner: the bucket is in their account.
        "bucket-owner": bucket.get("S3BucketOwner") or account,
        "prefix": str(bucket["S3Prefix"]).strip("/"),
        "region": bucket["S3Region"],
        "output": " ".join(str(output.get(name)) for name in OUTPUT_FIELDS),
    }


def has_same_data(export: Mapping[str, Any], dataset: Dataset) -> bool:
    """Return whether an export has the data of a dataset: costs in any form, otherwise the same table."""
    table = query_of(export).table
    return table == dataset.table or (table.startswith(COSTS) and dataset.table.startswith(COSTS))
