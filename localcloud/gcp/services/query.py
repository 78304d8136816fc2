"""Query jobs: DuckDB runs GoogleSQL on the actual rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
from sqlglot import exp

from localcloud.gcp.context import Context
from localcloud.gcp.errors import job_error, unimplemented
from localcloud.gcp.services.catalog import Dataset, Table
from localcloud.gcp.services.schema import fields_of, literal
from localcloud.gcp.services.sql import Relation, Source, Statement, constants, parse, table_relation, wildcard_relation
from localcloud.gcp.services.warehouse import ROW_BYTES
from localcloud.gcp.state import World

MAX_TABLES = 1000  # maximum tables read by one query with a wildcard or of INFORMATION_SCHEMA.PARTITIONS
MINIMUM_BILLED = 10 * 1024 * 1024  # bytes per table that a query references
_PARTITION_COLUMNS = (
    "t.table_catalog, t.table_schema, t.table_name, p.partition_id, p.total_rows, "
    f"p.total_rows * {ROW_BYTES} AS total_logical_bytes, p.total_rows * {ROW_BYTES // 8} AS total_billable_bytes, "
    "p.modified AS last_modified_time, 'ACTIVE' AS storage_tier"
)


# difference: GCP-3
class Query:
    """One query, from its configuration to its result."""

    def __init__(self, context: Context, project: str, configuration: Mapping[str, Any], location: str) -> None:
        self._context = context
        self._world: World = context.world
        self._configuration = configuration
        self._project = project
        self._asked = location
        self._statement: Statement | None = None
        self._read: dict[str, int] = {}

    def plan(self) -> str:
        """Parse the query and return its location. Raises GoogleError for an invalid query."""
        settings = self._configuration
        if settings.get("useLegacySql", True) not in (False, "false"):
            raise unimplemented("Legacy SQL")
        if target := settings.get("destinationTable"):
            name = f"{target.get('projectId')}:{target.get('datasetId')}"
            self._context.need(
                "bigquery.tables.create",
                f"projects/{target.get('projectId')}/datasets/{target.get('datasetId')}",
                f"Access Denied: Dataset {name}: Permission bigquery.tables.create denied on dataset {name} (or it may "
                "not exist).",
            )
        if settings.get("destinationTable") or settings.get("tableDefinitions"):
            raise unimplemented("A query that writes a table, or reads outside of BigQuery,")
        default = settings.get("defaultDataset") or {}
        self._statement = parse(
            str(settings.get("query", "")),
            _parameters(settings),
            default.get("projectId") or self._project,
            default.get("datasetId") or "",
        )
        if self._asked:
            return self._asked
        for _, source in self._statement.sources:
            dataset = self._world.catalog.datasets.get((source.project, source.dataset))
            if dataset:
                return dataset.location
        return "US"

    def run(self, location: str) -> tuple[list[dict[str, Any]], list[tuple[Any, ...]]]:
        """Return (schema, rows). Raises GoogleError with the reason that the job fails with."""
        if self._statement is None:
            raise RuntimeError("the query was not planned")
        with self._world.lock:
            sql = self._statement.write(
                lambda source, select: self._relation(source, select, location), self._world.clock.now()
            )
        ceiling = int(self._configuration.get("maximumBytesBilled") or 0)
        if ceiling and self.billed > ceiling:
            raise job_error(
                "bytesBilledLimitExceeded",
                f"Query exceeded limit for bytes billed: {ceiling}. {self.billed} or higher required.",
            )
        if self._configuration.get("dryRun"):
            sql = f"SELECT * FROM ({sql}) LIMIT 0"
        try:
            with self._world.warehouse.cursor() as cursor:
                cursor.execute(sql)
                return fields_of(cursor.description or ()), cursor.fetchall()
        except duckdb.Error as error:
            raise job_error("invalidQuery", _first_line(error)) from error

    @property
    def processed(self) -> int:
        """The bytes of all tables read, including partitions that a filter excludes."""
        return sum(self._read.values())

    @property
    def billed(self) -> int:
        return sum(max(size, MINIMUM_BILLED) for size in self._read.values())

    def _relation(self, source: Source, select: exp.Expr, location: str) -> Relation:
        dataset = self._world.catalog.datasets.get((source.project, source.dataset))
        if dataset is None or dataset.location.upper() != location.upper():
            raise job_error(
                "notFound", f"Not found: Dataset {source.project}:{source.dataset} was not found in location {location}"
            )
        if source.view:
            return self._view(dataset, source, select)
        tables = self._tables(dataset, source, location)
        resource = f"projects/{dataset.project}/datasets/{dataset.id}"
        for table in tables:
            self._context.need(
                "bigquery.tables.getData",
                f"{resource}/tables/{table.id}",
                f"Access Denied: Table {dataset.project}:{dataset.id}.{table.id}: User does not have permission to "
                f"query table {dataset.project}:{dataset.id}.{table.id}, or perhaps it does not exist.",
            )
        for table in tables:
            rows = sum(count for count, _ in self._world.warehouse.partitions(table.uid).values())
            self._read[f"{resource}/{table.id}"] = rows * ROW_BYTES
        hidden = [table.uid for table in tables if not table.shows_all(self._context.identity)]
        if not source.table.endswith("*"):
            table = tables[0]
            relation = table_relation(table.rows, [field["name"] for field in table.fields], table.uid)
            return Relation(f"{relation.sql} AND false", relation.pseudo) if hidden else relation
        if hidden:
            raise unimplemented("A wildcard over a table with row access policies")
        shapes = {(table.rows, tuple(field["name"] for field in table.fields)) for table in tables}
        return wildcard_relation(sorted(shapes), dataset.project, dataset.id, source.table[:-1])

    def _tables(self, dataset: Dataset, source: Source, location: str) -> list[Table]:
        name = f"{dataset.project}:{dataset.id}.{source.table}"
        if not source.table.endswith("*"):
            if source.table not in dataset.tables:
                raise job_error("notFound", f"Not found: Table {name} was not found in location {location}")
            return [dataset.tables[source.table]]
        found = [table for key, table in sorted(dataset.tables.items()) if key.startswith(source.table[:-1])]
        if not found:
            raise job_error("invalid", f"{name} does not match any table.")
        return found

    def _view(self, dataset: Dataset, source: Source, select: exp.Expr) -> Relation:
        if source.view not in ("PARTITIONS", "TABLES"):
            raise unimplemented(f"INFORMATION_SCHEMA.{source.view}")
        resource = f"projects/{dataset.project}/datasets/{dataset.id}"
        needed = ["bigquery.tables.list", "bigquery.tables.get"]
        if source.view == "TABLES":
            # Source: "TABLES view", BigQuery's documentation, which also requires permissions on routines.
            needed += ["bigquery.routines.get", "bigquery.routines.list"]
        for permission in needed:
            self._context.need(
                permission,
                resource,
                f"Access Denied: Table {dataset.project}:{dataset.id}.INFORMATION_SCHEMA.{source.view}: User does not "
                f"have permission to query table {dataset.project}:{dataset.id}.INFORMATION_SCHEMA.{source.view}, or "
                "perhaps it does not exist.",
            )
        self._read[f"{resource}/{source.view}"] = 0
        listed = (
            f"names AS t WHERE t.table_catalog = {literal(dataset.project)} AND t.table_schema = {literal(dataset.id)}"
        )
        if source.view == "TABLES":
            return Relation(
                "SELECT t.table_catalog, t.table_schema, t.table_name, 'BASE TABLE' AS table_type, "
                f"t.created AS creation_time FROM {listed}",
                (),
            )
        self._check_breadth(dataset, select)
        return Relation(
            f"SELECT {_PARTITION_COLUMNS} FROM partitions AS p, {listed} AND p._table = t._table",
            (),
        )

    def _check_breadth(self, dataset: Dataset, select: exp.Expr) -> None:
        """Raise GoogleError if too many tables would be read; only filters on the table name reduce the number."""
        if len(dataset.tables) <= MAX_TABLES:
            return
        where = select.args.get("where")
        terms = (
            list(where.this.flatten()) if where and isinstance(where.this, exp.And) else [where.this] if where else []
        )
        usable = []
        for term in terms:
            plain = term.copy()
            columns = list(plain.find_all(exp.Column))
            if columns and all(column.name.lower() == "table_name" for column in columns):
                for column in columns:
                    column.set("table", None)
                usable.append(plain.sql(dialect="duckdb"))
        values = ", ".join(f"({literal(name)})" for name in dataset.tables)
        condition = " AND ".join(f"({term})" for term in usable) or "true"
        counted = self._world.warehouse.query(
            f"SELECT count(*) FROM (VALUES {values}) AS t(table_name) WHERE {condition}"
        )
        if counted[0][0] > MAX_TABLES:
            raise job_error(
                "invalidQuery",
                "INFORMATION_SCHEMA.PARTITIONS query attempted to read too many tables. Please add more restrictive "
                "filters.",
            )


def _parameters(settings: Mapping[str, Any]) -> dict[str, str] | list[str]:
    given = settings.get("queryParameters") or []
    literals = [constants(item.get("parameterValue") or {}, item.get("parameterType") or {}) for item in given]
    if str(settings.get("parameterMode", "")).upper() == "POSITIONAL":
        return literals
    return {item.get("name", ""): text for item, text in zip(given, literals, strict=True)}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300]
