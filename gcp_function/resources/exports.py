"""The billing exports: Google has no API that enables one, so the function observes them and reports the step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import msgspec

from gcp_function.clients import Clients
from gcp_function.errors import observed
from gcp_function.resources.billing_tables import BillingTables, Tables, TableSeen
from gcp_function.resources.copy_manifest import moment_of
from gcp_function.resources.dataset import Dataset
from gcp_function.resources.delivered_months import delivered_months
from gcp_function.resources.export_health import STEP, Evidence, ExportHealth
from gcp_function.resources.project import Project
from gcp_function.resources.project_datasets import ProjectDatasets
from gcp_function.resources.table_survey import TablesByKind, TableSurvey
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORT, EXPORTS, LINKED_DATASET, RHYTHM, USAGE
from shared.errors import CloudError, NotFound, Permanent
from shared.model import Absent, Health, Key, Observation, Present, Target
from shared.parsing import parse_time
from shared.resources import BulkOnly, ReadOnly
from shared.runtime.context import RunContext
from shared.target_state import TargetState

CONFIRMED_A_RUN = 20  # missing tables that a run reads once more by name, one call each
PRICES_SINCE = timedelta(days=10)  # how far back the newest price is searched
NO_LINKED = Present(
    health=Health.NOT_NEEDED, code="no-linked-dataset", detail="the account shares no FOCUS dataset with this project"
)
NOT_THE_PAYER = Present(
    health=Health.NOT_NEEDED,
    code="not-the-payer",
    detail="Google exports prices only for the billing account that is linked to the project",
)
OTHERS_A_RUN = 10  # other datasets of the project that are searched for an export, one query each
LIKELY = re.compile(r"bill|cost|finops|export|usage|spend|gcp|cloud", re.IGNORECASE)  # names that are searched first
EXPORTED_LATELY = timedelta(days=7)
NO_DAYS: frozenset[date] = frozenset()


class Exports(BulkOnly, ReadOnly):
    """Observes the exports of all open accounts, after the copies, whose watermarks show how fresh an export is.

    After `observe_bulk`, `arriving` is true if usage rows arrived in the last RHYTHM.
    """

    kinds = (EXPORT,)

    def __init__(
        self,
        settings: GcpSettings,
        clients: Clients,
        run: RunContext,
        project: Project,
        dataset: Dataset,
        project_datasets: ProjectDatasets,
        billing_tables: BillingTables,
        survey: TableSurvey,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._project = project
        self._dataset = dataset
        self._project_datasets = project_datasets
        self._billing_tables = billing_tables
        self._survey = survey
        self._health = ExportHealth(settings)
        self._confirming = CONFIRMED_A_RUN
        self.arriving = False

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Evaluate every export by the tables and watermarks of this run; query the missing watermarks."""
        if self._dataset.unseen is not None:
            return dict.fromkeys((target.key for target in targets), self._dataset.unseen)
        tables = self._survey.tables(targets)
        self._survey.ask({})
        prices = self._prices(targets, tables)
        existing = {name for of_kind in tables.values() if isinstance(of_kind, dict) for name in of_kind}
        self._confirming = CONFIRMED_A_RUN
        found = {
            target.key: self._with_months(
                target, tables[target.key.name], self._observe_one(target, tables[target.key.name], prices, existing)
            )
            for target in targets
        }
        since = self._run.clock.now() - RHYTHM
        self.arriving = any(
            isinstance(seen, Present) and seen.delivered_at is not None and seen.delivered_at > since
            for key, seen in found.items()
            if key.name in USAGE
        )
        return found | self._redirected(found)

    def _observe_one(
        self,
        target: Target,
        tables: Tables | Observation,
        prices: dict[str, int] | Observation,
        existing: set[str],
    ) -> Observation:
        """Evaluate one export; `existing` are the names of all tables that exist."""
        account, kind, entry = target.key.scope, target.key.name, target.state
        name = EXPORTS[kind].table_of(account)
        if not isinstance(tables, dict):
            return tables
        if name in self._survey.unexpected:
            return self._health.unexpected_schema(account, name, self._survey.unexpected[name].message)
        if name in self._survey.hidden:
            whole, why = self._survey.hidden[name]
            return self._health.rows_hidden(name, why, whole)
        if (not_needed := self._not_needed(target, tables)) is not None:
            return not_needed
        if kind == "pricing" and not isinstance(prices, dict):
            return prices
        table, newest = tables.get(name), None
        if table is not None:  # copies outlive their table, and then say nothing about it
            shown = prices.get(account) if isinstance(prices, dict) and kind == "pricing" else None
            newest = shown or self._survey.fresh.get((account, kind)) or _remembered(kind, entry, table)
        confirmed = False
        if table is None and entry is not None and entry.facts.get("fresh") and self._confirming:
            self._confirming -= 1
            try:
                confirmed = self._missing(name)
            except CloudError as error:
                return observed(error, f"table {name}")
        exists = table is not None and not EXPORTS[kind].shared
        evidence = Evidence(
            dataset_exists=kind == "focus" or self._dataset.location is not None,
            granted=self._granted(kind),
            table_exists=exists,
            others=len(existing) > (1 if exists else 0),
            fresh=moment_of(newest) if newest else None,
            confirmed=confirmed,
            arrivals=frozenset(moment_of(one.modified).date() for one in table.days.values()) if table else NO_DAYS,
            older=table is not None and table.older > 0,
        )
        observation = self._health.evaluate(account, kind, evidence, entry, self._run.clock.now())
        if table is None or not isinstance(observation, Present) or not observation.delivered_at:
            return observation
        return msgspec.structs.replace(observation, facts={**observation.facts, "modified": table.modified})

    def _with_months(self, target: Target, tables: Tables | Observation, observation: Observation) -> Observation:
        """Return the observation of an export whose table exists with the months that hold data."""
        account, kind = target.key.scope, target.key.name
        table = tables.get(EXPORTS[kind].table_of(account)) if isinstance(tables, dict) else None
        if table is None or not isinstance(observation, Present) or observation.health is Health.NOT_NEEDED:
            return observation
        known_since = str(target.state.facts.get("oldest_month", "")) if target.state else ""
        watermarks = self._survey.fresh_months.get((account, kind), {})
        periods = delivered_months(table, watermarks, known_since, self._run.clock.now())
        if not periods:
            return observation
        facts = {**observation.facts, "oldest_month": min(periods)}
        return msgspec.structs.replace(observation, facts=facts, periods=periods)

    def _not_needed(self, target: Target, tables: Tables) -> Observation | None:
        """Return why Google's rules provide no export of this kind for an account, None if they do."""
        account, kind = target.key.scope, target.key.name
        if kind == "focus" and account not in self._project_datasets.linked():
            return NO_LINKED
        if kind == "pricing":
            payer = self._project.payer
            if payer is None:
                return self._project.billing(None)
            return None if payer == account else NOT_THE_PAYER
        above = next((key for key in target.rests_on if key.kind == target.key.kind), None)
        if above is not None and EXPORTS[kind].table_of(account) not in tables:
            detail = f"the account's costs are in the export of its master account {above.scope}"
            return Present(health=Health.NOT_NEEDED, code="in-masters-export", detail=detail)
        return None

    def _redirected(self, found: Mapping[Key, Observation]) -> dict[Key, Observation]:
        """Return reworded console steps for accounts that already export to another dataset of the project."""
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
            others = [one for one in self._project_datasets.all() if one[0] != self._settings.dataset]
            likely = sorted(others, key=lambda one: (not LIKELY.search(one[0]), one))
            for dataset, listed in [one for one in likely if not LINKED_DATASET.fullmatch(one[0])][:OTHERS_A_RUN]:
                location = self._project_datasets.location_of(dataset, listed)
                tables = self._billing_tables.tables(asking, location, since.date().isoformat(), dataset)
                for name, table in tables.items():
                    key, seen = asking[name]
                    if table.modified and moment_of(table.modified) > since:
                        changed[key] = self._health.redirected(seen, key.scope, key.name, dataset)
        except CloudError:
            # The function may lack access to other datasets: the step is then reported unchanged.
            return changed
        return changed

    def _granted(self, kind: str) -> bool | None:
        """Return whether Google may write this kind to the dataset, None if its access entries may not be read."""
        writers = self._dataset.last_read.writers
        if kind == "focus":
            return True
        return None if writers is None else EXPORTS[kind].principal in writers

    def _prices(self, targets: Sequence[Target], tables_by_kind: TablesByKind) -> dict[str, int] | Observation:
        """Return the newest export_time of each account's prices; query them only if their table was written since."""
        tables = tables_by_kind.get("pricing")
        table = tables.get(EXPORTS["pricing"].table) if isinstance(tables, dict) else None
        payer = self._project.payer
        mine = [one for one in targets if one.key.name == "pricing" and payer in (None, one.key.scope)]
        if not mine or table is None or not table.modified or self._dataset.location is None:
            return {}
        entries = [target.state for target in mine]
        asked_at = {entry.facts["modified"] for entry in entries if entry and "modified" in entry.facts}
        # An account without prices records nothing: the others show when the table was last queried.
        if None not in entries and asked_at == {table.modified}:
            return {}
        since = (self._run.clock.now() - PRICES_SINCE).date().isoformat()
        try:
            return self._billing_tables.by_account(EXPORTS["pricing"].table, self._dataset.location, since)
        except Permanent as error:
            return self._health.unexpected_schema("(all accounts)", EXPORTS["pricing"].table, error.message)
        except CloudError as error:
            return observed(error, "the table of the pricing export")

    def _missing(self, table: str) -> bool:
        """Return whether a read of the table by its name agrees that it does not exist. Raises CloudError."""
        name = f"{self._settings.project}.{self._settings.dataset}.{table}"
        try:
            self._run.calls(
                "bigquery", self._clients.bigquery.get_table, name, retry=None, timeout=self._clients.timeout
            )
        except NotFound:
            return True
        return False


def _remembered(kind: str, entry: TargetState | None, table: TableSeen) -> int | None:
    """Return the freshness of a table that was not queried: as recorded, or by its last write."""
    known = parse_time(entry.facts.get("fresh")) if entry else None
    if known is not None and kind != "focus":
        return round(known.timestamp() * 1_000_000)
    # FOCUS tables have no such column, and partitions before the window are not queried for it.
    if kind == "focus" or (kind != "pricing" and table.older and not table.days):
        return table.modified or None
    return None
