"""Cloud Billing's export to BigQuery: the console step, tables that appear later, rows that arrive late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from localcloud.gcp.services.billing import Billing
from localcloud.gcp.services.billing_rows import Batch, select
from localcloud.gcp.services.billing_schema import KINDS, SCHEMAS, table_name
from localcloud.gcp.services.catalog import Catalog, Dataset, Table, default_access
from localcloud.gcp.services.projects import Projects, unpaid
from localcloud.gcp.services.warehouse import UNPARTITIONED, Arrival
from shared.runtime.clock import Clock

PRINCIPAL = "billing-export-bigquery@system.gserviceaccount.com"
# Prices have a writer of their own ("Set up Cloud Billing data export to BigQuery", About dataset permissions).
PRICING_PRINCIPAL = "cloud-account-pricing@cloud-account-pricing.iam.gserviceaccount.com"
# The regions that Cloud Billing exports to, beside the US and EU multi-regions (same page, Limitations).
REGIONS = frozenset(
    [
        *("northamerica-northeast1", "southamerica-east1", "us-central1", "us-east1", "us-east4"),
        *("us-west1", "us-west2", "us-west3", "us-west4"),
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3", "asia-south1"),
        *("asia-southeast1", "asia-southeast2", "australia-southeast1"),
        *("europe-central2", "europe-north1", "europe-west1", "europe-west2", "europe-west3", "europe-west4"),
        *("europe-west6", "me-central1", "me-central2", "me-west1"),
    ]
)
_AT_ONCE = 20_000  # rows that are made by one statement, to keep memory small
_LINKED_PUBLISHER = "billing-export.google"


@dataclass
class Export:
    """One export that a person has enabled: an account's data of one kind into one dataset.

    `sequence` numbers its rows; `last` is the newest `export_time`; `paused`: Google delivers no more.
    """

    account: str
    kind: str
    project: str
    dataset: str
    table_due: datetime
    sequence: int = 0
    last: datetime | None = None
    paused: bool = False

    @property
    def table(self) -> str:
        return table_name(self.kind, self.account)

    @property
    def principal(self) -> str:
        """The service account that Google writes as."""
        return PRICING_PRINCIPAL if self.kind == "pricing" else PRINCIPAL


class Exports:
    """All enabled exports, and the rows they deliver. The caller holds the world's lock."""

    def __init__(
        self,
        clock: Clock,
        billing: Billing,
        projects: Projects,
        catalog: Catalog,
        *,
        seed: int = 0,
        table_delay_s: float = 0,
        buffer_s: float = 0,
    ) -> None:
        self._clock, self._billing, self._projects, self._catalog = clock, billing, projects, catalog
        self._warehouse = catalog.warehouse
        self._seed, self._table_delay_s, self._buffer_s = seed, table_delay_s, buffer_s
        self.enabled: dict[tuple[str, str], Export] = {}
        self._pending: list[Export] = []
        self._buffered: list[Table] = []
        # What was switched off: when it is switched on again, its rows go on where they ended.
        self._ended: dict[tuple[str, str], Export] = {}

    def enable(self, account: str, kind: str, dataset: Dataset) -> Export:
        """Take the console step: Google becomes an owner in the dataset's access entries; the table comes later.

        Raises ValueError for an unknown kind or account, one that is enabled already, and a dataset in a region that
        Cloud Billing does not export to.
        """
        if kind not in KINDS or account not in self._billing.accounts:
            raise ValueError(f"there is no {kind} export of {account}; kinds are {', '.join(KINDS)}")
        if (account, kind) in self.enabled:
            raise ValueError(f"the {kind} export of {account} is enabled already")
        if dataset.location not in ("US", "EU") and dataset.location not in REGIONS:
            raise ValueError(f"Invalid dataset region: {dataset.location}")
        now = self._clock.now()
        if kind == "focus":
            dataset = self._linked(account, dataset, now)
        entry = {"role": "OWNER", "userByEmail": PRICING_PRINCIPAL if kind == "pricing" else PRINCIPAL}
        if entry not in dataset.access:
            dataset.access = [*dataset.access, entry]
            dataset.modified = now
        due = now + timedelta(seconds=self._table_delay_s)
        export = Export(account, kind, dataset.project, dataset.id, due)
        if before := self._ended.pop((account, kind), None):
            export.sequence, export.last = before.sequence, before.last
        self.enabled[(account, kind)] = export
        self._pending.append(export)
        self.settle()
        return export

    def disable(self, account: str, kind: str) -> None:
        """Switch the export off again: the table and the access entry stay."""
        export = self.enabled.pop((account, kind))
        self._ended[(account, kind)] = export
        if export in self._pending:
            self._pending.remove(export)

    def _linked(self, account: str, beside: Dataset, now: datetime) -> Dataset:
        name = f"gcp_billing_immutable_{account.replace('-', '_')}_{beside.location.lower().replace('-', '_')}"
        catalog = self._catalog
        if (beside.project, name) not in catalog.datasets:
            made = Dataset(beside.project, name, beside.location, now, now, default_access(PRINCIPAL))
            made.linked = _LINKED_PUBLISHER
            catalog.add_dataset(made)
        return catalog.dataset(beside.project, name)

    def settle(self) -> None:
        """Let tables appear whose time has come, and empty the streaming buffers that are old enough."""
        now = self._clock.now()
        for export in [export for export in self._pending if export.table_due <= now]:
            self._pending.remove(export)
            self._table(export, now)
        age = timedelta(seconds=self._buffer_s)
        for table in [table for table in self._buffered if table.buffered_at and table.buffered_at + age <= now]:
            self.flush(table)

    def _table(self, export: Export, now: datetime) -> Table | None:
        dataset = self._catalog.datasets.get((export.project, export.dataset))
        if dataset is None:
            return None
        if export.table not in dataset.tables:
            self._catalog.add_table(dataset, export.table, SCHEMAS[export.kind], now)
        return dataset.tables[export.table]

    def flush(self, table: Table) -> int:
        """Move the rows of a table's streaming buffer to their partitions; returns how many."""
        table.buffered_at = None
        self._buffered.remove(table)
        return self._warehouse.flush(table.rows, table.uid, self._clock.now())

    def chosen(self, accounts: Iterable[str] | None, kinds: Iterable[str] | None) -> list[Export]:
        """Return the exports that deliver: enabled, not paused, of open accounts, with their table there.

        Prices are those of the account that pays for the dataset's project, and of no other. Nothing is written to a
        project without an open billing account, to a dataset with a customer-managed key, or past row access policies
        that do not grant Google's writer all rows (all: "Set up Cloud Billing data export to BigQuery").
        """
        wanted = None if accounts is None else set(accounts)
        sorts = None if kinds is None else set(kinds)
        return [
            export
            for export in self.enabled.values()
            if not export.paused
            and export not in self._pending
            and self._may_write(export)
            and self._billing.accounts[export.account].open
            and (wanted is None or export.account in wanted)
            and (sorts is None or export.kind in sorts)
        ]

    def _may_write(self, export: Export) -> bool:
        dataset = self._catalog.datasets.get((export.project, export.dataset))
        if dataset is None or unpaid(self._projects, self._billing, export.project, self._clock.now()):
            return False
        if export.kind == "pricing" and self._projects.all[export.project].billing != export.account:
            return False
        table = dataset.tables.get(export.table)
        admitted = any(entry.get("userByEmail") == export.principal for entry in dataset.access)
        free = "defaultEncryptionConfiguration" not in dataset.extra
        return admitted and free and (table is None or table.shows_all(export.principal))

    def deliver(self, exports: Sequence[Export], days: Sequence[date], rows: int, *, buffered: bool = False) -> int:
        """Let every export write `rows` rows into each day's partition; returns how many rows that were.

        A day that is past is written in its own evening when it is newer than all before, as a steady export would
        have, and otherwise now: then its rows are late.
        """
        now = self._clock.now()
        batches: dict[tuple[str, str], list[tuple[Export, Table, Batch]]] = defaultdict(list)
        for export in exports:
            table = self._table(export, now)
            if table is None:
                continue
            currency = self._billing.accounts[export.account].currency
            for day in days:
                moment = self._moment(export, day, now, rows)
                batch = Batch(table.uid, export.account, currency, day, export.sequence, rows, moment, buffered)
                export.sequence += rows
                batches[(export.kind, table.rows)].append((export, table, batch))
                if buffered and table.buffered_at is None:
                    table.buffered_at = now
                    self._buffered.append(table)
        total = 0
        for (kind, physical), found in batches.items():
            columns = {field["name"] for field in SCHEMAS[kind]}
            shared = [field["name"] for field in found[0][1].fields if field["name"] in columns]
            for part in _parts([batch for _, _, batch in found]):
                sql, parameters = select(kind, part, self._seed)
                self._warehouse.append(physical, shared, sql, parameters, _arrivals(part))
                total += sum(batch.count for batch in part)
        return total

    def _moment(self, export: Export, day: date, now: datetime, rows: int) -> datetime:
        evening = datetime(day.year, day.month, day.day, 20, tzinfo=now.tzinfo)
        # Today's rows come now, also late in the evening: else a table would look as if nothing had been written to it.
        past = day < now.date()
        moment = evening if past and (export.last is None or export.last < evening) else now
        # It "will always increase with each new export".
        if export.last is not None and moment <= export.last:
            moment = export.last + timedelta(milliseconds=1)
        export.last = moment + timedelta(milliseconds=max(rows, 1))
        return moment


def _parts(batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """Yield the batches in parts of about as many rows as are made at once."""
    part: list[Batch] = []
    rows = 0
    for batch in batches:
        part.append(batch)
        rows += batch.count
        if rows >= _AT_ONCE:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _arrivals(batches: Sequence[Batch]) -> list[Arrival]:
    return [
        Arrival(
            batch.table,
            UNPARTITIONED if batch.buffered else f"{batch.day:%Y%m%d}",
            batch.count,
            batch.export_time + timedelta(milliseconds=batch.count - 1),
        )
        for batch in batches
        if batch.count
    ]
