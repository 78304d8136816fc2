"""What access entries, tables and their freshness say of an account's export of one kind, and watermarks of a copy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec

from gcp_function.manual_steps import (
    console_step,
    delivered_once,
    entries_unreadable,
    export_stale,
    rows_hidden,
    schema_surprising,
)
from gcp_function.settings import GcpSettings
from gcp_function.targets import EXPORTS, RHYTHM
from shared.model import Absent, EscalationPolicy, Health, ManualStep, Observation, Present, Unknown
from shared.parsing import parse_time
from shared.staleness import stale_after
from shared.target_state import TargetState

FIRST_ROWS = timedelta(days=5)  # "it might take several days", Cloud Billing documentation; five are the most seen
UNTAUGHT = timedelta(days=35)  # an account that has shown no rhythm yet may be one that is billed monthly
ONE_ARRIVAL = timedelta(days=10)  # after so long with a single delivery a person is asked whether that is the rhythm
TAUGHT_DAYS = 3
DAILY = timedelta(days=2)
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
    """What this run saw of one account's export of one kind.

    `dataset_there`; `exporting`: whether Google's export may write to the dataset (None: that may not be read);
    `table_there`; `others`: tables of other accounts are there, which explain Google's access entry without this one;
    `fresh`: the newest export_time (None: no rows); `confirmed`: a second read agrees that the table is not there;
    `arrivals`: days on which the catalog shows that rows arrived; `older`: there are partitions from before those days.
    """

    dataset_there: bool
    exporting: bool | None
    table_there: bool
    others: bool = False
    fresh: datetime | None = None
    confirmed: bool = False
    arrivals: frozenset[date] = frozenset()
    older: bool = False


class Judge:
    """Walks down the ladder: dataset missing, console step not done, table pending, table stale, healthy."""

    def __init__(self, settings: GcpSettings) -> None:
        self._settings = settings

    def judge(self, account: str, kind: str, seen: Evidence, entry: TargetState | None, now: datetime) -> Observation:
        """Return what the evidence says, with the step for a person where there is one, and since when."""
        if seen.fresh is not None:
            return self._with_rows(account, kind, seen.fresh, seen, entry, now)
        if not seen.dataset_there:
            what = f"dataset {self._settings.dataset} is missing, so account {account} has no {kind} export"
            manual_step = self._guide(
                account, kind, f"{what}; the function creates the dataset, the step below is yours"
            )
            return Absent(("get",), f"{what}{_since(entry, now, 'dataset-missing')}", manual_step, "dataset-missing")
        was_there = _fact(entry, "fresh")
        if was_there is not None and not seen.table_there:
            return self._lost(account, kind, was_there, seen, _since(entry, now, LOST))
        if seen.table_there:
            return self._pending(account, kind, entry, now)
        if seen.exporting is None:
            return self._unreadable(account, kind)
        since = _since(entry, now, STEP)
        if not seen.exporting:
            detail = f"Google's export has no access entry in dataset {self._settings.dataset}{since}"
            return Absent(("access-entries",), detail, self._guide(account, kind, since=since), STEP)
        if seen.others:
            # The entry is there for the others' sake: of this account it says nothing.
            detail = f"no table of this account and kind, while other tables are there{since}"
            return Absent(("tables",), detail, self._guide(account, kind, since=since), STEP)
        return self._pending(account, kind, entry, now)

    def surprising(self, account: str, table: str, why: str) -> Observation:
        """Return what a table says that has not the published schema."""
        manual_step = schema_surprising(account, self._settings.dataset, table, why)
        return Present(health=Health.MANUAL, code="surprising-schema", detail=manual_step.what, manual_step=manual_step)

    def redirected(self, seen: Absent, account: str, kind: str, elsewhere: str) -> Absent:
        """Return the console step of an account whose export goes to another dataset of the project."""
        export, settings = EXPORTS[kind], self._settings
        manual_step = console_step(
            account, export.title, export.roles, settings.project, settings.dataset, elsewhere=elsewhere
        )
        return msgspec.structs.replace(seen, detail=manual_step.what, manual_step=manual_step, code=ELSEWHERE)

    def hidden(self, table: str, why: str, whole: bool) -> Observation:
        """Return what it means that the catalog counts rows which a query does not see.

        Where some are seen, the others may just have been deleted: that is waited out for a day.
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
        taught = len(days) >= TAUGHT_DAYS or any(later - before <= DAILY for before, later in pairwise(days))
        single = len(days) == 1 and not seen.older
        usual = RHYTHM if taught else ONE_ARRIVAL if single else UNTAUGHT
        limit = stale_after(usual, self._settings.engine, entry, days)
        if now - fresh < limit:
            return Present(delivered_at=fresh, facts=facts, silent_after=limit)
        code = SINGLE if single else "stale"
        since = _since(entry, now, code)
        export, settings = EXPORTS[kind], self._settings
        tell = delivered_once if code == SINGLE else export_stale
        manual_step = tell(account, kind, settings.dataset, export.principal, export.roles, fresh, since)
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
            detail = f"the console step is done, first rows are awaited since {began:%Y-%m-%d %H:%M} UTC"
            return Present(health=Health.PENDING, code=PENDING, detail=detail, facts=facts, first_data=True)
        what = (
            f"no rows of the {kind} export of account {account} since Google was admitted to dataset "
            f"{self._settings.dataset}, {began:%Y-%m-%d} UTC"
        )
        manual_step = self._guide(account, kind, what)
        return Present(health=Health.MANUAL, code=OVERDUE, detail=what, manual_step=manual_step, facts=facts)

    def _lost(self, account: str, kind: str, last: datetime, seen: Evidence, since: str) -> Observation:
        table = EXPORTS[kind].table_of(account)
        if not seen.confirmed:
            what = f"table {table} was there and is not listed; it is looked at once more"
            return Unknown("not-listed", what, remedy="Nothing: the next run looks at the table by its name.")
        what = f"table {table} of account {account} is gone; its last rows were of {last:%Y-%m-%d %H:%M} UTC{since}"
        return Absent(("list", "get"), what, self._guide(account, kind, what), LOST)

    def _unreadable(self, account: str, kind: str) -> Unknown:
        manual_step = entries_unreadable(account, kind, self._settings.dataset, RIGHT)
        return Unknown("rights", manual_step.what, manual_step, EscalationPolicy(tries=0))

    def _guide(self, account: str, kind: str, what: str = "", since: str = "") -> ManualStep:
        export, settings = EXPORTS[kind], self._settings
        manual_step = console_step(account, export.title, export.roles, settings.project, settings.dataset, what)
        return msgspec.structs.replace(manual_step, what=f"{manual_step.what}{since}") if since else manual_step


def _since(entry: TargetState | None, now: datetime, code: str) -> str:
    """Return since when the state is `code`, as the end of a sentence; empty where that is new."""
    if entry is None or entry.state != code or entry.since is None or now - entry.since < timedelta(hours=1):
        return ""
    return f" (since {entry.since:%Y-%m-%d %H:%M} UTC)"


def _fact(entry: TargetState | None, name: str) -> datetime | None:
    facts: Mapping[str, Any] = entry.facts if entry else {}
    return parse_time(facts.get(name))
