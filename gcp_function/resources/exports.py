"""The billing exports themselves: nothing can switch them on but a person, so they are looked at and explained."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.resources.billing_tables import BillingTables, Tables, TableSeen
from gcp_function.resources.copy_manifest import moment_of
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.export_health import STEP, Evidence, Judge
from gcp_function.resources.project import Project
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORTS, LINKED_DATASET, USAGE, window
from shared.errors import CloudError, NotFound, Permanent
from shared.model import Absent, Health, Key, Observation, Present, Target
from shared.parsing import parse_time
from shared.runtime.context import RunContext
from shared.target_state import TargetState

CONFIRMED_A_RUN = 20  # tables that have gone and are looked at once more, one call each
PRICES_LOOKED_AT = timedelta(days=10)
NO_LINKED = Present(
    health=Health.NOT_NEEDED, code="no-linked-dataset", detail="the account shares no FOCUS dataset with this project"
)

NOT_THE_PAYER = Present(
    health=Health.NOT_NEEDED,
    code="not-the-payer",
    detail="Google exports prices only of the account that pays for the project",
)
OTHERS_A_RUN = 10  # other datasets of the project that are searched for an export, one query each
LIKELY = re.compile(r"bill|cost|finops|export|usage|spend|gcp|cloud", re.IGNORECASE)  # names that are searched first
EXPORTED_LATELY = timedelta(days=7)
NEVER: frozenset[date] = frozenset()

Odd = Mapping[str, CloudError]
Hidden = Mapping[str, tuple[bool, str]]  # table → whether all of its rows are hidden, and how many
Seen = Mapping[str, "Tables | Observation"]  # kind → its tables by name, or why they could not be read


class Exports:
    """Observes the export targets of all open accounts at once."""

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        run: RunContext,
        project: Project,
        dataset: Dataset,
        billing_tables: BillingTables,
    ) -> None:
        self._project = project
        self._settings = settings
        self._clients = clients
        self._run = run
        self._dataset = dataset
        self._tables = billing_tables
        self._judge = Judge(settings)
        self._linked: dict[str, tuple[str, str]] = {}  # account → (dataset, location) of its FOCUS data
        self._listed: list[tuple[str, str]] | None = None  # the project's datasets with their locations

    def tables(self, accounts: Mapping[str, Collection[str]]) -> dict[str, Tables | Observation]:
        """Return the tables of each kind for the accounts that are to have it, or why they could not be read.

        The kinds of the dataset are read together, none where it is not there; FOCUS data lie in a linked dataset for
        each account.
        """
        since = window(self._settings, self._run.clock.now().date())[0]
        names = {
            kind: {EXPORTS[kind].table_of(account) for account in holders}
            for kind, holders in accounts.items()
            if kind != "focus"
        }
        found: dict[str, Tables | Observation] = {}
        try:
            wanted, location = set().union(*names.values()), self._dataset.location
            together = self._tables.tables(wanted, location, since) if wanted and location is not None else {}
            found |= {kind: {name: together[name] for name in mine if name in together} for kind, mine in names.items()}
        except CloudError as error:
            seen = observed(error, f"the tables of dataset {self._settings.dataset}")
            found |= dict.fromkeys(names, seen)
        if "focus" in accounts:
            try:
                found["focus"] = self._focus(accounts["focus"], since)
            except CloudError as error:
                found["focus"] = observed(error, "the tables of the focus export")
        return found

    def _focus(self, accounts: Collection[str], since: str) -> Tables:
        """Find the linked datasets by their names, then their tables: one query for each such dataset."""
        self._linked = {}
        for name, location in self._all_datasets():
            match = LINKED_DATASET.fullmatch(name)
            if match and (account := match[1].replace("_", "-")) in accounts:
                self._linked[account] = (name, location)
        found: Tables = {}
        for account, (dataset, location) in sorted(self._linked.items()):
            table = EXPORTS["focus"].table_of(account)
            where = location or self._run.calls("bigquery", self._location_of, dataset)
            found |= self._tables.tables({table}, where, since, dataset)
        return found

    def _all_datasets(self) -> list[tuple[str, str]]:
        """Return the project's datasets with their locations, listed once a run. Raises CloudError."""
        if self._listed is None:
            listed: list[tuple[str, str]] = []
            token = ""
            while True:
                page, token = self._run.calls("bigquery", self._datasets, token)
                listed += page
                if not token:
                    break
            self._listed = listed
        return self._listed

    def _datasets(self, token: str) -> tuple[list[tuple[str, str]], str]:
        parameters = {"maxResults": 1000} | ({"pageToken": token} if token else {})
        page = self._clients.get("bigquery", f"bigquery/v2/projects/{self._settings.project}/datasets", parameters)
        found = [
            (str(one["datasetReference"]["datasetId"]), str(one.get("location", "")))
            for one in page.get("datasets", [])
        ]
        return found, str(page.get("nextPageToken") or "")

    def _location_of(self, dataset: str) -> str:
        found = self._clients.bigquery.get_dataset(
            f"{self._settings.project}.{dataset}", retry=None, timeout=self._clients.timeout
        )
        return str(found.location)

    def wanted(self, targets: Sequence[Target], seen: Seen) -> dict[str, set[str]]:
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
            if table and table.days and table.modified != _known(target.state):
                asked[name] = {max(table.days, key=lambda day, days=table.days: days[day].modified)}  # type: ignore[misc]  # the default binds the loop's table, which mypy cannot type in a lambda
        return asked

    def observe_bulk(
        self,
        targets: Sequence[Target],
        seen: Seen,
        fresh: Mapping[tuple[str, str], int],
        odd: Odd,
        hidden: Hidden,
    ) -> dict[Key, Observation]:
        """Judge every export.

        `fresh`: the newest export_time (microseconds) by (account, kind); `odd`: tables of another shape; `hidden`:
        tables of which the function does not see all rows.
        """
        if self._dataset.unseen is not None:
            return {target.key: self._dataset.unseen for target in targets}
        standing = {name for tables in seen.values() if isinstance(tables, dict) for name in tables}
        prices = self._prices(targets, seen)
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
            if name in hidden:
                whole, why = hidden[name]
                found[target.key] = self._judge.hidden(name, why, whole)
                continue
            if (settled := self._not_needed(target, tables)) is not None:
                found[target.key] = settled
                continue
            if kind == "pricing" and not isinstance(prices, dict):
                found[target.key] = prices
                continue
            entry, table = target.state, tables.get(name)
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
                dataset_there=kind == "focus" or self._dataset.location is not None,
                exporting=self._admitted(kind),
                table_there=there,
                others=len(standing) > (1 if there else 0),
                fresh=moment_of(newest) if newest else None,
                confirmed=confirmed,
                arrivals=frozenset(moment_of(one.modified).date() for one in table.days.values()) if table else NEVER,
                older=table is not None and table.older > 0,
            )
            found[target.key] = self._with_facts(
                self._judge.judge(account, kind, evidence, entry, self._run.clock.now()), table
            )
        return found | self._redirected(found)

    def _not_needed(self, target: Target, tables: Tables) -> Observation | None:
        """Return why Google exports nothing of this kind for an account by its own rules, None where it does."""
        account, kind = target.key.scope, target.key.name
        if kind == "focus" and account not in self._linked:
            return NO_LINKED
        if kind == "pricing":
            payer = self._project.payer
            if payer is None:
                return self._project.billing(None)
            return None if payer == account else NOT_THE_PAYER
        above = next((key for key in target.rests_on if key.kind == target.key.kind), None)
        if above is not None and EXPORTS[kind].table_of(account) not in tables:
            detail = f"its costs are in the export of its master account {above.scope}"
            return Present(health=Health.NOT_NEEDED, code="in-masters-export", detail=detail)
        return None

    def _redirected(self, found: Mapping[Key, Observation]) -> dict[Key, Observation]:
        """Return what becomes of console steps whose account already exports to another dataset of the project."""
        asking = {
            EXPORTS[key.name].table_of(key.scope): (key, seen)
            for key, seen in found.items()
            if isinstance(seen, Absent) and seen.code == STEP and key.name in USAGE
        }
        if not asking:
            return {}
        since = self._run.clock.now() - EXPORTED_LATELY
        changed: dict[Key, Observation] = {}
        try:
            others = [one for one in self._all_datasets() if one[0] != self._settings.dataset]
            likely = sorted(others, key=lambda one: (not LIKELY.search(one[0]), one))
            for dataset, location in [one for one in likely if not LINKED_DATASET.fullmatch(one[0])][:OTHERS_A_RUN]:
                where = location or self._run.calls("bigquery", self._location_of, dataset)
                there = self._tables.tables(asking, where, since.date().isoformat(), dataset)
                for name, table in there.items():
                    key, seen = asking[name]
                    if table.modified and moment_of(table.modified) > since:
                        changed[key] = self._judge.redirected(seen, key.scope, key.name, dataset)
        except CloudError:
            # Datasets that may not be read belong to others: the step is reported as it is.
            return changed
        return changed

    def _admitted(self, kind: str) -> bool | None:
        """Return whether Google may write this kind to the dataset; None where its access entries are hidden."""
        writers = self._dataset.writers
        if kind == "focus":
            return True
        return None if writers is None else EXPORTS[kind].principal in writers

    def _with_facts(self, observation: Observation, table: TableSeen | None) -> Observation:
        if table is None or not isinstance(observation, Present) or not observation.delivered_at:
            return observation
        return msgspec.structs.replace(observation, facts={**observation.facts, "modified": table.modified})

    def _prices(self, targets: Sequence[Target], seen: Seen) -> dict[str, int] | Observation:
        """Return each account's newest price, asking only when the shared table was written since the last run."""
        tables = seen.get("pricing")
        table = tables.get(EXPORTS["pricing"].table) if isinstance(tables, dict) else None
        payer = self._project.payer
        mine = [one for one in targets if one.key.name == "pricing" and payer in (None, one.key.scope)]
        if not mine or table is None or not table.modified or self._dataset.location is None:
            return {}
        entries = [target.state for target in mine]
        asked_at = {known for entry in entries if (known := _known(entry)) is not None}
        # An account that has no prices has nothing to remember: the others tell when the table was asked last.
        if None not in entries and asked_at == {table.modified}:
            return {}
        since = (self._run.clock.now() - PRICES_LOOKED_AT).date().isoformat()
        try:
            return self._tables.by_account(EXPORTS["pricing"].table, self._dataset.location, since)
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


def _known(entry: TargetState | None) -> Any:
    return entry.facts.get("modified") if entry else None


def _remembered(kind: str, entry: TargetState | None, table: TableSeen) -> int | None:
    """Return how fresh a table is that was not asked: as it was, or by when it was last written."""
    known = parse_time(entry.facts.get("fresh")) if entry else None
    if known is not None and kind != "focus":
        return round(known.timestamp() * 1_000_000)
    # FOCUS tables have their own columns, and partitions older than those looked at were not asked for theirs.
    if kind == "focus" or (kind != "pricing" and table.older and not table.days):
        return table.modified or None
    return None
