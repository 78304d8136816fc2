"""Queries of the tables that Google exports to: their partitions, and the newest rows of each."""

from __future__ import annotations

import sys
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

TABLES_A_QUERY = 500  # INFORMATION_SCHEMA.PARTITIONS reads at most 1,000 tables, and each query reads it twice
TABLES_A_WATERMARK = 100  # tables in one watermark query: each adds a branch to its plan
ANSWER_MS = 9000  # how long BigQuery works on a query before it responds that the job is not complete
QUERY_TIMEOUT_S = 120.0  # seconds after which a run gives up on an incomplete query
QUOTA = "bigquery-query"
WHAT = "a query of BigQuery"

Row = Sequence[str | None]


class Partition(msgspec.Struct, frozen=True, gc=False):
    """One day's partition in BigQuery's catalog; `modified`, when it was last written, in microseconds since 1970."""

    rows: int
    modified: int
    bytes: int = 0


class Month(msgspec.Struct, frozen=True, gc=False):
    """The partitions of one month together; `first` and `last`, when one was last written, as in `Partition`."""

    partitions: int
    bytes: int
    first: int
    last: int

    def with_day(self, day: Partition) -> Month:
        """Return the month with one more partition."""
        first, last = min(self.first or day.modified, day.modified), max(self.last, day.modified)
        return Month(self.partitions + 1, self.bytes + day.bytes, first, last)


class TableSeen(msgspec.Struct):
    """A table that exists.

    `days` are its partitions by day (``YYYY-MM-DD``) from the requested day on; `older_months` sums up the earlier ones
    by month (``YYYY-MM``).
    """

    days: dict[str, Partition] = {}
    older_months: dict[str, Month] = {}

    @property
    def older(self) -> int:
        """Return the number of partitions before the requested day."""
        return sum(one.partitions for one in self.older_months.values())

    @property
    def older_modified(self) -> int:
        """Return when one of the older partitions was last written, 0 without any."""
        return max((one.last for one in self.older_months.values()), default=0)

    @property
    def modified(self) -> int:
        """Return when any partition was last written, 0 for a table without rows."""
        return max((one.modified for one in self.days.values()), default=self.older_modified)

    def months(self) -> dict[str, Month]:
        """Return the partitions of each month, of days with rows and older ones; months without any are left out."""
        found = dict(self.older_months)
        for day, partition in self.days.items():
            if partition.rows:
                found[day[:7]] = found.get(day[:7], NO_MONTH).with_day(partition)
        return found


NO_MONTH = Month(0, 0, 0, 0)


Tables = dict[str, TableSeen]


class BillingTables:
    """Queries partitions and watermarks from BigQuery, in as few queries as it allows."""

    def __init__(self, settings: GcpSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def tables(self, names: Collection[str], location: str, since: str, dataset: str = "") -> Tables:
        """Return the tables that exist, with their partitions from the day `since` on ("": all).

        Rows in the streaming buffer do not count, nor do older partitions without rows. One query for each five hundred
        tables. Raises CloudError.

        It requires bigquery.tables.get and list and, for the view TABLES, bigquery.routines.get and list ("Required
        permissions" of both views, BigQuery documentation).
        """
        schema = f"`{self._settings.project}.{dataset or self._settings.dataset}`.INFORMATION_SCHEMA"
        first = since.replace("-", "") or "0"
        found: Tables = {}
        for part in _slices(sorted(names), TABLES_A_QUERY):
            where = f"table_name IN ({', '.join(repr(name) for name in part)})"
            rows = self.query(
                "SELECT table_name, '' AS period, 0 AS total, 0 AS size, 0 AS first, 0 AS last "  # noqa: S608 - names are ours
                f"FROM {schema}.TABLES WHERE {where}\nUNION ALL\n"
                "SELECT table_name, partition_id, total_rows, total_logical_bytes, 0, UNIX_MICROS(last_modified_time) "
                f"FROM {schema}.PARTITIONS WHERE {where} AND partition_id >= '{first}'\nUNION ALL\n"
                "SELECT table_name, SUBSTR(partition_id, 1, 6), COUNT(*), SUM(total_logical_bytes), "
                "MIN(UNIX_MICROS(last_modified_time)), MAX(UNIX_MICROS(last_modified_time)) "
                f"FROM {schema}.PARTITIONS WHERE {where} AND partition_id < '{first}' AND total_rows > 0 "
                "GROUP BY table_name, SUBSTR(partition_id, 1, 6)",
                location,
            )
            for table, partition, *numbers in rows:
                if table is None or partition is None:
                    continue
                seen = found.get(table)
                if seen is None:
                    seen = found[table] = TableSeen(days={}, older_months={})
                count, size, earliest, latest = [require_int(one or 0, WHAT, 0, LAST_MICROS) for one in numbers]
                period = _period(partition)
                if len(period) == len("YYYY-MM-DD"):
                    seen.days[period] = Partition(count, latest, size)
                elif period:
                    seen.older_months[period] = Month(count, size, earliest, latest)
        return found

    def watermarks(
        self, wanted: Mapping[str, Collection[str]], location: str
    ) -> tuple[dict[tuple[str, str], Watermark], dict[str, CloudError]]:
        """Return the watermarks of the wanted days by (table, day), and the errors of tables that cannot be queried.

        A day without rows outside the streaming buffer is left out. Raises CloudError if no table can be queried.
        """
        found: dict[tuple[str, str], Watermark] = {}
        unexpected: dict[str, CloudError] = {}
        pending = [list(names) for names in _slices(sorted(wanted), TABLES_A_WATERMARK)]
        while pending:
            names = pending.pop()
            try:
                rows = self.query(self._watermark_query({name: wanted[name] for name in names}), location)
            except (NotFound, Permanent) as error:
                if isinstance(error, Permanent) and error.code != INVALID_QUERY:
                    raise
                # One table with other columns fails the query for all: split it until that table is alone.
                if len(names) == 1:
                    unexpected[names[0]] = error
                else:
                    middle = len(names) // 2
                    pending += [names[:middle], names[middle:]]
                continue
            for table, day, exported_at, count in rows:
                if table and day and exported_at and count:
                    found[table, day] = Watermark(
                        require_int(count, WHAT), require_int(exported_at, WHAT, 0, LAST_MICROS)
                    )
        return found, unexpected

    def by_account(self, table: str, location: str, since: str) -> dict[str, int]:
        """Return the newest export_time (microseconds) by account, of a table of all accounts. Raises CloudError."""
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
        """Return all rows of a query, from every page, each value as the text that BigQuery returns. Raises CloudError.

        No call waits longer than the clients' timeout; a query that is not complete is polled.
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
            elif self._run.clock.monotonic() - began > QUERY_TIMEOUT_S:
                raise Transient(
                    "query-slow",
                    f"a query was not complete after {QUERY_TIMEOUT_S:.0f} s",
                    "Nothing at first: the next run queries again. If it persists, check whether other queries use up "
                    "the project's slots (BigQuery, Monitoring).",
                    within_run=False,
                )
            else:
                self._pause(1.0)
            if not self._run.deadline.allows(0):
                raise OutOfTime("a query was not complete by this run's deadline")
            answer = self._run.calls(
                "bigquery", self._clients.get, "bigquery", f"{path}/{reference.get('jobId')}", parameters
            )

    def _pause(self, seconds: float) -> None:
        self._run.clock.wait_until(self._run.clock.monotonic() + seconds)


def _raise_for(answer: Mapping[str, Any]) -> None:
    """Raise the error of a query that failed although the HTTP status is 200."""
    errors = answer.get("errors") or []
    if errors and "rows" not in answer and "schema" not in answer:
        raise translate_reason([str(errors[0].get("reason", ""))], str(errors[0].get("message", "")))


def _period(partition: str) -> str:
    """Return the day or month of a partition id as ``YYYY-MM-DD`` or ``YYYY-MM``.

    Any other id gives "", such as ``__UNPARTITIONED__``, which is the streaming buffer. All tables share the texts.
    """
    if len(partition) not in (6, 8) or not partition.isdigit():
        return ""
    return sys.intern(f"{partition[:4]}-{partition[4:6]}-{partition[6:]}".rstrip("-"))


def _slices(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
