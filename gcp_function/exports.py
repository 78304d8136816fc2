"""The billing exports themselves: nothing can switch them on but a person, so they are looked at and explained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.deliveries import Deliveries, Tables, TableSeen
from gcp_function.destination import Destination
from gcp_function.errors import observed
from gcp_function.health import Evidence, Judge
from gcp_function.settings import GcpSettings
from gcp_function.shape import moment_of
from gcp_function.targets import EXPORTS, LINKED_DATASET, window
from shared.errors import CloudError, NotFound, Permanent
from shared.memory import Entry, Memory
from shared.model import Health, Key, Observation, Present, Target
from shared.run import Run

CONFIRMED_A_RUN = 20  # tables that have gone and are looked at once more, one call each
PRICES_LOOKED_AT = timedelta(days=10)
NO_LINKED = Present(
    health=Health.NOT_NEEDED, code="no-linked-dataset", detail="the account shares no FOCUS dataset with this project"
)

Odd = Mapping[str, CloudError]
Seen = Mapping[str, "Tables | Observation"]  # kind → its tables by name, or why they could not be read


class Exports:
    """Observes the export targets of all open accounts at once."""

    def __init__(
        self, settings: GcpSettings, clients: Clients, run: Run, destination: Destination, deliveries: Deliveries
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._destination = destination
        self._deliveries = deliveries
        self._judge = Judge(settings)
        self._linked: dict[str, tuple[str, str]] = {}  # account → (dataset, location) of its FOCUS data

    def tables(self, accounts: Mapping[str, Collection[str]]) -> dict[str, Tables | Observation]:
        """Return the tables of each kind for the accounts that are to have it, or why they could not be read.

        One query a kind, none where the dataset is not there; FOCUS data lie in a linked dataset for each account.
        """
        found: dict[str, Tables | Observation] = {}
        for kind, holders in accounts.items():
            try:
                found[kind] = self._of_kind(kind, holders)
            except CloudError as error:
                found[kind] = observed(error, f"the tables of the {kind} export")
        return found

    def _of_kind(self, kind: str, accounts: Collection[str]) -> Tables:
        since = window(self._settings, self._run.clock.now().date())[0]
        if kind == "focus":
            return self._focus(accounts, since)
        if self._destination.location is None or not accounts:
            return {}
        names = {EXPORTS[kind].table_of(account) for account in accounts}
        return self._deliveries.tables(names, self._destination.location, since)

    def _focus(self, accounts: Collection[str], since: str) -> Tables:
        """Find the linked datasets by their names, then their tables: one query for each such dataset."""
        self._linked = {}
        token = ""
        while True:
            pages = self._run.calls("bigquery", self._datasets, token)
            for name, location in pages[0]:
                match = LINKED_DATASET.fullmatch(name)
                if match and (account := match[1].replace("_", "-")) in accounts:
                    self._linked[account] = (name, location)
            token = pages[1]
            if not token:
                break
        found: Tables = {}
        for account, (dataset, location) in sorted(self._linked.items()):
            table = EXPORTS["focus"].table_of(account)
            where = location or self._run.calls("bigquery", self._location_of, dataset)
            found |= self._deliveries.tables({table}, where, since, dataset)
        return found

    def _datasets(self, token: str) -> tuple[list[tuple[str, str]], str]:
        listing = self._clients.bigquery.list_datasets(
            self._settings.project, page_token=token or None, page_size=1000, retry=None, timeout=self._clients.timeout
        )
        page: Iterable[Any] = next(listing.pages, ())
        found = [(one.dataset_id, str(one._properties.get("location", ""))) for one in page]
        return found, listing.next_page_token or ""

    def _location_of(self, dataset: str) -> str:
        found = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{dataset}", retry=None, timeout=self._clients.timeout
        )
        return str(found.location)

    def wanted(self, targets: Sequence[Target], memory: Memory, seen: Seen) -> dict[str, set[str]]:
        """Return the partitions whose watermark tells how fresh an export is, by table, where no copy does.

        Only tables that were written since the last run are asked: the partition written last, which holds what came
        last.
        """
        asked: dict[str, set[str]] = {}
        for target in targets:
            kind = target.key.name
            tables = seen.get(kind)
            if kind in self._settings.copy or kind in ("pricing", "focus") or not isinstance(tables, dict):
                continue
            name = EXPORTS[kind].table_of(target.key.scope)
            table = tables.get(name)
            if table and table.days and table.modified != _known(memory.entry(target.key)):
                asked[name] = {max(table.days, key=lambda day, days=table.days: days[day].modified)}  # type: ignore[misc]  # the default binds the loop's table, which mypy cannot type in a lambda
        return asked

    def survey(
        self, targets: Sequence[Target], memory: Memory, seen: Seen, fresh: Mapping[tuple[str, str], int], odd: Odd
    ) -> dict[Key, Observation]:
        """Judge every export.

        `fresh`: the newest export_time (microseconds) by (account, kind); `odd`: tables of another shape.
        """
        if self._destination.unseen is not None:
            return {target.key: self._destination.unseen for target in targets}
        standing = {name for tables in seen.values() if isinstance(tables, dict) for name in tables}
        prices = self._prices(targets, memory, seen)
        confirming = CONFIRMED_A_RUN
        found: dict[Key, Observation] = {}
        for target in targets:
            account, kind = target.key.scope, target.key.name
            tables, name = seen.get(kind), EXPORTS[kind].table_of(account)
            if not isinstance(tables, dict):
                if tables is not None:
                    found[target.key] = tables
                continue
            if name in odd:
                found[target.key] = self._judge.surprising(account, name, odd[name].message)
                continue
            if kind == "focus" and account not in self._linked:
                found[target.key] = NO_LINKED
                continue
            if kind == "pricing" and not isinstance(prices, dict):
                found[target.key] = prices
                continue
            entry, table = memory.entry(target.key), tables.get(name)
            newest = None
            if table is not None:  # copies outlive their table, and then say nothing of it
                shown = prices if kind == "pricing" and isinstance(prices, dict) else None
                newest = shown.get(account) if shown is not None else fresh.get((account, kind))
                newest = newest or _remembered(kind, entry, table)
            there = table is not None and not EXPORTS[kind].shared
            confirmed = False
            if table is None and entry is not None and entry.facts.get("fresh") and confirming:
                confirming -= 1
                try:
                    confirmed = self._gone(name)
                except CloudError as error:
                    found[target.key] = observed(error, f"table {name}")
                    continue
            evidence = Evidence(
                dataset_there=kind == "focus" or self._destination.location is not None,
                exporting=True if kind == "focus" else self._destination.exporting,
                table_there=there,
                others=len(standing) > (1 if there else 0),
                fresh=moment_of(newest) if newest else None,
                confirmed=confirmed,
            )
            found[target.key] = self._with_facts(
                self._judge.judge(account, kind, evidence, entry, self._run.clock.now()), table
            )
        return found

    def _with_facts(self, observation: Observation, table: TableSeen | None) -> Observation:
        if table is None or not isinstance(observation, Present) or not observation.delivered_at:
            return observation
        return msgspec.structs.replace(observation, facts={**observation.facts, "modified": table.modified})

    def _prices(self, targets: Sequence[Target], memory: Memory, seen: Seen) -> dict[str, int] | Observation:
        """Return each account's newest price, asking only when the shared table was written since the last run."""
        tables = seen.get("pricing")
        table = tables.get(EXPORTS["pricing"].table) if isinstance(tables, dict) else None
        mine = [target for target in targets if target.key.name == "pricing"]
        if table is None or not table.modified or self._destination.location is None:
            return {}
        entries = [memory.entry(target.key) for target in mine]
        asked_at = {known for entry in entries if (known := _known(entry)) is not None}
        # An account that has no prices has nothing to remember: the others tell when the table was asked last.
        if None not in entries and asked_at == {table.modified}:
            return {}
        since = (self._run.clock.now() - PRICES_LOOKED_AT).date().isoformat()
        try:
            return self._deliveries.by_account(EXPORTS["pricing"].table, self._destination.location, since)
        except Permanent as error:
            return self._judge.surprising("(all accounts)", EXPORTS["pricing"].table, error.message)
        except CloudError as error:
            return observed(error, "the table of the pricing export")

    def _gone(self, table: str) -> bool:
        """Return whether a second, other read agrees that a table is not there."""
        name = f"{self._settings.project}.{self._settings.dataset}.{table}"
        try:
            self._run.calls(
                "bigquery", self._clients.bigquery.get_table, name, retry=None, timeout=self._clients.timeout
            )
        except NotFound:
            return True
        return False


def _known(entry: Entry | None) -> Any:
    return entry.facts.get("modified") if entry else None


def _remembered(kind: str, entry: Entry | None, table: TableSeen) -> int | None:
    """Return how fresh a table is that was not asked: as it was, or by when it was last written."""
    value = entry.facts.get("fresh") if entry else None
    if isinstance(value, str) and value:
        try:
            known = round(datetime.fromisoformat(value).timestamp() * 1_000_000)
        except ValueError:
            known = None
        if known is not None and kind != "focus":
            return known
    # FOCUS tables have their own columns, and partitions older than those looked at were not asked for theirs.
    if kind == "focus" or (kind != "pricing" and table.older and not table.days):
        return table.modified or None
    return None
