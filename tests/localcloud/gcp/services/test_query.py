"""GoogleSQL queries on generated rows, through Google's client."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, MethodNotImplemented, NotFound
from google.cloud.bigquery import (
    ArrayQueryParameter,
    Client,
    QueryJob,
    QueryJobConfig,
    ScalarQueryParameter,
)

from localcloud.gcp.services.billing_schema import table_name
from localcloud.gcp.services.query import MINIMUM_BILLED
from tests.localcloud.gcp.conftest import NO_RETRY, Clients, Opener


def _rows(client: Client, sql: str, *parameters: Any, **settings: Any) -> list[dict[str, Any]]:
    config = QueryJobConfig(query_parameters=list(parameters))
    found = client.query_and_wait(sql, job_config=config, retry=NO_RETRY, job_retry=NO_RETRY, **settings)
    return [dict(row) for row in found]


@pytest.fixture
def account(gcp: Clients) -> str:
    """Return the first account, which exports."""
    accounts: dict[str, str] = gcp.cloud.accounts()
    return next(iter(accounts))


@pytest.fixture
def table(gcp: Clients, account: str) -> str:
    """Return the first account's standard table for a query."""
    return f"`{gcp.cloud.project}.billing_export.{table_name('standard', account)}`"


def test_watermark_query_shows_changes_per_partition(gcp: Clients, account: str, table: str) -> None:
    """Late rows change the newest export time and the row count of their own partition only."""
    sql = f"SELECT DATE(_PARTITIONTIME) AS day, MAX(export_time) AS watermark, COUNT(*) AS n FROM {table} GROUP BY 1"
    before = {row["day"]: (row["watermark"], row["n"]) for row in _rows(gcp.bigquery, sql)}
    gcp.cloud.late_data(account, "2026-03-08", rows=4)
    after = {row["day"]: (row["watermark"], row["n"]) for row in _rows(gcp.bigquery, sql)}
    assert [n for _, n in before.values()] == [10, 10, 10]
    changed = {day for day in after if after[day] != before[day]}
    assert changed == {date(2026, 3, 8)}
    assert after[date(2026, 3, 8)][1] == 14
    assert after[date(2026, 3, 8)][0] > max(watermark for watermark, _ in before.values())
    expected = {day: values[1] for day, values in gcp.cloud.watermarks(account).items()}
    assert {str(day): n for day, (_, n) in after.items()} == expected


def test_wildcard_query_reads_all_accounts(gcp: Clients) -> None:
    """`_TABLE_SUFFIX` distinguishes the tables and can be filtered by an array parameter."""
    accounts = list(gcp.cloud.accounts())[:2]
    sql = (
        "SELECT _TABLE_SUFFIX AS suffix, COUNT(*) AS n "
        f"FROM `{gcp.cloud.project}.billing_export.gcp_billing_export_v1_*`"
        " WHERE _TABLE_SUFFIX IN UNNEST(@suffixes) GROUP BY suffix ORDER BY suffix"
    )
    suffixes = sorted(account.replace("-", "_") for account in accounts)
    everything = _rows(gcp.bigquery, sql, ArrayQueryParameter("suffixes", "STRING", suffixes))
    assert everything == [{"suffix": suffix, "n": 30} for suffix in suffixes]
    one = _rows(gcp.bigquery, sql, ArrayQueryParameter("suffixes", "STRING", suffixes[:1]))
    assert one == [{"suffix": suffixes[0], "n": 30}]


def test_rows_have_all_nested_values(gcp: Clients, account: str, table: str) -> None:
    """Structs, arrays, decimals, timestamps and nulls have the client's types; pseudo columns are excluded."""
    (row,) = _rows(gcp.bigquery, f"SELECT * FROM {table} ORDER BY export_time LIMIT 1")
    assert row["billing_account_id"] == account
    assert row["labels"][0] == {"key": "row", "value": f"{account}/0"}
    assert row["export_time"] == datetime(2026, 3, 8, 20, tzinfo=UTC)
    assert set(row["service"]) == {"id", "description"}
    assert row["adjustment_info"]["id"] is None
    assert "_PARTITIONTIME" not in row


def test_current_timestamp_is_the_local_clouds_clock(gcp: Clients, table: str) -> None:
    """A window of days in a query moves with the injected clock."""
    sql = f"SELECT COUNT(*) AS n FROM {table} WHERE _PARTITIONTIME > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 DAY)"
    assert _rows(gcp.bigquery, sql) == [{"n": 20}]
    gcp.cloud.advance(seconds=24 * 3600)
    assert _rows(gcp.bigquery, sql) == [{"n": 10}]


def test_query_parameters_are_not_executed(gcp: Clients, account: str, table: str) -> None:
    """A string parameter with quotes is compared as text, and dates are compared as dates."""
    sql = f"SELECT COUNT(*) AS n FROM {table} WHERE billing_account_id = @id AND DATE(_PARTITIONTIME) >= @day"
    day = ScalarQueryParameter("day", "DATE", date(2026, 3, 9))
    assert _rows(gcp.bigquery, sql, ScalarQueryParameter("id", "STRING", account), day) == [{"n": 20}]
    hostile = ScalarQueryParameter("id", "STRING", "' OR '1'='1\\")
    assert _rows(gcp.bigquery, sql, hostile, day) == [{"n": 0}]


def test_partitions_view_has_rows_and_last_modification(gcp: Clients, account: str) -> None:
    """INFORMATION_SCHEMA.PARTITIONS has a row per partition, and late rows update its time."""
    name = table_name("standard", account)
    sql = (
        "SELECT partition_id, total_rows, last_modified_time AS at "
        f"FROM `{gcp.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS "
        f"WHERE table_name = '{name}' ORDER BY 1"
    )
    before = _rows(gcp.bigquery, sql)
    gcp.cloud.late_data(account, "2026-03-09", rows=1)
    after = _rows(gcp.bigquery, sql)
    assert [(row["partition_id"], row["total_rows"]) for row in after] == [
        ("20260308", 10),
        ("20260309", 11),
        ("20260310", 10),
    ]
    assert [old["at"] == new["at"] for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_buffered_rows_have_no_partition(gcp: Clients, account: str, table: str) -> None:
    """A query counts them with a NULL _PARTITIONTIME, the table does not; later they move to their day."""
    gcp.cloud.stream(rows=7, accounts=[account], kinds=["standard"], buffered=True)
    sql = f"SELECT _PARTITIONTIME IS NULL AS waiting, COUNT(*) AS n FROM {table} GROUP BY 1 ORDER BY 1"
    view = f"`{gcp.cloud.project}.billing_export.INFORMATION_SCHEMA.PARTITIONS`"
    buffered = f"SELECT total_rows AS n FROM {view} WHERE partition_id = '__UNPARTITIONED__'"
    found = gcp.bigquery.get_table(table.strip("`"))
    assert _rows(gcp.bigquery, sql) == [{"waiting": False, "n": 30}, {"waiting": True, "n": 7}]
    assert _rows(gcp.bigquery, buffered) == [{"n": 7}]
    assert (found.num_rows, found.streaming_buffer.estimated_rows) == (30, 7)
    gcp.cloud.advance(seconds=5400)
    assert _rows(gcp.bigquery, sql) == [{"waiting": False, "n": 37}]
    assert _rows(gcp.bigquery, buffered) == []
    assert gcp.bigquery.get_table(table.strip("`")).streaming_buffer is None


def test_partitions_view_is_limited_to_a_thousand_tables(opened: Opener, clients: Callable[..., Clients]) -> None:
    """A dataset of 1,002 tables needs a filter on the table name."""
    one = clients(opened(accounts=501, done=501, kinds=("standard", "detailed")))
    view = f"`{one.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS"
    with pytest.raises(BadRequest, match="too many tables"):
        _rows(one.bigquery, f"SELECT * FROM {view} WHERE partition_id > '20260101'")
    sql = f"SELECT COUNT(*) AS n FROM {view} WHERE STARTS_WITH(table_name, 'gcp_billing_export_v1_') AND total_rows > 0"
    assert _rows(one.bigquery, sql) == [{"n": 0}]


def test_results_are_paged(gcp: Clients, table: str) -> None:
    """The page size applies, and the pages together have every row once."""
    rows = gcp.bigquery.query_and_wait(f"SELECT labels[OFFSET(0)].value AS row FROM {table}", page_size=7)
    pages = [len(list(page)) for page in rows.pages]
    assert (sum(pages), max(pages), rows.total_rows) == (30, 7, 30)


def test_query_in_another_location_finds_no_dataset(gcp: Clients, opened: Opener, table: str) -> None:
    """Without a location, the query runs where the dataset is."""
    with pytest.raises(NotFound, match="was not found in location EU"):
        _rows(gcp.bigquery, f"SELECT 1 FROM {table}", location="EU")
    job = gcp.bigquery.query(f"SELECT 1 FROM {table}")
    assert job.result() is not None
    assert job.location == "US"


def test_failed_job_is_returned_with_200_and_its_error(gcp: Clients) -> None:
    """jobs.insert and jobs.get succeed, and the job has the error."""
    body = {
        "jobReference": {"projectId": gcp.cloud.project, "jobId": "fails"},
        "configuration": {"query": {"query": "SELECT x FROM billing_export.nothing", "useLegacySql": False}},
    }
    path = f"bigquery/v2/projects/{gcp.cloud.project}/jobs"
    assert gcp.post(path, body).status_code == 200
    status = gcp.get(f"{path}/fails").json()["status"]
    assert (status["state"], status["errorResult"]["reason"]) == ("DONE", "notFound")
    assert gcp.get(f"bigquery/v2/projects/{gcp.cloud.project}/queries/fails").status_code == 404


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT no_such_column FROM {table}", "SELECT * FROM unqualified"])
def test_invalid_query_is_400(gcp: Clients, table: str, sql: str) -> None:
    """This covers syntax errors, unknown columns and unqualified tables."""
    with pytest.raises(BadRequest):
        _rows(gcp.bigquery, sql.format(table=table))


def test_dml_statement_is_501(gcp: Clients, table: str) -> None:
    """DML is not supported, and changes nothing."""
    with pytest.raises(MethodNotImplemented, match="not covered"):
        _rows(gcp.bigquery, f"DELETE FROM {table} WHERE true")
    assert _rows(gcp.bigquery, f"SELECT COUNT(*) AS n FROM {table}") == [{"n": 30}]


def test_each_table_bills_at_least_ten_megabytes(gcp: Clients) -> None:
    """A wildcard over two small tables is billed twice the minimum, and a lower maximum refuses the query."""
    sql = f"SELECT COUNT(*) FROM `{gcp.cloud.project}.billing_export.gcp_billing_export_v1_*`"
    job = gcp.bigquery.query(sql, job_id_prefix="billed-")
    job.result()
    job.reload()
    assert job.total_bytes_billed == 2 * MINIMUM_BILLED
    ceiling = QueryJobConfig(maximum_bytes_billed=MINIMUM_BILLED)
    with pytest.raises(BadRequest, match="exceeded limit for bytes billed"):
        gcp.bigquery.query_and_wait(sql, job_config=ceiling, retry=NO_RETRY, job_retry=NO_RETRY)


def test_dry_run_returns_schema_and_size(gcp: Clients, table: str) -> None:
    """It returns no rows."""
    job = gcp.bigquery.query(f"SELECT cost FROM {table}", job_config=QueryJobConfig(dry_run=True))
    assert job.total_bytes_processed > 0
    assert [field.name for field in job.schema or ()] == ["cost"]


def test_query_needs_permissions(gcp: Clients, table: str) -> None:
    """Without jobs.create no job starts; without getData the table is refused, and without list the view."""
    view = f"`{gcp.cloud.project}.billing_export`.INFORMATION_SCHEMA.PARTITIONS"
    for permission, sql in (
        ("bigquery.jobs.create", "SELECT 1"),
        ("bigquery.tables.getData", f"SELECT 1 FROM {table}"),
        ("bigquery.tables.list", f"SELECT 1 FROM {view}"),
    ):
        gcp.cloud.deny(permission)
        with pytest.raises(Forbidden):
            _rows(gcp.bigquery, sql)
        gcp.cloud.allow(permission)
        _rows(gcp.bigquery, sql)


def test_second_job_with_the_same_id_is_409(gcp: Clients, table: str) -> None:
    """The first job can be read instead."""
    sql = f"SELECT COUNT(*) AS n FROM {table}"
    gcp.bigquery.query(sql, job_id="once", job_retry=NO_RETRY)
    with pytest.raises(Conflict, match="Already Exists: Job"):
        gcp.bigquery.query(sql, job_id="once", job_retry=NO_RETRY, retry=NO_RETRY)
    job = gcp.bigquery.get_job("once", location="US")
    assert isinstance(job, QueryJob)
    (row,) = job.result()
    assert row.n == 30


def test_result_expires_after_a_day(gcp: Clients, table: str) -> None:
    """The rows are gone once a day has passed and another query has run."""
    sql = f"SELECT COUNT(*) AS n FROM {table}"
    gcp.bigquery.query(sql, job_id="old", job_retry=NO_RETRY).result()
    gcp.cloud.advance(seconds=24 * 3600)
    _rows(gcp.bigquery, sql)
    assert gcp.get(f"bigquery/v2/projects/{gcp.cloud.project}/queries/old").status_code == 404
