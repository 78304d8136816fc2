"""What this run knows about the billing tables, read once for the copies and the exports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from gcp_function.errors import observed
from gcp_function.resources.billing_tables import BillingTables, Tables
from gcp_function.resources.copy_manifest import Watermark
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.project_datasets import ProjectDatasets
from gcp_function.settings import GcpSettings
from gcp_function.targets import COPY, EXPORT, EXPORTS, HISTORY, copy_parts, window
from shared.errors import CloudError
from shared.model import Observation, Target
from shared.runtime.context import RunContext

# The kinds whose freshness is not taken from the watermark of a partition.
WITHOUT_WATERMARK = ("pricing", "focus")

TablesByKind = Mapping[str, "Tables | Observation"]


class TableSurvey:
    """Reads the tables and watermarks of all targets in as few queries as BigQuery allows.

    `fresh` is the newest export_time (microseconds) by (account, kind) that copies and watermarks show, and
    `fresh_months` the same by month. `watermarks` are the queried ones, by (table, day). `unexpected` holds the error
    for each table whose columns are not the published ones. `hidden` describes each table for which the catalog counts
    more rows than a query returns: whether the query returns none at all, and the numbers as a sentence.
    """

    def __init__(
        self,
        settings: GcpSettings,
        run: RunContext,
        dataset: Dataset,
        billing_tables: BillingTables,
        project_datasets: ProjectDatasets,
    ) -> None:
        self._settings = settings
        self._run = run
        self._dataset = dataset
        self._billing_tables = billing_tables
        self._project_datasets = project_datasets
        self._expected: set[tuple[str, str]] = set()  # (account, kind) of all targets of the run
        self._read: set[tuple[str, str]] = set()
        self._tables: dict[str, Tables | Observation] = {}
        self._exports: list[Target] = []  # those whose watermarks still have to be queried
        self._rows: dict[tuple[str, str], int] = {}
        self.fresh: dict[tuple[str, str], int] = {}
        self.fresh_months: dict[tuple[str, str], dict[str, int]] = {}
        self.watermarks: dict[tuple[str, str], Watermark] = {}
        self.unexpected: dict[str, CloudError] = {}
        self.hidden: dict[str, tuple[bool, str]] = {}

    def expect(self, targets: Iterable[Target]) -> None:
        """Record the targets of this run, so that the first resource that needs tables reads those of all targets.

        Makes no call.
        """
        for target in targets:
            if target.kind in (COPY, HISTORY, EXPORT):
                self._expected.add(_account_and_kind(target))
            if target.kind == EXPORT:
                self._exports.append(target)

    def tables(self, targets: Sequence[Target]) -> TablesByKind:
        """Return the tables of each kind by name, or why they could not be read; those of `targets` at least.

        Tables that do not exist are left out. All tables of the dataset are read together, and none if there is no
        dataset; FOCUS data are in a linked dataset for each account.
        """
        wanted = (self._expected | {_account_and_kind(target) for target in targets}) - self._read
        self._read |= wanted
        accounts: dict[str, set[str]] = defaultdict(set)
        for account, kind in wanted:
            accounts[kind].add(account)
        for kind, read in self._read_tables(accounts).items():
            known = self._tables.get(kind)
            self._tables[kind] = {**known, **read} if isinstance(known, dict) and isinstance(read, dict) else read
        return self._tables

    def _read_tables(self, accounts: Mapping[str, Collection[str]]) -> dict[str, Tables | Observation]:
        since = window(self._settings, self._run.clock.now().date())[0]
        names = {
            kind: {EXPORTS[kind].table_of(account) for account in holders}
            for kind, holders in accounts.items()
            if kind != "focus"
        }
        found: dict[str, Tables | Observation] = {}
        try:
            wanted, location = set().union(*names.values()), self._dataset.location
            together = self._billing_tables.tables(wanted, location, since) if wanted and location is not None else {}
            found |= {kind: {name: together[name] for name in mine if name in together} for kind, mine in names.items()}
        except CloudError as error:
            found |= dict.fromkeys(names, observed(error, f"the tables of dataset {self._settings.dataset}"))
        if "focus" in accounts:
            try:
                found["focus"] = self._focus_tables(accounts["focus"], since)
            except CloudError as error:
                found["focus"] = observed(error, "the tables of the focus export")
        return found

    def _focus_tables(self, accounts: Collection[str], since: str) -> Tables:
        """Read the tables of the linked datasets: one query for each."""
        found: Tables = {}
        for account, (dataset, listed) in sorted(self._project_datasets.linked().items()):
            if account in accounts:
                location = self._project_datasets.location_of(dataset, listed)
                table = EXPORTS["focus"].table_of(account)
                found |= self._billing_tables.tables({table}, location, since, dataset)
        return found

    def ask(self, days: Mapping[str, Collection[str]]) -> Observation | None:
        """Query the watermarks of partitions, given as days by table; return the error if that failed.

        The partitions that exports need are added to the first query.
        """
        wanted: dict[str, Collection[str]] = {**self._partitions_of_exports(), **days}
        location = self._dataset.location
        if not wanted or location is None:
            return None
        try:
            found, unexpected = self._billing_tables.watermarks(wanted, location)
        except CloudError as error:
            return observed(error, "the watermarks of partitions")
        self.watermarks |= found
        self.unexpected |= unexpected
        for table, asked in wanted.items():
            if table not in unexpected:
                self._note_hidden(table, asked, found)
        for (table, day), watermark in found.items():
            pair = account_and_kind_of(table)
            if pair is not None:
                self.note_fresh(*pair, day, watermark)
        return None

    def _partitions_of_exports(self) -> dict[str, set[str]]:
        """Return the partitions whose watermarks show how fresh the exports without copies are, by table.

        Only tables that were written since the last run are queried, for the partition written last, which holds the
        newest rows.
        """
        wanted: dict[str, set[str]] = {}
        for target in self._exports:
            kind = target.key.name
            tables = self._tables.get(kind)
            if kind in (*self._settings.copy, *WITHOUT_WATERMARK) or not isinstance(tables, dict):
                continue
            name = EXPORTS[kind].table_of(target.key.scope)
            table = tables.get(name)
            known = target.state.facts.get("modified") if target.state else None
            if table and table.days and table.modified != known:
                day = max(table.days, key=lambda one: table.days[one].modified)
                wanted[name] = {day}
                self.count_rows(name, day, table.days[day].rows)
        self._exports = []
        return wanted

    def count_rows(self, table: str, day: str, rows: int) -> None:
        """Record how many rows the catalog counts in a partition, for comparison with a query."""
        self._rows[table, day] = rows

    def note_fresh(self, account: str, kind: str, day: str, watermark: Watermark) -> None:
        """Record the newest rows of an export, by the watermark of the partition of `day` or of its copy."""
        pair = (account, kind)
        self.fresh[pair] = max(self.fresh.get(pair, 0), watermark.exported_at)
        months = self.fresh_months.setdefault(pair, {})
        months[day[:7]] = max(months.get(day[:7], 0), watermark.exported_at)

    def _note_hidden(self, table: str, days: Collection[str], found: Mapping[tuple[str, str], Watermark]) -> None:
        counted = {day: rows for day in days if (rows := self._rows.get((table, day), 0))}
        returned = {day: found[table, day].rows if (table, day) in found else 0 for day in counted}
        fewer = [day for day, rows in counted.items() if returned[day] < rows]
        if fewer:
            day = max(fewer)
            why = f"a query returns {returned[day]} of the {counted[day]} rows of {day}"
            self.hidden[table] = (not any(returned.values()), why)


def account_and_kind_of(table: str) -> tuple[str, str] | None:
    """Return the account and kind of a table that holds one account's data, None for any other table."""
    for kind, export in EXPORTS.items():
        prefix = export.table_of("")
        if table.startswith(prefix) and not export.shared:
            return table.removeprefix(prefix).replace("_", "-"), kind
    return None


def _account_and_kind(target: Target) -> tuple[str, str]:
    kind = copy_parts(target.key)[0] if target.kind == COPY else target.key.name
    return target.key.scope, kind
