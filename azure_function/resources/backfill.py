"""The backfill: each export delivers its past months once; a ledger in the state survives throttling and restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from azure_function.resources.billing_overlap import BillingOverlap
from azure_function.resources.deliveries import Deliveries
from azure_function.resources.export_calls import ExportCalls
from azure_function.resources.exports import Exports
from azure_function.settings import MOST_BACKFILL, AzureSettings
from azure_function.targets import BACKFILL, EXPORT, UP_TO_DATE, placement_of
from shared.errors import CloudError, NotApplicable, NotFound, Transient
from shared.model import Action, Health, Key, Observation, Present, Result, Target
from shared.monitor.months import Reach
from shared.parsing import parse_int, parse_time
from shared.periods import month_before, month_of, number_of, start_of
from shared.provider import Applied
from shared.resources import BulkOnly, one_by_one
from shared.runtime.context import RunContext
from shared.target_state import TargetState

LANDS = timedelta(hours=24)  # an execution is queued, and its month arrives within hours
TRIES = 3  # a month that was requested this often and never arrived has no data
LEDGER = "ledger"  # {YYYYMM: [number of requests, time of the last (ISO 8601)]}; delivered months are dropped
REACH = Reach(months=MOST_BACKFILL, tried=LEDGER, tries=TRIES)


class Backfill(BulkOnly):
    """Observes and writes the backfill targets; a month is complete when its blobs arrive.

    The call budget limits the months that one run may request, so that new and repaired exports come first.
    """

    kinds = (BACKFILL,)

    def __init__(
        self,
        settings: AzureSettings,
        run: RunContext,
        calls: ExportCalls,
        deliveries: Deliveries,
        overlap: BillingOverlap,
        exports: Exports,
    ) -> None:
        self._settings = settings
        self._run = run
        self._calls = calls
        self._deliveries = deliveries
        self._overlap = overlap
        self._exports = exports
        self._chosen: dict[Key, list[str]] = {}  # the months that this run may request

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Return for each export which months are missing, by the listing and the ledger; no call is made."""
        hidden = self._overlap.hidden(targets)
        targets = [target for target in targets if target.key not in hidden]
        left = self._settings.engine.call_budget or len(targets) * len(self.months())
        seen: dict[Key, Observation] = dict(hidden)
        # Targets that were never requested come first, then those that have waited longest.
        for target in sorted(targets, key=lambda one: (_last_asked(one.state), one.key)):
            due = self.due(target)
            works = self._exports.works(Key(target.key.scope, EXPORT.name, target.key.name))
            if not due:
                seen[target.key] = Present({"months": UP_TO_DATE}, **self._progress(target))
            elif not works or left <= 0:
                why = "waiting for the call budget" if works else "waiting for the export"
                seen[target.key] = self._closing(
                    Present(
                        {"months": UP_TO_DATE},
                        Health.PENDING,
                        code="backfill-waits",
                        detail=f"{len(due)} months: {why}",
                    ),
                    due,
                )
            else:
                chosen = self._chosen[target.key] = due[:left]  # the newest; the next run requests the others
                left -= len(chosen)
                requesting = f"{len(chosen)} of {len(due)} months to request"
                missing = Present({"months": f"missing: {', '.join(due)}"}, detail=requesting)
                seen[target.key] = self._closing(missing, due[len(chosen) :])
        return seen

    def due(self, target: Target) -> list[str]:
        """Return the months (YYYYMM, newest first) that have no blobs and no request in progress.

        Returns none for an export whose folder this run has not listed.
        """
        key, now = target.key, self._run.clock.now()
        if not self._is_listed(key):
            return []
        ledger = _ledger(target.state)
        there = self._there(key)
        return [month for month in self.months() if month not in there and not self._is_settled(ledger.get(month), now)]

    def months(self) -> list[str]:
        """Return the desired months, newest first; the schedule exports the present one."""
        if self._settings.requested_months:
            return [one.replace("-", "") for one in sorted(self._settings.requested_months, reverse=True)]
        now = self._run.clock.now()
        number = now.year * 12 + now.month - 1
        past = [number - back for back in range(1, self._settings.backfill_months + 1)]
        # Cost data goes back seven years: a month that begins earlier would be refused.
        return [f"{one // 12:04d}{one % 12 + 1:02d}" for one in past]

    def _closing(self, seen: Present, waiting: Sequence[str]) -> Present:
        """Return the observation, with `ends` if Azure delivers one of the `waiting` months only until then."""
        present = month_of(self._run.clock.now())
        oldest = month_before(present, MOST_BACKFILL)
        if oldest.replace("-", "") not in waiting:
            return seen
        ends = start_of(number_of(month_before(present, -1)) or 0)
        detail = f"{seen.detail}; {oldest} can be requested before {ends:%Y-%m-%d} only"
        return msgspec.structs.replace(seen, ends=ends, detail=detail)

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Request the missing months of each export, one call a month."""
        return one_by_one(self._request, actions)

    def _request(self, action: Action) -> Applied:
        """Request an export's missing months. Raises CloudError if not even the first was accepted."""
        target, key = action.target, action.target.key
        ledger = {month: kept for month, kept in _ledger(target.state).items() if month not in self._there(key)}
        asked = 0
        for month in self._chosen.get(key, ()):
            try:
                self._calls.execute(key, {"timePeriod": period(month)})
            except NotFound as error:
                remedy = "Nothing: the next run recreates the export and continues with the earlier months."
                raise Transient("export-missing", error.message, remedy, within_run=False) from error
            except CloudError as error:
                if isinstance(error, NotApplicable) or not asked:
                    raise
                # The accepted requests are recorded, so that the next run continues from here.
                return Applied(Result.PENDING, f"{asked} months requested, then: {error.message}", {LEDGER: ledger})
            asked += 1
            tries = parse_int(ledger.get(month, [0, ""])[0]) or 0
            ledger[month] = [tries + 1, self._run.clock.now().isoformat()]
        return Applied(Result.PENDING, f"{asked} months requested", {LEDGER: ledger})

    def _there(self, key: Key) -> set[str]:
        delivery = self._deliveries.of(placement_of(key).folder, key.name)
        return delivery.months if delivery else set()

    def _progress(self, target: Target) -> dict[str, Any]:
        key = target.key
        ledger, listed = _ledger(target.state), self._is_listed(key)
        there = self._there(key)
        missing = [month for month in (self.months() if listed else ledger) if month not in there]
        coming = [month for month in missing if _is_coming(ledger.get(month), self._run.clock.now())]
        if coming:
            return {
                "health": Health.PENDING,
                "code": "backfill-comes",
                "detail": f"{len(coming)} requested months have not arrived yet",
            }
        return {"detail": f"no data for {', '.join(missing)}"} if missing and listed else {}

    def _is_settled(self, kept: list[Any] | None, now: datetime) -> bool:
        """Return whether a month need not be requested; a month that the request names is requested again."""
        if kept is None or self._settings.requested_months:
            return _is_coming(kept, now)
        return _is_coming(kept, now) or (parse_int(kept[0]) or 0) >= TRIES

    def _is_listed(self, key: Key) -> bool:
        return self._deliveries.is_listed(placement_of(key).folder, key.name)


def period(month: str) -> dict[str, str]:
    """Return the first and last day of a month (YYYYMM) in the form that an execution requires."""
    year, number = int(month[:4]), int(month[4:])
    following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return {
        "from": f"{year:04d}-{number:02d}-01T00:00:00Z",
        "to": f"{following - timedelta(days=1):%Y-%m-%d}T00:00:00Z",
    }


def _ledger(entry: TargetState | None) -> Mapping[str, list[Any]]:
    kept = entry.facts.get(LEDGER) if entry else None
    if not isinstance(kept, dict):
        return {}
    return {month: one for month, one in kept.items() if isinstance(one, list) and len(one) == 2}


def _is_coming(kept: list[Any] | None, now: datetime) -> bool:
    asked = parse_time(kept[1]) if kept is not None else None
    return asked is not None and now - asked < LANDS


def _last_asked(entry: TargetState | None) -> str:
    return max((str(kept[1]) for kept in _ledger(entry).values()), default="")
