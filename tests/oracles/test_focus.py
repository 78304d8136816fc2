"""What the local clouds deliver as FOCUS data, and what the functions ask for, by the FinOps Foundation's rules."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from aws_lambda.targets import DATASETS
from azure_function.targets import KNOWN_VERSIONS
from localcloud.aws.cloud import LocalAws
from localcloud.aws.services.export_tables import TABLES
from localcloud.azure.services.export_files import WITHOUT_SECONDS, csv_part, focus_version_of
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.billing_schema import SCHEMAS, table_name
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START, create_export
from tests.localcloud.gcp.conftest import START as GCP_START
from tests.localcloud.gcp.conftest import Clients
from tests.oracles.focus import RULES, check_columns, check_row


def checked(version: str, data: bytes) -> int:
    """Check a compressed CSV file and return the number of its rows."""
    reader = csv.DictReader(io.StringIO(gzip.decompress(data).decode("utf-8-sig")))
    check_columns(version, reader.fieldnames or [])
    rows = list(reader)
    for row in rows:
        check_row(version, row)
    return len(rows)


@pytest.mark.parametrize("name", ["FOCUS_1_0_AWS", "FOCUS_1_2_AWS"])
def test_files_of_aws(name: str) -> None:
    """A delivered file has the columns of its version, and each of its values is valid."""
    with LocalAws(accounts=2, clock=VirtualClock(START)) as cloud:
        query = {"QueryStatement": f"SELECT {', '.join(TABLES[name].columns)} FROM {name}"}  # noqa: S608 - the local cloud's own names
        output = {
            "Format": "TEXT_OR_CSV",
            "Compression": "GZIP",
            "OutputType": "CUSTOM",
            "Overwrite": "OVERWRITE_REPORT",
        }
        create_export(cloud, "focus", DataQuery=query, destination={"S3OutputConfigurations": output})
        cloud.deliver("focus")
        found = cloud.client("s3").list_objects_v2(Bucket=cloud.deployment.bucket)["Contents"]
        (key,) = [str(one["Key"]) for one in found if str(one["Key"]).endswith(".csv.gz")]
        with cloud.client("s3").get_object(Bucket=cloud.deployment.bucket, Key=key)["Body"] as body:
            assert checked(name[6:9].replace("_", "."), body.read()) == 1


def test_table_that_the_aws_function_exports() -> None:
    """The function asks for every column of a table that has all columns of FOCUS 1.2."""
    check_columns("1.2", TABLES[DATASETS["focus"].table].columns)


def file_of_azure(version: str) -> tuple[bytes, int]:
    """Return a file of the first days of a month and its number of rows, as an export of this version delivers it."""
    definition = {"type": "FocusCost", "dataSet": {"configuration": {"dataVersion": version}}}
    start, end = datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 5, tzinfo=UTC)
    return csv_part("/subscriptions/1", start, end, compressed=True, version=focus_version_of(definition))


@pytest.mark.parametrize("version", sorted({*KNOWN_VERSIONS} - {*WITHOUT_SECONDS}))
def test_files_of_azure(version: str) -> None:
    """A file of each version that the function asks for has the columns and values of its FOCUS version."""
    data, rows = file_of_azure(version)
    assert checked(version[:3], data) == rows


@pytest.mark.parametrize("version", WITHOUT_SECONDS)
def test_first_versions_of_azure_break_one_rule(version: str) -> None:
    """The first two versions of Cost Management write dates without seconds, which FOCUS does not allow."""
    periods = "('BillingPeriodEnd', '2027-01-01T00:00Z'), ('BillingPeriodStart', '2026-12-01T00:00Z')"
    charges = "('ChargePeriodEnd', '2026-12-01T01:00Z'), ('ChargePeriodStart', '2026-12-01T00:00Z')"
    with pytest.raises(ValueError, match=f"^{re.escape(f'FOCUS 1.0: [{periods}, {charges}]')}$"):
        checked(version[:3], file_of_azure(version)[0])


def test_rows_of_google_cloud() -> None:
    """A table has the columns of FOCUS 1.0, and its rows, written as CSV, have valid values."""
    check_columns("1.0", [str(one["name"]) for one in SCHEMAS["focus"]])
    with LocalGcp(accounts=1, done=0, clock=VirtualClock(GCP_START)) as cloud:
        account = next(iter(cloud.accounts()))
        cloud.console_step(account, ["focus"])
        cloud.stream(rows=3)
        operator = Clients(cloud, OPERATOR)
        table = f"{cloud.project}.gcp_billing_immutable_{account.replace('-', '_')}_us.{table_name('focus', account)}"
        rows = [dict(row) for row in operator.bigquery.query_and_wait(f"SELECT * FROM `{table}`")]  # noqa: S608 - the local cloud's own names
        operator.close()
    assert len(rows) == 3
    for row in rows:
        check_row("1.0", {name: text(value) for name, value in row.items()})


def text(value: Any) -> str:
    """Return a value of BigQuery as CSV data has it."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, list):
        return json.dumps({one["key"]: one["value"] for one in value})
    return "" if value is None else str(value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("BilledCost", ""),
        ("BilledCost", "cheap"),
        ("BillingPeriodStart", "12/01/2026"),
        ("ChargePeriodStart", "2026-12-01T00:00Z"),
        ("ChargeCategory", "Gift"),
        ("BillingCurrency", "euro"),
        ("Tags", "a=b"),
    ],
)
def test_invalid_value_is_refused(column: str, value: str) -> None:
    """Each type, a null where none may be, and a value that is not in the list."""
    data, _ = csv_part("/subscriptions/1", *2 * (datetime(2026, 12, 1, tzinfo=UTC),), False, version="1.2")
    (row,) = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
    check_row("1.2", row)
    with pytest.raises(ValueError, match=column):
        check_row("1.2", row | {column: value})


def test_missing_and_unknown_columns_are_refused() -> None:
    """A vendor's own columns begin with x_."""
    names = set(RULES["1.2"])
    check_columns("1.2", names | {"x_Own"})
    for wrong in (names - {"BilledCost"}, names | {"Own"}):
        with pytest.raises(ValueError, match="missing"):
            check_columns("1.2", wrong)
