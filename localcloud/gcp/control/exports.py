"""Control actions on billing accounts, their exports, tables and rows."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zlib import crc32

from localcloud.gcp.control.base import DeployedActions
from localcloud.gcp.platform.audit_log import account_changed, dataset_changed, table_deleted
from localcloud.gcp.platform.names import ORGANIZATION
from localcloud.gcp.services.billing import BillingAccount, account_id
from localcloud.gcp.services.billing_schema import table_name
from localcloud.gcp.services.catalog import Table
from localcloud.gcp.services.exports import Export
from localcloud.gcp.services.schema import literal

_USAGE = ("standard", "detailed")


class ExportActions(DeployedActions):
    """Actions on accounts, tables and rows."""

    # Billing accounts

    def accounts(self) -> dict[str, str]:
        """Return the state of every account, by id: ``OPEN`` or ``CLOSED``."""
        return {key: "OPEN" if account.open else "CLOSED" for key, account in self.world.billing.accounts.items()}

    def add_account(self, name: str = "", master: str = "", parent: str = ORGANIZATION, currency: str = "USD") -> str:
        """Add an account, as a sub-account if it has a master, and return its id."""
        number = len(self.world.billing.accounts)
        if master and master not in self.world.billing.accounts:
            raise ValueError(f"unknown master account {master}")
        identifier = account_id(number, self.world.seed)
        account = BillingAccount(identifier, name or f"Billing account {number}", parent, True, master, currency)
        self.world.billing.add(account)
        self.world.audit.write(account_changed(identifier, "CreateBillingAccount"))
        return identifier

    def open_account(self, account: str) -> None:
        self.world.billing.accounts[account].open = True
        self.world.audit.write(account_changed(account, "ReopenBillingAccount"))

    def close_account(self, account: str) -> None:
        self.world.billing.accounts[account].open = False
        self.world.audit.write(account_changed(account, "CloseBillingAccount"))

    # The billing export

    # difference: GCP-2
    def console_step(
        self, account: str, kinds: tuple[str, ...] | list[str] = (*_USAGE, "pricing"), dataset: str = ""
    ) -> None:
        """Enable the export of these kinds, as in the console, into a dataset (default: the deployment's)."""
        for kind in kinds:
            self.world.exports.enable(account, kind, self._dataset(dataset))

    def undo_console_step(self, account: str, kinds: tuple[str, ...] | list[str] = (*_USAGE, "pricing")) -> None:
        """Disable the export of these kinds; the exported data stays."""
        for kind in kinds:
            self.world.exports.disable(account, kind)

    # difference: GCP-1
    def stream(
        self,
        days: int = 1,
        rows: int = 20,
        accounts: list[str] | None = None,
        kinds: list[str] | None = None,
        buffered: bool = False,
        late: int = 0,
    ) -> int:
        """Deliver rows for each of the last `days` days up to today, for every export, and return the row count.

        `buffered`: the rows enter the streaming buffer first. `late`: adds that many rows for one of the ten preceding
        days, which varies by export and call but is the same for the same seed.
        """
        today = self.world.clock.now().date()
        span = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
        exports = self.world.exports.chosen(accounts, kinds)
        total = self.world.exports.deliver(exports, span, rows, buffered=buffered)
        for export in exports if late else ():
            day = span[0] - timedelta(days=_lateness(self.world.seed, export))
            total += self.world.exports.deliver([export], [day], late)
        return total

    def late_data(self, account: str, day: str, kind: str = "standard", rows: int = 5) -> int:
        """Deliver rows for the partition of a past day now, which advances its watermark."""
        export = self.world.exports.enabled[(account, kind)]
        return self.world.exports.deliver([export], [date.fromisoformat(day)], rows)

    def flush_buffer(self, account: str | None = None) -> int:
        """Move the rows in the streaming buffers into their partitions and return the row count."""
        return sum(
            self.world.exports.flush(table)
            for export in self.world.exports.enabled.values()
            if account in (None, export.account) and (table := self._table_of(export)) and table.buffered_at
        )

    def make_stale(self, account: str, hours: float = 72, kinds: tuple[str, ...] | list[str] = _USAGE) -> None:
        """Make an export stale: newer rows are removed, and none are delivered until `resume`.

        Raises ValueError if no older rows would be left, which would look like a table that never had any.
        """
        moment = self.world.clock.now() - timedelta(hours=hours)
        text = literal(moment.strftime("%Y-%m-%d %H:%M:%S"))
        for kind in kinds:
            export = self.world.exports.enabled[(account, kind)]
            table = self._table_of(export)
            if table:
                oldest = self.world.warehouse.query(
                    f"SELECT min(export_time) FROM {table.rows} WHERE _table = {table.uid}"
                )[0][0]
                if oldest is None or oldest > moment.replace(tzinfo=None):
                    raise ValueError(f"the {kind} table of {account} has no rows older than {hours:g} hours")
                self.world.warehouse.delete(table.rows, table.uid, f"export_time > TIMESTAMP {text}")
                self.world.warehouse.touch(table.uid, moment)
                export.last = min(export.last, moment) if export.last else None
            export.paused = True

    def resume(self, account: str) -> None:
        """Resume Google's deliveries."""
        for export in self.world.exports.enabled.values():
            if export.account == account:
                export.paused = False

    def tables(self, dataset: str = "") -> dict[str, int]:
        """Return the row count of every table of a dataset, including the streaming buffer."""
        return {
            name: sum(count for count, _ in self.world.warehouse.partitions(table.uid).values())
            for name, table in sorted(self._dataset(dataset).tables.items())
        }

    def watermarks(self, account: str, kind: str = "standard") -> dict[str, list[Any]]:
        """Return [newest export time, rows] by partition day, as BigQuery would answer."""
        table = self._table(account, kind)
        found = self.world.warehouse.query(
            f"SELECT strftime(_PARTITIONTIME, '%Y-%m-%d'), max(export_time), count(*) FROM {table.rows} "
            f"WHERE _table = {table.uid} AND _PARTITIONTIME IS NOT NULL GROUP BY 1 ORDER BY 1"
        )
        return {day: [moment.isoformat(), count] for day, moment, count in found}

    def rename_column(self, account: str, column: str, to: str, kind: str = "standard") -> None:
        """Change Google's schema of a table: replace a column with an empty one of another name."""
        table = self._table(account, kind)
        fields = [field | {"name": to} if field["name"] == column else field for field in table.fields]
        self.world.catalog.reshape(table, fields)

    def drop_column(self, account: str, column: str, kind: str = "standard") -> None:
        table = self._table(account, kind)
        self.world.catalog.reshape(table, [field for field in table.fields if field["name"] != column])

    def add_column(self, account: str, column: str, type: str = "STRING", kind: str = "standard") -> None:  # noqa: A002 - BigQuery's word
        table = self._table(account, kind)
        self.world.catalog.reshape(table, [*table.fields, {"name": column, "type": type, "mode": "NULLABLE"}])

    def delete_table(self, account: str, kind: str = "standard") -> None:
        """Delete a table; Google recreates it with the next delivery."""
        export = self.world.exports.enabled[(account, kind)]
        self.world.catalog.drop_table(self.world.catalog.dataset(export.project, export.dataset), export.table)
        self.world.audit.write(table_deleted(export.project, export.dataset, export.table))

    def delete_dataset(self, dataset: str = "") -> None:
        """Delete a dataset, everything in it, and its IAM policy."""
        found = self._dataset(dataset)
        for name in list(found.tables):
            self.world.catalog.drop_table(found, name)
        del self.world.catalog.datasets[(found.project, found.id)]
        self.world.iam.forget(f"projects/{found.project}/datasets/{found.id}")
        self.world.audit.write(dataset_changed(found.project, found.id, "Delete"))

    def _table_of(self, export: Export) -> Table | None:
        dataset = self.world.catalog.datasets.get((export.project, export.dataset))
        return dataset.tables.get(export.table) if dataset else None

    def _table(self, account: str, kind: str) -> Table:
        export = self.world.exports.enabled[(account, kind)]
        table = self._table_of(export)
        if table is None:
            raise KeyError(table_name(kind, account))
        return table


def _lateness(seed: int, export: Export) -> int:
    """Return by how many days (1 to 10) an export's next late rows are late."""
    return 1 + crc32(f"{seed}/{export.account}/{export.kind}/{export.sequence}".encode()) % 10
