"""The rows of all BigQuery tables in one DuckDB database: all tables with the same schema share one DuckDB table.

This keeps a thousand billing tables as cheap as two and lets one statement read all of them, while every row is real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb

from localcloud.gcp.services.schema import Field, duckdb_type, literal, quoted, to_micros

UNPARTITIONED = "__UNPARTITIONED__"  # the partition id of the streaming buffer
# Hidden columns: the row's partition, its table's uid, and its partition day once it leaves the streaming buffer.
HIDDEN = {"_PARTITIONTIME": "TIMESTAMP", "_table": "INTEGER", "_due": "DATE"}
ROW_BYTES = 900  # approximate logical bytes of a billing row; used only to estimate sizes and charges


@dataclass(frozen=True)
class Arrival:
    """`count` rows added to a partition of the table with this `uid`, the last at `modified`."""

    table: int
    partition: str
    count: int
    modified: datetime


class Warehouse:
    """The rows, and their metadata for `INFORMATION_SCHEMA.PARTITIONS`."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(":memory:")
        self._write = threading.RLock()
        for setting in (
            "SET threads = 2",
            "SET memory_limit = '1GB'",
            f"SET temp_directory = {literal(str(folder / 'duckdb'))}",
            "SET TimeZone = 'UTC'",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
        ):
            self._connection.execute(setting)
        self._connection.execute(
            "CREATE TABLE partitions (_table INTEGER, partition_id VARCHAR, total_rows BIGINT, modified TIMESTAMP,"
            " PRIMARY KEY (_table, partition_id))"
        )
        self._connection.execute(
            "CREATE TABLE names (_table INTEGER PRIMARY KEY, table_catalog VARCHAR, table_schema VARCHAR,"
            " table_name VARCHAR, created TIMESTAMP)"
        )
        self._schemas: dict[str, str] = {}

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a separate read cursor, isolated from concurrent writes."""
        cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self.cursor() as cursor:
            return cursor.execute(sql, list(parameters)).fetchall()

    def rows_table(self, fields: Sequence[Field]) -> str:
        """Return the DuckDB table that holds the rows of this schema, creating it if necessary."""
        columns = {field["name"]: duckdb_type(field) for field in fields}
        key = json.dumps(columns)
        with self._write:
            if key not in self._schemas:
                name = f"rows_{len(self._schemas)}"
                parts = ", ".join(f"{quoted(column)} {kind}" for column, kind in (columns | HIDDEN).items())
                self._connection.execute(f"CREATE TABLE {name} ({parts})")
                self._schemas[key] = name
            return self._schemas[key]

    def name(self, table: int, project: str, dataset: str, name: str, created: datetime) -> None:
        """Register a table's name for the queries that read table names."""
        with self._transaction() as run:
            run.execute("INSERT INTO names VALUES (?, ?, ?, ?, ?)", [table, project, dataset, name, _naive(created)])

    def forget(self, rows: str, table: int) -> None:
        """Delete a table's rows and its name."""
        self.delete(rows, table)
        with self._transaction() as run:
            run.execute("DELETE FROM names WHERE _table = ?", [table])

    def append(
        self,
        rows: str,
        columns: Sequence[str],
        select: str,
        parameters: dict[str, Any],
        arrivals: Sequence[Arrival],
    ) -> None:
        """Insert the rows of `select` (visible and hidden columns); `arrivals` count the rows per partition.

        The rows and the partition metadata change in one transaction.
        """
        names = ", ".join(quoted(name) for name in (*columns, *HIDDEN))
        sent: dict[str, Any] = {
            "tables": [arrival.table for arrival in arrivals],
            "partitions": [arrival.partition for arrival in arrivals],
            "counts": [arrival.count for arrival in arrivals],
            "times": [to_micros(arrival.modified) for arrival in arrivals],
        }
        with self._transaction() as run:
            run.execute(f"INSERT INTO {rows} ({names}) SELECT {names} FROM ({select})", parameters)
            run.execute(
                """
                INSERT INTO partitions
                SELECT a, b, sum(c), make_timestamp(max(d)) FROM (
                    SELECT unnest($tables) AS a, unnest($partitions) AS b, unnest($counts) AS c, unnest($times) AS d
                ) GROUP BY 1, 2
                ON CONFLICT DO UPDATE SET total_rows = partitions.total_rows + excluded.total_rows,
                    modified = greatest(partitions.modified, excluded.modified)
                """,
                sent,
            )

    def flush(self, rows: str, table: int, now: datetime) -> int:
        """Move a table's rows from the streaming buffer to their partitions and return how many there were."""
        with self._transaction() as run:
            found = run.execute(
                "SELECT total_rows FROM partitions WHERE _table = ? AND partition_id = ?", [table, UNPARTITIONED]
            ).fetchone()
            if not found:
                return 0
            run.execute(
                f"""
                INSERT INTO partitions
                SELECT _table, strftime(_due, '%Y%m%d'), count(*), ? FROM {rows}
                WHERE _table = ? AND _PARTITIONTIME IS NULL GROUP BY 1, 2
                ON CONFLICT DO UPDATE SET total_rows = partitions.total_rows + excluded.total_rows,
                    modified = excluded.modified
                """,
                [_naive(now), table],
            )
            run.execute(f"UPDATE {rows} SET _PARTITIONTIME = _due WHERE _table = ? AND _PARTITIONTIME IS NULL", [table])
            run.execute("DELETE FROM partitions WHERE _table = ? AND partition_id = ?", [table, UNPARTITIONED])
        return int(found[0])

    def delete(self, rows: str, table: int, where: str = "true") -> None:
        """Delete rows of one table and update the row counts of its partitions."""
        with self._transaction() as run:
            run.execute(f"DELETE FROM {rows} WHERE _table = {table} AND ({where})")
            self._recount(run, rows, table)

    def rewrite(self, old: str, new: str, columns: Sequence[str], table: int) -> None:
        """Move a table's rows to the DuckDB table of another schema, with the columns that both share."""
        names = ", ".join(quoted(name) for name in (*columns, *HIDDEN))
        with self._transaction() as run:
            run.execute(f"INSERT INTO {new} ({names}) SELECT {names} FROM {old} WHERE _table = {table}")
            run.execute(f"DELETE FROM {old} WHERE _table = {table}")

    def touch(self, table: int, moment: datetime) -> None:
        """Set the last change of a table's partitions to no later than `moment`."""
        with self._transaction() as run:
            run.execute("UPDATE partitions SET modified = least(modified, ?) WHERE _table = ?", [_naive(moment), table])

    def partitions(self, table: int) -> dict[str, tuple[int, datetime]]:
        """Return (rows, last change in UTC without time zone) by partition id."""
        found = self.query("SELECT partition_id, total_rows, modified FROM partitions WHERE _table = ?", [table])
        return {name: (count, modified) for name, count, modified in found}

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._write:
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @staticmethod
    def _recount(run: duckdb.DuckDBPyConnection, rows: str, table: int) -> None:
        before = run.execute("SELECT partition_id, modified FROM partitions WHERE _table = ?", [table]).fetchall()
        modified = dict(before)
        run.execute("DELETE FROM partitions WHERE _table = ?", [table])
        counted = run.execute(
            f"SELECT coalesce(strftime(_PARTITIONTIME, '%Y%m%d'), '{UNPARTITIONED}'), count(*) FROM {rows} "
            f"WHERE _table = {table} GROUP BY 1"
        ).fetchall()
        for name, count in counted:
            run.execute("INSERT INTO partitions VALUES (?, ?, ?, ?)", [table, name, count, modified[name]])


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def day_of(partition: str) -> date:
    """Return the day that a partition id such as ``20260105`` names. Raises ValueError for anything else."""
    return datetime.strptime(partition, "%Y%m%d").replace(tzinfo=None).date()  # noqa: DTZ007 - a day has no zone
