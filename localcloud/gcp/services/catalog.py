"""BigQuery's datasets and tables: schemas, locations and access entries."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any

from localcloud.gcp.errors import GoogleError, invalid, not_found
from localcloud.gcp.services.buckets import MULTI_REGIONS, REGIONS
from localcloud.gcp.services.schema import Field, check_fields, literal
from localcloud.gcp.services.warehouse import ROW_BYTES, UNPARTITIONED, Warehouse, day_of

LOCATIONS = {name: name for name in MULTI_REGIONS if name != "ASIA"} | {name: name.lower() for name in REGIONS}
_ID = re.compile(r"[A-Za-z0-9_]{1,1024}")
_SPECIAL = {"OWNER": "projectOwners", "WRITER": "projectWriters", "READER": "projectReaders"}


def canonical_location(name: str) -> str:
    """Return a location in BigQuery's spelling (``US``, ``europe-west1``). Raises GoogleError for an unknown one."""
    found = LOCATIONS.get(name.upper())
    if found is None:
        raise invalid(f"Invalid value for location: {name[:80]} is not a valid value")
    return found


@dataclass
class Table:
    """One table: `uid` identifies its rows in the DuckDB table `rows`."""

    uid: int
    id: str
    fields: list[Field]
    rows: str
    created: datetime
    modified: datetime
    partitioned: bool = True
    description: str = ""
    buffered_at: datetime | None = None
    # The identities to which row access policies grant all rows (a TRUE filter); None without a policy.
    readers: frozenset[str] | None = None
    expires: datetime | None = None
    partitions_ms: int = 0

    def shows_all(self, identity: str) -> bool:
        """Return whether an identity can read the rows; without a grant it gets no rows and no error.

        Source: "Introduction to BigQuery row-level security".
        """
        return self.readers is None or identity in self.readers


@dataclass
class Dataset:
    """One dataset; `linked` names the publisher of a linked one."""

    project: str
    id: str
    location: str
    created: datetime
    modified: datetime
    access: list[dict[str, Any]]
    extra: dict[str, Any] = field(default_factory=dict)
    linked: str = ""
    tables: dict[str, Table] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        seed = json.dumps([self.id, self.access, self.extra, self.modified.isoformat()], sort_keys=True)
        return hashlib.sha256(seed.encode()).hexdigest()[:22]

    def as_json(self, *, with_access: bool) -> dict[str, Any]:
        document = {
            "kind": "bigquery#dataset",
            "etag": self.etag,
            "id": f"{self.project}:{self.id}",
            "selfLink": f"https://bigquery.googleapis.com/bigquery/v2/projects/{self.project}/datasets/{self.id}",
            "datasetReference": {"datasetId": self.id, "projectId": self.project},
            "location": self.location,
            "type": "LINKED" if self.linked else "DEFAULT",
            "creationTime": millis(self.created),
            "lastModifiedTime": millis(self.modified),
            **self.extra,
        }
        return document | {"access": self.access} if with_access else document


def millis(moment: datetime) -> str:
    """Return whole milliseconds since 1970, BigQuery's format for times."""
    return str(int(moment.timestamp() * 1000))


def default_access(creator: str) -> list[dict[str, Any]]:
    """Return the access entries of every new dataset."""
    special = [{"role": role, "specialGroup": group} for role, group in _SPECIAL.items()]
    return [*special, {"role": "OWNER", "userByEmail": creator}]


class Catalog:
    """All datasets of all projects."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.datasets: dict[tuple[str, str], Dataset] = {}
        self._tables = 0

    def dataset(self, project: str, name: str) -> Dataset:
        """Return a dataset. Raises GoogleError 404."""
        found = self.datasets.get((project, name))
        if found is None:
            raise not_found(f"Not found: Dataset {project}:{name}")
        return found

    def add_dataset(self, dataset: Dataset) -> Dataset:
        """Add a dataset. Raises GoogleError 409 for an existing id, 400 for an invalid one."""
        if not _ID.fullmatch(dataset.id):
            raise invalid(
                f'Invalid dataset ID "{dataset.id[:80]}". Dataset IDs must be alphanumeric (plus underscores) and must '
                "be at most 1024 characters long."
            )
        key = (dataset.project, dataset.id)
        if key in self.datasets:
            raise GoogleError(409, "duplicate", f"Already Exists: Dataset {dataset.project}:{dataset.id}")
        self.datasets[key] = dataset
        return dataset

    def table(self, dataset: Dataset, name: str) -> Table:
        """Return a table. Raises GoogleError 404."""
        found = dataset.tables.get(name)
        if found is None:
            raise not_found(f"Not found: Table {dataset.project}:{dataset.id}.{name}")
        return found

    def add_table(
        self, dataset: Dataset, name: str, fields: Sequence[Field], now: datetime, *, partitioned: bool = True
    ) -> Table:
        """Add a table. Raises GoogleError 409 for an existing name, 400 for an invalid name or schema."""
        if not re.fullmatch(r"[\w -]{1,1024}", name):
            raise invalid(f'Invalid table ID "{name[:80]}".')
        if name in dataset.tables:
            raise GoogleError(409, "duplicate", f"Already Exists: Table {dataset.project}:{dataset.id}.{name}")
        check_fields(fields)
        self._tables += 1
        rows = self.warehouse.rows_table(fields)
        table = Table(self._tables, name, [dict(field) for field in fields], rows, now, now, partitioned)
        table.partitions_ms = int(dataset.extra.get("defaultPartitionExpirationMs") or 0) if partitioned else 0
        lifetime = int(dataset.extra.get("defaultTableExpirationMs") or 0)
        if lifetime and not table.partitions_ms:
            # For a partitioned table, the default partition expiration applies instead (datasets resource, BigQuery).
            table.expires = now + timedelta(milliseconds=lifetime)
        dataset.tables[name] = table
        self.warehouse.name(table.uid, dataset.project, dataset.id, name, now)
        return table

    def drop_table(self, dataset: Dataset, name: str) -> None:
        table = self.table(dataset, name)
        self.warehouse.forget(table.rows, table.uid)
        del dataset.tables[name]

    def expire(self, now: datetime) -> None:
        """Delete expired tables and partitions."""
        for dataset in self.datasets.values():
            for table in list(dataset.tables.values()):
                if table.expires is not None and table.expires <= now:
                    self.drop_table(dataset, table.id)
                elif table.partitions_ms:
                    first = (now - timedelta(milliseconds=table.partitions_ms)).replace(tzinfo=None)
                    if any(
                        name != UNPARTITIONED and datetime.combine(day_of(name), time()) <= first
                        for name in self.warehouse.partitions(table.uid)
                    ):
                        moment = literal(first.isoformat(sep=" "))
                        self.warehouse.delete(table.rows, table.uid, f"_PARTITIONTIME <= {moment}::TIMESTAMP")

    def reshape(self, table: Table, fields: Sequence[Field]) -> None:
        """Change a table's schema; columns in both schemas keep their values."""
        check_fields(fields)
        rows = self.warehouse.rows_table(fields)
        if rows != table.rows:
            names = {field["name"] for field in table.fields}
            shared = [field["name"] for field in fields if field["name"] in names]
            self.warehouse.rewrite(table.rows, rows, shared, table.uid)
        table.rows, table.fields = rows, [dict(field) for field in fields]

    def table_json(self, dataset: Dataset, table: Table, partition: str = "") -> dict[str, Any]:
        """Return a table's resource; with a `partition` (``20260105``), its row count is the partition's."""
        partitions = self.warehouse.partitions(table.uid)
        if partition:
            try:
                day_of(partition)
            except ValueError as error:
                raise invalid(f"Invalid partition id: {partition[:40]}") from error
            partitions = {name: value for name, value in partitions.items() if name == partition}
        # Rows in the streaming buffer are not counted yet.
        rows = sum(count for name, (count, _) in partitions.items() if name != UNPARTITIONED)
        modified = max([table.modified.replace(tzinfo=None), *(moment for _, moment in partitions.values())])
        decorated = f"{table.id}${partition}" if partition else table.id
        document = self.item_json(dataset, table) | {
            "kind": "bigquery#table",
            "etag": hashlib.sha256(f"{table.uid}{modified}{rows}{table.fields}".encode()).hexdigest()[:22],
            "id": f"{dataset.project}:{dataset.id}.{decorated}",
            "tableReference": {"projectId": dataset.project, "datasetId": dataset.id, "tableId": decorated},
            "schema": {"fields": table.fields},
            "numRows": str(rows),
            "numBytes": str(rows * ROW_BYTES),
            "numLongTermBytes": "0",
            "lastModifiedTime": millis(modified.replace(tzinfo=table.created.tzinfo)),
            "location": dataset.location,
        }
        buffered = partitions.get(UNPARTITIONED)
        if buffered and table.buffered_at and not partition:
            document["streamingBuffer"] = {
                "estimatedRows": str(buffered[0]),
                "estimatedBytes": str(buffered[0] * ROW_BYTES),
                "oldestEntryTime": millis(table.buffered_at),
            }
        return document

    @staticmethod
    def item_json(dataset: Dataset, table: Table) -> dict[str, Any]:
        """Return a table as an item of tables.list."""
        document: dict[str, Any] = {
            "kind": "bigquery#table",
            "id": f"{dataset.project}:{dataset.id}.{table.id}",
            "tableReference": {"projectId": dataset.project, "datasetId": dataset.id, "tableId": table.id},
            "type": "TABLE",
            "creationTime": millis(table.created),
        }
        if table.partitioned:
            document["timePartitioning"] = {"type": "DAY"}
        if table.partitions_ms:
            document["timePartitioning"]["expirationMs"] = str(table.partitions_ms)
        if table.expires is not None:
            document["expirationTime"] = millis(table.expires)
        if table.description:
            document["description"] = table.description
        return document
