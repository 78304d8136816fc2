"""Extract jobs: write a table, or one of its partitions, to real files in the local Cloud Storage."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from localcloud.gcp.context import Context
from localcloud.gcp.errors import invalid, job_error, unimplemented
from localcloud.gcp.services.buckets import Bucket
from localcloud.gcp.services.catalog import Dataset, Table
from localcloud.gcp.services.objects import Conditions
from localcloud.gcp.services.schema import literal, quoted
from localcloud.gcp.services.warehouse import ROW_BYTES, day_of
from localcloud.gcp.state import World

_URI = re.compile(r"gs://([^/]+)/(.+)")
_FORMATS = ("CSV", "PARQUET")
_COMPRESSIONS = {"PARQUET": ("NONE", "SNAPPY", "GZIP", "ZSTD"), "CSV": ("NONE", "GZIP")}
_CONTENT_TYPES = {"PARQUET": "application/octet-stream", "CSV": "text/csv"}
_EMPTY = Conditions()


class Extract:
    """One extract job, from its configuration to its files."""

    def __init__(self, context: Context, configuration: Mapping[str, Any]) -> None:
        self._context = context
        self._world: World = context.world
        self._configuration = configuration
        source = configuration.get("sourceTable") or {}
        missing = [name for name in ("projectId", "datasetId", "tableId") if not source.get(name)]
        uris = configuration.get("destinationUris") or [configuration.get("destinationUri") or ""]
        if missing or not uris[0]:
            raise invalid(f"Required parameter is missing: {', '.join(missing) or 'destinationUris'}")
        if len(uris) > 1:
            raise unimplemented("More than one destination URI")
        self._project, self._dataset_id = str(source["projectId"]), str(source["datasetId"])
        self._table_id, _, self._partition = str(source["tableId"]).partition("$")
        self._uri = str(uris[0])
        self._format = str(configuration.get("destinationFormat") or "CSV").upper()
        self._compression = str(configuration.get("compression") or "NONE").upper()
        if self._format not in _FORMATS:
            raise unimplemented(f"The destination format {self._format}")
        if self._compression not in _COMPRESSIONS[self._format]:
            raise invalid(f"Compression {self._compression} is not supported for {self._format}.")
        found = _URI.fullmatch(self._uri)
        if not found or self._uri.count("*") > 1 or "*" in found[1]:
            raise invalid(f"Invalid extract destination URI '{self._uri[:200]}'.")
        self._bucket_name, self._pattern = found[1], found[2]

    def location(self, asked: str) -> str:
        """Return the job's location: the requested one, or the dataset's."""
        dataset = self._world.catalog.datasets.get((self._project, self._dataset_id))
        return asked or (dataset.location if dataset else "US")

    def run(self, location: str) -> tuple[Callable[[], None], dict[str, Any]]:
        """Write the current data to files; return a function that publishes them, and the job's statistics.

        Raises GoogleError with the reason that the job fails with.
        """
        with self._world.lock:
            dataset, table = self._source(location)
            self._destination(dataset)
            columns = [field["name"] for field in table.fields]
        nested = [
            field["name"] for field in table.fields if field["type"] == "RECORD" or field.get("mode") == "REPEATED"
        ]
        if self._format == "CSV" and nested:
            raise job_error("invalid", f"Operation cannot be performed on a nested schema. Field: {nested[0]}")
        where = f"_table = {table.uid}"
        if self._partition:
            where += f" AND _PARTITIONTIME = {literal(self._day().isoformat())}::TIMESTAMP"
        elif table.partitioned:
            # Rows in the streaming buffer are not extracted.
            where += " AND _PARTITIONTIME IS NOT NULL"
        names = ", ".join(quoted(name) for name in columns)
        try:
            files, rows = self._write(f"SELECT {names} FROM {table.rows} WHERE {where}")
        except duckdb.Error as error:
            raise job_error("internalError", str(error).splitlines()[0][:200]) from error
        statistics = {
            "totalBytesProcessed": str(rows * ROW_BYTES),
            "extract": {"destinationUriFileCounts": [str(len(files))], "inputBytes": str(rows * ROW_BYTES)},
        }
        return lambda: self._publish(files), statistics

    def _source(self, location: str) -> tuple[Dataset, Table]:
        name = f"{self._project}:{self._dataset_id}"
        dataset = self._world.catalog.datasets.get((self._project, self._dataset_id))
        if dataset is None or dataset.location.upper() != location.upper():
            raise job_error("notFound", f"Not found: Dataset {name} was not found in location {location}")
        if self._table_id not in dataset.tables:
            raise job_error(
                "notFound", f"Not found: Table {name}.{self._table_id} was not found in location {location}"
            )
        table = f"{name}.{self._table_id}"
        self._context.need(
            "bigquery.tables.export",
            f"projects/{self._project}/datasets/{self._dataset_id}/tables/{self._table_id}",
            f"Access Denied: Table {table}: Permission bigquery.tables.export denied on table {table} (or it may not "
            "exist).",
        )
        if self._partition:
            self._day()
        found = dataset.tables[self._table_id]
        if not found.shows_all(self._context.identity):
            raise job_error(
                "accessDenied",
                f"Access Denied: Table {table}: A table with row access policies can be exported only with "
                "access to all of its rows (a TRUE filter).",
            )
        return dataset, found

    def _day(self) -> date:
        try:
            return day_of(self._partition)
        except ValueError as error:
            raise job_error("invalid", f"Invalid partition id {self._partition[:40]}") from error

    def _destination(self, dataset: Dataset) -> Bucket:
        bucket = self._world.buckets.all.get(self._bucket_name)
        if bucket is None:
            raise job_error("notFound", f"Not found: URI {self._uri}")
        if not colocated(dataset.location, bucket.location):
            raise job_error(
                "invalid",
                "Cannot read and write in different locations: "
                f"source: {dataset.location}, destination: {_as_bigquery(bucket.location)}",
            )
        if self._world.unpaid(bucket.project):
            raise job_error(
                "billingNotEnabled",
                "Billing has not been enabled for this project. Enable billing at https://console.cloud.google.com/"
                "billing.",
            )
        self._context.need(
            "storage.objects.create",
            f"buckets/{bucket.name}/objects/{self._name(0)}",
            f"Access Denied: BigQuery BigQuery: Permission denied while writing to {self._uri}. "
            f"{self._context.identity} does not have storage.objects.create access.",
        )
        return bucket

    # difference: GCP-4
    def _write(self, select: str) -> tuple[list[tuple[str, Path]], int]:
        """Write shards of at most the maximum file size; return the (object name, file) pairs and the row count."""
        behavior = self._world.behavior
        many = "*" in self._pattern
        with self._world.warehouse.cursor() as cursor:
            # The transaction gives all shards the same snapshot of the data.
            cursor.execute("BEGIN")
            first = self._world.spool.path()
            rows = self._copy(cursor, select, first)
            size = first.stat().st_size
            shards = max(1, -(-size // behavior.extract_file_bytes))
            if many and behavior.extract_shard_rows:
                shards = max(shards, -(-rows // behavior.extract_shard_rows))
            if shards == 1:
                cursor.execute("COMMIT")
                return [(self._name(0), first)], rows
            first.unlink()
            if not many:
                raise job_error(
                    "invalid",
                    "Table too large to be exported to a single file. Specify a uri including a * to shard export. See "
                    "'Exporting data into one or more files' in https://cloud.google.com/bigquery/docs/exporting-data.",
                )
            each = -(-rows // shards)
            files = []
            for number in range(shards):
                path = self._world.spool.path()
                self._copy(cursor, f"{select} ORDER BY rowid LIMIT {each} OFFSET {number * each}", path)
                files.append((self._name(number), path))
            cursor.execute("COMMIT")
            return files, rows

    def _copy(self, cursor: duckdb.DuckDBPyConnection, select: str, path: Path) -> int:
        if self._format == "PARQUET":
            codec = {"NONE": "uncompressed"}.get(self._compression, self._compression.lower())
            options = f"FORMAT parquet, COMPRESSION {codec}"
        else:
            header = str(self._configuration.get("printHeader", True)).lower()
            options = f"FORMAT csv, HEADER {header}, COMPRESSION {self._compression.lower()}"
        found = cursor.execute(f"COPY ({select}) TO {literal(str(path))} ({options})").fetchone()
        return int(found[0]) if found else 0

    def _name(self, number: int) -> str:
        return self._pattern.replace("*", f"{number:012d}")

    def _publish(self, files: list[tuple[str, Path]]) -> None:
        """Make all files visible together. Raises GoogleError if the bucket has been deleted in the meantime."""
        with self._world.lock:
            bucket = self._world.buckets.all.get(self._bucket_name)
            if bucket is None:
                raise job_error("notFound", f"Not found: URI {self._uri}")
            replaced = [name for name, _ in files if bucket.objects.find(name)]
            if replaced:
                self._context.need(
                    "storage.objects.delete",
                    f"buckets/{bucket.name}/objects/{replaced[0]}",
                    f"Access Denied: BigQuery BigQuery: Permission denied while overwriting {replaced[0]}.",
                )
            for name in replaced:
                bucket.check_unprotected(bucket.objects.get(bucket.name, name), self._world.clock.now(), deleted=False)
            fields = bucket.held({"contentType": _CONTENT_TYPES[self._format]})
            for name, path in files:
                bucket.objects.put(name, path, fields, _EMPTY, self._world.clock.now())


def colocated(dataset: str, bucket: str) -> bool:
    """Return whether a dataset's location allows an extract to a bucket's location.

    A multi-region reaches its own regions; the US multi-region reaches every bucket
    (https://cloud.google.com/bigquery/docs/exporting-data#data-locations).
    """
    where, to = dataset.upper(), bucket.upper()
    return where in (to, "US") or (where == "EU" and to.startswith("EUROPE-"))


def _as_bigquery(location: str) -> str:
    return location if location in ("US", "EU", "ASIA") else location.lower()
