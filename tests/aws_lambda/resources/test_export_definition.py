"""Query statements of exports are parsed."""

from __future__ import annotations

from typing import Any

from aws_lambda.resources.export_definition import (
    address_of,
    export_definition,
    has_same_data,
    managed_fields,
    parse_query,
    wanted_properties,
)
from aws_lambda.settings import read_settings
from aws_lambda.targets import DATASETS

ACCOUNT = "111122223333"
CUR, CARBON = DATASETS["cur2"], DATASETS["carbon"]
COLUMNS = ("bill_bill_type", "line_item_usage_type")
SETTINGS = read_settings({"AWS_REGION": "eu-west-1", "EXPORT_BUCKET": "bucket"})


def written(live: dict[str, Any] | None = None, dataset: Any = CUR) -> Any:
    """Return the export that the function writes."""
    return export_definition(dataset, COLUMNS, live, SETTINGS, ACCOUNT)


def test_query_that_cannot_be_parsed_is_empty() -> None:
    """An empty query differs from every desired one and therefore counts as drift."""
    assert parse_query("WITH x AS (SELECT 1) SELECT * FROM x JOIN y").table == ""
    query = parse_query("select a,\n b from T where a = 1;")
    assert (query.columns, query.table, query.rest) == (("a", "b"), "T", "where a = 1")


def test_written_export_has_the_managed_fields() -> None:
    """What is written differs in nothing from what is desired, and only a table with properties has a configuration."""
    made = written()
    output = made["DestinationConfigurations"]["S3Destination"]["S3OutputConfigurations"]
    assert list(output) == ["OutputType", "Format", "Compression", "Overwrite"]
    fields = managed_fields(made, CUR, COLUMNS, ACCOUNT)
    assert fields["table"] == "COST_AND_USAGE_REPORT"
    assert (fields["columns"], fields["filter"], fields["region"]) == ("all", "", "eu-west-1")
    assert fields["bucket-owner"] == ACCOUNT
    assert fields["properties"] == dict(CUR.properties)
    assert fields["output"] == " ".join(output.values())
    assert address_of(made) == f"s3://{fields['bucket']}/{fields['prefix']}"
    assert made["RefreshCadence"] == {"Frequency": "SYNCHRONOUS"}
    assert made["DataQuery"]["TableConfigurations"] == {CUR.table: dict(CUR.properties)}
    assert "TableConfigurations" not in written(dataset=CARBON)["DataQuery"]


def test_description_of_a_live_export_is_kept() -> None:
    """A customer's words survive a repair; an export without a description gets one."""
    assert written({**written(), "Description": "theirs"})["Description"] == "theirs"
    ours = written()["Description"]
    assert ours == written({**written(), "Description": ""})["Description"] != ""


def test_further_properties_of_a_live_export_are_kept() -> None:
    """Those that are managed have our values; AWS refuses empty ones, which GetExport adds."""
    live = written()
    live["DataQuery"]["TableConfigurations"][CUR.table] |= {
        "TIME_GRANULARITY": "DAILY",
        "INCLUDE_SPLIT_COST_ALLOCATION_DATA": "TRUE",
        "BILLING_VIEW_ARN": "",
    }
    assert wanted_properties(live, CUR) == {**CUR.properties, "INCLUDE_SPLIT_COST_ALLOCATION_DATA": "TRUE"}
    assert managed_fields(live, CUR, COLUMNS, ACCOUNT)["properties"]["TIME_GRANULARITY"] == "DAILY"
    assert wanted_properties(None, CUR) == dict(CUR.properties)


def test_drift_of_a_live_export_is_named() -> None:
    """Missing columns, a filter, and the owner of the bucket; without one, it is in the export's account."""
    live = written()
    live["DataQuery"]["QueryStatement"] = "SELECT bill_bill_type FROM T WHERE a = 1"
    destination = live["DestinationConfigurations"]["S3Destination"]
    destination |= {"S3BucketOwner": "444455556666", "S3Prefix": "/exports~/"}
    del destination["S3OutputConfigurations"]["Format"]
    fields = managed_fields(live, CUR, (*COLUMNS, "more"), ACCOUNT)
    assert fields["columns"] == "missing: line_item_usage_type, more"
    assert (fields["filter"], fields["table"], fields["prefix"]) == ("WHERE a = 1", "T", "exports~")
    assert fields["bucket-owner"] == "444455556666"
    assert "None" in fields["output"]
    del destination["S3BucketOwner"]
    del live["DataQuery"]["TableConfigurations"]
    fields = managed_fields(live, CUR, COLUMNS, ACCOUNT)
    assert fields["bucket-owner"] == ACCOUNT
    assert fields["properties"] == dict.fromkeys(CUR.properties, "")


def test_exports_of_costs_have_the_same_data_in_any_form() -> None:
    """CUR and FOCUS of any version; carbon emissions are other data."""

    def of(table: str) -> dict[str, Any]:
        return {"DataQuery": {"QueryStatement": f"SELECT a FROM {table}"}}  # noqa: S608 - a table of AWS

    assert has_same_data(of("COST_AND_USAGE_REPORT"), CUR)
    assert has_same_data(of("FOCUS_1_0_AWS"), CUR)
    assert has_same_data(of("COST_AND_USAGE_REPORT"), DATASETS["focus"])
    assert has_same_data(of("CARBON_EMISSIONS"), CARBON)
    assert not has_same_data(of("CARBON_EMISSIONS"), CUR)
    assert not has_same_data(of("COST_AND_USAGE_REPORT"), CARBON)
