"""The tables that Google exports to: their partitions, and how far each has come."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.refusals import INVALID_QUERY, translate_reason
from gcp_function.resources.copy_manifest import Watermark
from gcp_function.settings import GcpSettings
from shared.errors import CloudError, NotFound, OutOfTime, Permanent, Transient
from shared.parsing import LAST_MICROS, require_int
from shared.runtime.context import RunContext

TABLES_A_QUERY = 500  # INFORMATION_SCHEMA.PARTITIONS reads at most 1,000 at once, and each query asks it twice
TABLES_A_WATERMARK = 100  # tables of one watermark query: each adds a branch to its plan
ANSWER_MS = 9000  # how long BigQuery may think before it answers that it is not done yet
PATIENCE_S = 120.0  # seconds until a query that is not done is given up for this run
QUOTA = "bigquery-query"
WHAT = "a query of BigQuery"

Row = Sequence[str | None]


class Partition(msgspec.Struct, frozen=True, gc=False):
    """One partition as BigQuery's own catalog shows it; `modified` in microseconds since 1970."""

    rows: int
    modified: int


class TableSeen(msgspec.Struct):
    """A table that exists: its partitions by day (``YYYY-MM-DD``), and how many lie before the days asked for.

    `older_modified` is when one of those was last written (microseconds), 0 without any.
    """

    days: dict[str, Partition] = {}
    older: int = 0
    older_modified: int = 0

    @property
    def modified(self) -> int:
        """Return when any partition was last written, 0 for a table without rows."""
        return max((one.modified for one in self.days.values()), default=self.older_modified)


Tables = dict[str, TableSeen]


class BillingTables:
    """Asks BigQuery for partitions and watermarks, in as few queries as it allows."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def tables(self, names: Collection[str], location: str, since: str, dataset: str = "") -> Tables:
        """Return those of the tables that exist, with their partitions from the day `since` on ("": all).

        Rows in the streaming buffer never count. One query for each five hundred tables. Raises CloudError.

        It needs bigquery.tables.get and list and, for the view TABLES, bigquery.routines.get and list ("Required
        permissions" of both views, BigQuery documentation).
        """
        schema = f"`{self._settings.project}.{dataset or self._settings.dataset}`.INFORMATION_SCHEMA"
        first = since.replace("-", "") or "0"
        found: Tables = {}
        for part in _slices(sorted(names), TABLES_A_QUERY):
            where = f"table_name IN ({', '.join(repr(name) for name in part)})"
            rows = self.query(
                "SELECT table_name, '' AS day, 0 AS total, 0 AS modified "  # noqa: S608 - names are ours
                f"FROM {schema}.TABLES WHERE {where}\nUNION ALL\n"
                "SELECT table_name, partition_id, total_rows, UNIX_MICROS(last_modified_time) "
                f"FROM {schema}.PARTITIONS WHERE {where} AND partition_id >= '{first}'\nUNION ALL\n"
                "SELECT table_name, 'older', COUNT(*), MAX(UNIX_MICROS(last_modified_time)) "
                f"FROM {schema}.PARTITIONS WHERE {where} AND partition_id < '{first}' GROUP BY table_name",
                location,
            )
            for table, partition, count, modified in rows:
                if table is None or partition is None:
                    continue
                seen = found.get(table)
                if seen is None:
                    seen = found[table] = TableSeen(days={})
                if partition == "older":
                    seen.older, seen.older_modified = (
                        require_int(count or 0, WHAT),
                        require_int(modified or 0, WHAT, 0, LAST_MICROS),
                    )
                elif day := _day(partition):
                    seen.days[day] = Partition(
                        require_int(count or 0, WHAT), require_int(modified or 0, WHAT, 0, LAST_MICROS)
                    )
        return found

    def watermarks(
        self, wanted: Mapping[str, Collection[str]], location: str
    ) -> tuple[dict[tuple[str, str], Watermark], dict[str, CloudError]]:
        """Return the watermarks of the wanted days of each table, and what is wrong with tables that have none to show.

        A day without rows outside the streaming buffer is left out. Raises CloudError where no table can be asked.
        """
        found: dict[tuple[str, str], Watermark] = {}
        odd: dict[str, CloudError] = {}
        pending = [list(names) for names in _slices(sorted(wanted), TABLES_A_WATERMARK)]
        while pending:
            names = pending.pop()
            try:
                rows = self.query(self._watermark_query({name: wanted[name] for name in names}), location)
            except (NotFound, Permanent) as error:
                if isinstance(error, Permanent) and error.code != INVALID_QUERY:
                    raise
                # One table of another shape spoils the query of all: halved until it stands alone.
                if len(names) == 1:
                    odd[names[0]] = error
                else:
                    middle = len(names) // 2
                    pending += [names[:middle], names[middle:]]
                continue
            for table, day, exported_at, count in rows:
                if table and day and exported_at and count:
                    found[table, day] = Watermark(
                        require_int(count, WHAT), require_int(exported_at, WHAT, 0, LAST_MICROS)
                    )
        return found, odd

    def by_account(self, table: str, location: str, since: str) -> dict[str, int]:
        """Return each account's newest export_time (microseconds) in a table that holds them all. Raises CloudError."""
        rows = self.query(
            "SELECT billing_account_id, UNIX_MICROS(MAX(export_time)) "  # noqa: S608 - the name is ours
            f"FROM `{self._settings.project}.{self._settings.dataset}.{table}` "
            f"WHERE _PARTITIONTIME >= TIMESTAMP '{since}' GROUP BY billing_account_id",
            location,
        )
        return {
            str(account): require_int(newest, WHAT, 0, LAST_MICROS) for account, newest in rows if account and newest
        }

    def _watermark_query(self, wanted: Mapping[str, Collection[str]]) -> str:
        parts = []
        for table, days in wanted.items():
            moments = ", ".join(f"TIMESTAMP '{day}'" for day in sorted(days))
            parts.append(
                f"SELECT '{table}' AS name, CAST(DATE(_PARTITIONTIME) AS STRING) AS day, "  # noqa: S608 - names are ours
                "UNIX_MICROS(MAX(export_time)) AS exported_at, COUNT(*) AS total "
                f"FROM `{self._settings.project}.{self._settings.dataset}.{table}` "
                f"WHERE _PARTITIONTIME IN ({moments}) GROUP BY day"
            )
        return "\nUNION ALL\n".join(parts)

    def query(self, sql: str, location: str) -> list[Row]:
        """Return all rows of a query, every page, each value as the text BigQuery answers. Raises CloudError.

        No single call waits longer than the clients' timeout; a query that is not done is asked for again.
        """
        path = f"bigquery/v2/projects/{self._settings.project}/queries"
        body = {"query": sql, "useLegacySql": False, "location": location, "timeoutMs": ANSWER_MS}
        answer = self._run.calls(QUOTA, self._clients.post, "bigquery", path, body)
        began = self._run.clock.monotonic()
        rows: list[Row] = []
        while True:
            reference = answer.get("jobReference", {})
            parameters: dict[str, Any] = {"location": reference.get("location", location), "timeoutMs": ANSWER_MS}
            if answer.get("jobComplete"):
                _raise_for(answer)
                rows += [[cell.get("v") for cell in row["f"]] for row in answer.get("rows", [])]
                if not answer.get("pageToken"):
                    return rows
                parameters["pageToken"] = answer["pageToken"]
            elif self._run.clock.monotonic() - began > PATIENCE_S:
                raise Transient(
                    "query-slow",
                    f"a query is not done after {PATIENCE_S:.0f} s",
                    "Nothing at first: the next run asks again. If it lasts, see whether other queries use up the "
                    "project's slots (BigQuery, Monitoring).",
                    within_run=False,
                )
            else:
                self._pause(1.0)
            if not self._run.deadline.allows(0):
                raise OutOfTime("a query was not done by this run's deadline")
            answer = self._run.calls(
                "bigquery", self._clients.get, "bigquery", f"{path}/{reference.get('jobId')}", parameters
            )

    def _pause(self, seconds: float) -> None:
        self._run.clock.wait_until(self._run.clock.monotonic() + seconds)


def _raise_for(answer: Mapping[str, Any]) -> None:
    """Raise what ended a query although its answer says 200."""
    errors = answer.get("errors") or []
    if errors and "rows" not in answer and "schema" not in answer:
        raise translate_reason([str(errors[0].get("reason", ""))], str(errors[0].get("message", "")))


def _day(partition: str | None) -> str:
    """Return ``YYYY-MM-DD`` of a day's partition id, "" for what is none (``__UNPARTITIONED__`` is the buffer)."""
    if partition is None or len(partition) != 8 or not partition.isdigit():
        return ""
    return f"{partition[:4]}-{partition[4:6]}-{partition[6:]}"


def _slices(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
