"""Evaluates one account's export of one kind by the dataset's access entries, its table and its rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec

from gcp_function.manual_steps import (
    console_step,
    delivered_once,
    entries_unreadable,
    export_stale,
    rows_hidden,
    schema_unexpected,
)
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORTS, RHYTHM, USAGE
from shared.model import Absent, EscalationPolicy, Health, ManualStep, Observation, Present, Unknown
from shared.parsing import parse_time
from shared.staleness import stale_after
from shared.target_state import TargetState

FIRST_ROWS = timedelta(days=5)  # "it might take several days", Cloud Billing documentation; observed: up to five
RHYTHM_UNKNOWN = timedelta(days=35)  # an account whose rhythm is not known yet may be billed monthly
ONE_ARRIVAL = timedelta(days=10)  # after a single delivery; then a manual step asks whether the export is enabled
RHYTHM_DAYS = 3  # days with arrivals after which the rhythm is known
DAILY = timedelta(days=2)  # two arrivals within this time mean a daily rhythm
HIDDEN_ESCALATION = EscalationPolicy(longest=timedelta(hours=24))
PENDING = "table-pending"
OVERDUE = "table-overdue"
STEP = "console-step"
LOST = "table-lost"
ELSEWHERE = "exports-elsewhere"
SINGLE = "single-delivery"
HIDDEN = "rows-hidden"
RIGHT = "bigquery.datasets.getIamPolicy"


class Evidence(msgspec.Struct, frozen=True):
    """What this run observed of one account's export of one kind.

    `dataset_exists`, `table_exists`: whether they do.
    `granted`: whether Google's export may write to the dataset (None: its access entries may not be read).
    `others`: whether tables of other accounts exist, which explain Google's access entry without this account.
    `fresh`: the newest export_time (None: no rows).
    `confirmed`: whether a second read agrees that the table does not exist.
    `arrivals`: the days on which rows arrived, by BigQuery's catalog.
    `older`: whether there are partitions from before those days.
    """

    dataset_exists: bool
    granted: bool | None
    table_exists: bool
    others: bool = False
    fresh: datetime | None = None
    confirmed: bool = False
    arrivals: frozenset[date] = frozenset()
    older: bool = False


class ExportHealth:
    """Evaluates an export: dataset missing, console step not done, table pending, table stale, or healthy."""

    def __init__(self, settings: GcpSettings) -> None:
        self._settings = settings

    def evaluate(
        self, account: str, kind: str, seen: Evidence, entry: TargetState | None, now: datetime
    ) -> Observation:
        """Return the export's health, since when it has been the same, and the manual step if there is one."""
        if seen.fresh is not None:
            return self._with_rows(account, kind, seen.fresh, seen, entry, now)
        if not seen.dataset_exists:
            what = f"dataset {self._settings.dataset} is missing, so account {account} has no {kind} export"
            manual_step = self._console_step(
                account, kind, f"{what}; the function creates the dataset, and a person enables the export"
            )
            return Absent(("get",), f"{what}{_since(entry, now, 'dataset-missing')}", manual_step, "dataset-missing")
        last_rows = _fact(entry, "fresh")
        if last_rows is not None and not seen.table_exists:
            return self._lost(account, kind, last_rows, seen, _since(entry, now, LOST))
        if seen.table_exists:
            return self._pending(account, kind, entry, now)
        if seen.granted is None:
            return self._unreadable(account, kind)
        since = _since(entry, now, STEP)
        if not seen.granted:
            detail = f"Google's export has no access entry in dataset {self._settings.dataset}{since}"
            return Absent(("access-entries",), detail, self._first_enabling(account, kind, since, now), STEP)
        if seen.others:
            # The access entry may exist for the other accounts, so it proves nothing about this one.
            detail = f"the account has no table of this kind, while other accounts have theirs{since}"
            return Absent(("tables",), detail, self._first_enabling(account, kind, since, now), STEP)
        return self._pending(account, kind, entry, now)

    def unexpected_schema(self, account: str, table: str, why: str) -> Observation:
        """Return the health of an export whose table does not match Google's published schema."""
        manual_step = schema_unexpected(account, self._settings.dataset, table, why)
        return Present(health=Health.MANUAL, code="surprising-schema", detail=manual_step.what, manual_step=manual_step)

    def redirected(self, seen: Absent, account: str, kind: str, elsewhere: str) -> Absent:
        """Return `seen` with the console step for an account that exports to the dataset `elsewhere`."""
        export, settings = EXPORTS[kind], self._settings
        manual_step = console_step(
            account, export.title, export.roles, settings.project, settings.dataset, elsewhere=elsewhere
        )
        return msgspec.structs.replace(seen, detail=manual_step.what, manual_step=manual_step, code=ELSEWHERE)

    def rows_hidden(self, table: str, why: str, whole: bool) -> Observation:
        """Return the health of an export for which the catalog counts more rows than a query returns.

        If a query returns some of them (`whole` is false), the others may have just been deleted: the manual step is
        then reported after a day.
        """
        manual_step = rows_hidden(self._settings.project, self._settings.dataset, table, why)
        health = Health.MANUAL if whole else Health.WAITING
        return Present(
            health=health, code=HIDDEN, detail=manual_step.what, manual_step=manual_step, escalation=HIDDEN_ESCALATION
        )

    def _with_rows(
        self,
        account: str,
        kind: str,
        fresh: datetime,
        seen: Evidence,
        entry: TargetState | None,
        now: datetime,
    ) -> Observation:
        known = entry.facts if entry else {}
        facts: dict[str, Any] = {"fresh": fresh.isoformat()}
        if known.get("pending_since"):
            facts["pending_since"] = ""
        days = sorted({*seen.arrivals, *(entry.arrivals if entry else ()), fresh.date()})
        known_rhythm = len(days) >= RHYTHM_DAYS or any(later - before <= DAILY for before, later in pairwise(days))
        single = len(days) == 1 and not seen.older
        usual = RHYTHM if known_rhythm else ONE_ARRIVAL if single else RHYTHM_UNKNOWN
        limit = stale_after(usual, self._settings.engine, entry, days)
        if now - fresh < limit:
            return Present(delivered_at=fresh, facts=facts, silent_after=limit)
        code = SINGLE if single else "stale"
        since = _since(entry, now, code)
        export, settings = EXPORTS[kind], self._settings
        describe = delivered_once if code == SINGLE else export_stale
        manual_step = describe(account, kind, settings.dataset, export.principal, export.roles, fresh, since)
        return Present(
            health=Health.MANUAL,
            code=code,
            detail=manual_step.what,
            manual_step=manual_step,
            delivered_at=fresh,
            facts=facts,
            silent_after=limit,
        )

    def _pending(self, account: str, kind: str, entry: TargetState | None, now: datetime) -> Observation:
        waiting = entry is not None and entry.state in ("pending", OVERDUE)
        began = (_fact(entry, "pending_since") if waiting else None) or now
        facts = {"pending_since": began.isoformat()}
        if now - began < FIRST_ROWS:
            detail = f"the export is enabled; waiting for the first rows since {began:%Y-%m-%d %H:%M} UTC"
            return Present(health=Health.PENDING, code=PENDING, detail=detail, facts=facts, first_data=True)
        what = (
            f"the {kind} export of account {account} has written no rows since it was enabled for dataset "
            f"{self._settings.dataset} on {began:%Y-%m-%d} UTC"
        )
        manual_step = self._console_step(account, kind, what)
        return Present(health=Health.MANUAL, code=OVERDUE, detail=what, manual_step=manual_step, facts=facts)

    def _lost(self, account: str, kind: str, last: datetime, seen: Evidence, since: str) -> Observation:
        table = EXPORTS[kind].table_of(account)
        if not seen.confirmed:
            what = f"table {table} existed and is no longer listed"
            return Unknown("not-listed", what, remedy="Nothing: the next run reads the table by its name.")
        what = f"table {table} of account {account} is missing; its last rows are from {last:%Y-%m-%d %H:%M} UTC{since}"
        return Absent(("list", "get"), what, self._console_step(account, kind, what), LOST)

    def _unreadable(self, account: str, kind: str) -> Unknown:
        manual_step = entries_unreadable(account, kind, self._settings.dataset, RIGHT)
        return Unknown("rights", manual_step.what, manual_step, EscalationPolicy(tries=0))

    def _console_step(self, account: str, kind: str, what: str = "") -> ManualStep:
        export, settings = EXPORTS[kind], self._settings
        return console_step(account, export.title, export.roles, settings.project, settings.dataset, what)

    def _first_enabling(self, account: str, kind: str, since: str, now: datetime) -> ManualStep:
        """Return the step for an export that was never enabled, and until when it would deliver the previous month.

        Source: "Set up Cloud Billing data export to BigQuery": standard and detailed usage data come from the start of
        the previous month when an export is first enabled, in the US and EU multi-regions only.
        """
        step = self._console_step(account, kind)
        month = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        brings = kind in USAGE and self._settings.location.upper() in ("US", "EU")
        return msgspec.structs.replace(step, what=f"{step.what}{since}", before=month if brings else None)


def _since(entry: TargetState | None, now: datetime, code: str) -> str:
    """Return since when the state has been `code`, as the end of a sentence; "" if it is new."""
    if entry is None or entry.state != code or entry.since is None or now - entry.since < timedelta(hours=1):
        return ""
    return f" (since {entry.since:%Y-%m-%d %H:%M} UTC)"


def _fact(entry: TargetState | None, name: str) -> datetime | None:
    facts: Mapping[str, Any] = entry.facts if entry else {}
    return parse_time(facts.get(name))
