"""Extract jobs, through Google's client: Parquet files in the local Cloud Storage."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound
from google.cloud.bigquery import Dataset, DatasetReference, ExtractJob, ExtractJobConfig

from localcloud.gcp.services.billing_schema import SCHEMAS, table_name
from localcloud.gcp.state import Behavior
from tests.localcloud.gcp.conftest import NO_RETRY, Clients, Opener

Make = Callable[..., Clients]


def _format(**settings: str) -> ExtractJobConfig:
    return ExtractJobConfig(**settings)  # type: ignore[no-untyped-call]  # the library is only partly typed


PARQUET = _format(destination_format="PARQUET", compression="SNAPPY")


def _extract(
    one: Clients, source: str, to: str, job_id: str = "", config: ExtractJobConfig = PARQUET, **settings: Any
) -> ExtractJob:
    table = f"{one.cloud.project}.billing_export.{source}"
    uri = f"gs://{one.cloud.deployment.bucket}/{to}"
    return one.bigquery.extract_table(
        table, uri, job_id=job_id or None, location="US", job_config=config, retry=NO_RETRY, **settings
    )


def _read(one: Clients, prefix: str, folder: Path, select: str) -> list[tuple[Any, ...]]:
    """Download the files below a prefix, and query them with DuckDB."""
    for number, blob in enumerate(one.storage.list_blobs(one.cloud.deployment.bucket, prefix=prefix)):
        (folder / f"{number}.parquet").write_bytes(blob.download_as_bytes())
    return duckdb.connect().execute(f"SELECT {select} FROM '{folder}/*.parquet'").fetchall()


@pytest.fixture
def account(gcp: Clients) -> str:
    """Return the first account, which exports."""
    accounts: dict[str, str] = gcp.cloud.accounts()
    return next(iter(accounts))


@pytest.fixture
def table(account: str) -> str:
    """Return the first account's detailed table."""
    return table_name("detailed", account)


def test_partition_is_extracted_to_a_parquet_file(gcp: Clients, account: str, table: str, tmp_path: Path) -> None:
    """`table$YYYYMMDD` extracts that day's rows with all nested columns and no pseudo column."""
    job = _extract(gcp, f"{table}$20260309", "copy/part-*.parquet")
    job.result()
    assert job.destination_uri_file_counts == [1]
    assert gcp.cloud.copies("copy/") == ["copy/part-000000000000.parquet"]
    found = _read(gcp, "copy/", tmp_path, "labels[1].value, strftime(export_time, '%Y-%m-%d')")
    assert sorted(found) == sorted((f"{account}/{number}", "2026-03-09") for number in range(10, 20))
    columns = duckdb.connect().execute(f"DESCRIBE SELECT * FROM '{tmp_path}/0.parquet'").fetchall()
    assert [column[0] for column in columns] == [field["name"] for field in SCHEMAS["detailed"]]


def test_rows_in_the_streaming_buffer_are_not_extracted(gcp: Clients, account: str, table: str, tmp_path: Path) -> None:
    """Neither the partition nor the complete table has them until they leave the buffer."""
    gcp.cloud.stream(rows=5, accounts=[account], buffered=True)
    _extract(gcp, table, "before/*").result()
    (tmp_path / "before").mkdir()
    assert _read(gcp, "before/", tmp_path / "before", "count(*)") == [(30,)]
    gcp.cloud.flush_buffer()
    _extract(gcp, f"{table}$20260310", "after/*").result()
    (tmp_path / "after").mkdir()
    assert _read(gcp, "after/", tmp_path / "after", "count(*)") == [(15,)]


def test_large_extract_needs_a_wildcard_and_is_sharded(opened: Opener, clients: Make, tmp_path: Path) -> None:
    """Without `*` the job is refused; with it, no row is lost or duplicated."""
    one = clients(opened(history_days=1, rows=3000, behavior=Behavior(extract_file_bytes=60_000)))
    source = f"{table_name('standard', next(iter(one.cloud.accounts())))}$20260310"
    with pytest.raises(BadRequest, match="too large to be exported to a single file"):
        _extract(one, source, "single.parquet").result(retry=NO_RETRY)
    job = _extract(one, source, "many/*.parquet")
    job.result()
    (count,) = job.destination_uri_file_counts
    assert count == len(one.cloud.copies("many/")) > 1
    assert _read(one, "many/", tmp_path, "count(*), count(DISTINCT labels[1].value)") == [(3000, 3000)]


def test_extract_of_nested_columns_to_csv_fails(gcp: Clients, table: str) -> None:
    """The job is accepted, fails with the reason and writes nothing."""
    job = _extract(gcp, table, "x.csv", config=_format(destination_format="CSV"))
    with pytest.raises(BadRequest, match=r"nested schema\. Field: service"):
        job.result(retry=NO_RETRY)
    assert gcp.cloud.copies() == []


def test_extract_to_an_unreachable_location_fails(opened: Opener, clients: Make) -> None:
    """From the EU to the US the job fails; from the US, every bucket is accepted."""
    one = clients(opened(location="EU", history_days=1))
    one.storage.create_bucket("in-the-us", location="US", retry=NO_RETRY)
    table = f"{one.cloud.project}.billing_export.{table_name('standard', next(iter(one.cloud.accounts())))}"
    job = one.bigquery.extract_table(table, "gs://in-the-us/*", location="EU", job_config=PARQUET)
    with pytest.raises(BadRequest, match="different locations: source: EU, destination: US"):
        job.result(retry=NO_RETRY)
    elsewhere = one.bigquery.extract_table(table, "gs://in-the-us/*", location="US", job_config=PARQUET)
    with pytest.raises(NotFound, match="was not found in location US"):
        elsewhere.result(retry=NO_RETRY)
    here = one.bigquery.extract_table(table, f"gs://{one.cloud.deployment.bucket}/*", location="EU", job_config=PARQUET)
    here.result()


def test_job_outside_us_and_eu_needs_its_location(opened: Opener, clients: Make) -> None:
    """The job is found only with the location in which it ran."""
    one = clients(opened(done=0, location="europe-west1"))
    dataset = Dataset(DatasetReference(one.cloud.project, "other"))
    dataset.location = "europe-west1"
    one.bigquery.create_dataset(dataset)
    one.bigquery.query("SELECT 1", job_id="there", location="europe-west1", job_retry=NO_RETRY)
    with pytest.raises(NotFound):
        one.bigquery.get_job("there", retry=NO_RETRY)
    assert one.bigquery.get_job("there", location="europe-west1").state == "DONE"


def test_extract_with_the_same_id_runs_once(gcp: Clients, table: str) -> None:
    """After a lost response, the second try is 409 and the job exists."""
    gcp.cloud.lose_answer("bigquery.jobs.insert")
    for _ in range(2):
        with pytest.raises(Exception, match=r"503|Already Exists"):
            _extract(gcp, f"{table}$20260309", "copy/*", job_id="copy-20260309")
    job = gcp.bigquery.get_job("copy-20260309", location="US")
    assert isinstance(job, ExtractJob)
    assert (job.state, job.error_result, job.destination_uri_file_counts) == ("DONE", None, [1])
    with pytest.raises(Conflict):
        _extract(gcp, f"{table}$20260309", "copy/*", job_id="copy-20260309")


def test_extracted_files_appear_when_the_job_ends(opened: Opener, clients: Make) -> None:
    """A running job has no files, excludes later rows, and leaves nothing if canceled."""
    one = clients(opened(history_days=1, rows=10, behavior=Behavior(extract_s=30)))
    account = next(iter(one.cloud.accounts()))
    source = f"{table_name('standard', account)}$20260310"
    job = _extract(one, source, "copy/*", job_id="slow")
    one.cloud.late_data(account, "2026-03-10", rows=3)
    assert (job.done(), one.cloud.copies("copy/")) == (False, [])
    _extract(one, source, "cancelled/*", job_id="stopped").cancel()
    one.cloud.advance(seconds=30)
    assert job.done()
    assert len(one.cloud.copies("copy/")) == 1
    assert one.cloud.copies("cancelled/") == []
    assert one.bigquery.get_job("stopped", location="US").error_result["reason"] == "stopped"
    data = one.storage.bucket(one.cloud.deployment.bucket).blob(one.cloud.copies("copy/")[0]).download_as_bytes()
    assert job.destination_uri_file_counts == [1]
    assert data[:4] == data[-4:] == b"PAR1"


def test_failed_extract_writes_no_file(gcp: Clients, table: str) -> None:
    """The job has the error, and a job with another id succeeds."""
    gcp.cloud.fail_jobs("extract", "backendError")
    job = _extract(gcp, table, "copy/*", job_id="first")
    with pytest.raises(Exception, match="backendError"):
        job.result(retry=NO_RETRY)
    assert gcp.cloud.copies() == []
    _extract(gcp, table, "copy/*", job_id="second").result()
    assert len(gcp.cloud.copies()) == 1


def test_extract_jobs_have_a_daily_quota(opened: Opener, clients: Make) -> None:
    """Beyond it, jobs fail with quotaExceeded until the next day."""
    one = clients(opened(history_days=1, behavior=Behavior(extract_jobs_per_day=2)))
    source = table_name("standard", next(iter(one.cloud.accounts())))
    for number in range(2):
        _extract(one, source, f"{number}/*").result()
    with pytest.raises(Forbidden, match="Quota exceeded"):
        _extract(one, source, "2/*").result(retry=NO_RETRY)
    one.cloud.advance(seconds=24 * 3600)
    _extract(one, source, "3/*").result()


def test_too_many_running_extracts_are_refused(opened: Opener, clients: Make) -> None:
    """The response is 403 rateLimitExceeded until one of them ends."""
    one = clients(opened(history_days=1, behavior=Behavior(extract_concurrent=1, extract_s=10)))
    source = table_name("standard", next(iter(one.cloud.accounts())))
    _extract(one, source, "0/*")
    with pytest.raises(Forbidden, match="rate limits"):
        _extract(one, source, "1/*")
    one.cloud.advance(seconds=10)
    _extract(one, source, "1/*")


@pytest.mark.parametrize("permission", ["bigquery.tables.export", "storage.objects.create"])
def test_extract_needs_permissions_on_table_and_bucket(gcp: Clients, table: str, permission: str) -> None:
    """Without permission to export the table or to write to the bucket, the job fails with accessDenied."""
    gcp.cloud.deny(permission)
    job = _extract(gcp, table, "copy/*")
    with pytest.raises(Forbidden, match=permission):
        job.result(retry=NO_RETRY)
    assert gcp.cloud.copies() == []


def test_concurrent_extracts_write_their_own_partitions(gcp: Clients, account: str, tmp_path: Path) -> None:
    """Twelve jobs from four threads each write their complete day."""
    jobs = [
        (kind, day, f"{kind}/{day}/{again}/*")
        for kind in ("standard", "detailed")
        for day in ("20260308", "20260309", "20260310")
        for again in range(2)
    ]

    def run(job: tuple[str, str, str]) -> None:
        kind, day, to = job
        _extract(gcp, f"{table_name(kind, account)}${day}", to).result()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, jobs))
    assert _read(gcp, "", tmp_path, "count(*), count(DISTINCT labels[1].value)") == [(120, 30)]
