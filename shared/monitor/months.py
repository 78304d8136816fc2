"""Which months of which dataset are there, and why one is not: the rules, as pure functions of the stored documents."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

from shared.periods import Period, month_before, month_of, months_between, number_of, start_of
from shared.state.deliveries import Ledger
from shared.state.document import ScopeRecord, StateDocument
from shared.state.summary import class_of, is_active
from shared.target_state import TargetState

MOST_MONTHS = 36
FEWEST_MONTHS = 13
DUE_AFTER = timedelta(hours=72)  # a month's first data comes within a day or two of its beginning
SAME_TIME = timedelta(days=1)  # scopes first seen within a day of the first one were there before the function
EXPORT = "export"  # the kind of target that delivers data, on every cloud


class Reach(msgspec.Struct, frozen=True):
    """How past months can be had of a cloud.

    `months`: how many past months it can still deliver on request; 0: none. `tried` names the fact of a target that
    counts the requests for each month (``{YYYYMM: [count, …]}``): after `tries` of them without data there is none.
    """

    months: int = 0
    tried: str = ""
    tries: int = 3


class State(StrEnum):
    """What is known of a month of a dataset."""

    DATA = "data"
    NOT_DUE = "not-due"  # too early, or the scope takes no part any more
    BEFORE_SCOPE = "before-scope"  # the scope joined later
    BEFORE_EXPORT = "before-export"  # the export was created later; the cloud can still deliver the month
    NOT_KEPT = "not-kept"  # the cloud cannot deliver it, or not any more
    LOST = "lost"  # it was there and is gone, or was due and never came
    UNKNOWN = "unknown"  # no run has looked at it


MEANING = {
    State.DATA: "data",
    State.NOT_DUE: "not due",
    State.BEFORE_SCOPE: "before the scope existed",
    State.BEFORE_EXPORT: "before the export existed; it can be filled",
    State.NOT_KEPT: "the cloud keeps none",
    State.LOST: "lost",
    State.UNKNOWN: "no run has looked yet",
}
MISSING = frozenset({State.BEFORE_EXPORT, State.LOST})


class Row(msgspec.Struct, frozen=True):
    """One dataset of one scope: the state of each month, and what the months with known contents hold."""

    scope: str
    name: str
    dataset: str
    states: Mapping[str, State]
    periods: Mapping[str, Period]

    def missing(self) -> list[str]:
        """Return the months that are missing, oldest first."""
        return [month for month, state in self.states.items() if state in MISSING]

    def requestable(self) -> list[str]:
        """Return the missing months but the present one, the last shown: its export delivers that one daily."""
        return [month for month in self.missing() if month != max(self.states)]


def by_month(periods: Mapping[str, Period]) -> dict[str, Period]:
    """Return the periods by month: days are added up, and give way to what is known of their whole month."""
    found: dict[str, Period] = {}
    for name, one in periods.items():
        month = name[:7]
        if month in periods:
            found[month] = periods[month]
        else:
            found[month] = _sum(found[month], one) if month in found else one
    return found


def _sum(one: Period, other: Period) -> Period:
    both = (one, other)
    firsts = [part.first for part in both if part.first]
    lasts = [part.last for part in both if part.last]
    marks = [part.watermark for part in both if part.watermark]
    return Period(
        None if one.files is None or other.files is None else one.files + other.files,
        None if one.bytes is None or other.bytes is None else one.bytes + other.bytes,
        min(firsts, default=None),
        max(lasts, default=None),
        max(marks, default=None),
    )


def columns(ledger: Ledger, now: datetime) -> list[str]:
    """Return the months that are shown: at least FEWEST_MONTHS, at most MOST_MONTHS, up to the present one."""
    present = month_of(now)
    first = min(ledger.oldest() or present, month_before(present, FEWEST_MONTHS - 1))
    return list(months_between(max(first, month_before(present, MOST_MONTHS - 1)), present))


def rows(
    document: StateDocument,
    ledger: Ledger,
    months: Sequence[str],
    now: datetime,
    reach: Reach,
    scopes: Collection[str] = (),
    dataset: str = "",
) -> Iterator[Row]:
    """Yield a row for each dataset of each scope that delivers or delivered, in order.

    `scopes` limits them to some ids (compared without regard to case), `dataset` to names that contain it.
    """
    wanted = {one.lower() for one in scopes}
    begun = min((one.first_seen for one in document.scopes.values() if one.first_seen), default=now)
    for scope_id, name in _series(document, ledger):
        if (wanted and scope_id.lower() not in wanted) or dataset.lower() not in name.lower():
            continue
        scope = document.scopes.get(scope_id) or ScopeRecord(at=now)
        known = by_month(ledger.periods(scope_id, name))
        joined = month_of(scope.first_seen) if scope.first_seen and scope.first_seen > begun + SAME_TIME else ""
        exports = {key: entry for key, entry in scope.targets.items() if key.partition("/")[2] == name}
        rule = _Rule(scope, exports, known, joined, now, reach)
        states = {month: rule.state_of(month) for month in months}
        yield Row(scope_id, scope.name, name, states, {month: known[month] for month in months if month in known})


def _series(document: StateDocument, ledger: Ledger) -> list[tuple[str, str]]:
    """Return what is to have months: all that the ledger knows, and exports that it does not know yet."""
    exports = (
        (scope_id, key.partition("/")[2])
        for scope_id, scope in document.scopes.items()
        for key, entry in scope.targets.items()
        if key.startswith(f"{EXPORT}/") and (entry.present or entry.delivered_at)
    )
    return sorted({*ledger.series(), *exports})


class _Rule:
    """Decides the state of the months of one dataset of one scope."""

    def __init__(
        self,
        scope: ScopeRecord,
        targets: Mapping[str, TargetState],
        known: Mapping[str, Period],
        joined: str,
        now: datetime,
        reach: Reach,
    ) -> None:
        self._known, self._joined, self._now, self._reach = known, joined, now, reach
        created = next((one.created_at for key, one in targets.items() if key.startswith(f"{EXPORT}/")), None)
        self._created = created
        self._takes_part = is_active(scope)
        self._refused = class_of(scope) == "excluded" and self._takes_part
        self._tried = _tried(targets.values(), reach)
        self._oldest = month_before(month_of(now), reach.months)
        self._last = max((month for month, one in known.items() if one.has_data), default="")

    def state_of(self, month: str) -> State:
        """Return what is known of a month (``YYYY-MM``)."""
        period = self._known.get(month)
        if period is not None and period.has_data:
            return State.DATA
        if self._refused:
            return State.NOT_KEPT
        if self._is_early(month) or (not self._takes_part and month > self._last):
            return State.NOT_DUE
        if month < self._joined:
            return State.BEFORE_SCOPE
        if month in self._tried or (period is None and month < self._oldest and self._is_before_export(month)):
            return State.NOT_KEPT
        if period is not None and period.first is not None:
            return State.LOST
        if self._is_before_export(month):
            return State.BEFORE_EXPORT if month >= self._oldest else State.NOT_KEPT
        return State.LOST if period is not None else State.UNKNOWN

    def _is_early(self, month: str) -> bool:
        if month != month_of(self._now):
            return month > month_of(self._now)
        begun = max(start_of(number_of(month) or 0), self._created or start_of(number_of(month) or 0))
        return self._now - begun < DUE_AFTER

    def _is_before_export(self, month: str) -> bool:
        return self._created is not None and month < month_of(self._created)


def _tried(entries: Collection[TargetState], reach: Reach) -> set[str]:
    """Return the months that were asked for as often as makes sense, and never came."""
    found = set()
    for entry in entries:
        asked = entry.facts.get(reach.tried) if reach.tried else None
        for month, kept in asked.items() if isinstance(asked, dict) else ():
            if isinstance(kept, list) and kept and isinstance(kept[0], int) and kept[0] >= reach.tries:
                found.add(f"{str(month)[:4]}-{str(month)[4:]}")
    return found


# One letter a month for the page: the worst of a scope's datasets.
_MARKS = {State.LOST: "0", State.BEFORE_EXPORT: "+", State.UNKNOWN: "?", State.DATA: "1"}
_WORST = "0+?1-"


def marks(found: Sequence[Row], months: Sequence[str]) -> str:
    """Return one letter a month for all datasets of a scope.

    ``0``: at least one is lost, ``+``: at least one is from before the export and can be filled, ``?``: of at least one
    nothing is known, ``1``: data, ``-``: none is expected.
    """
    letters = ([_MARKS.get(row.states[month], "-") for row in found] for month in months)
    return "".join(min(of_month, key=_WORST.index, default="-") for of_month in letters)


def month_documents(row: Row) -> dict[str, dict[str, Any]]:
    """Return the months of a row as plain JSON data: state, and what is known of the contents."""
    return {month: {"state": state.value, **_contents(row.periods.get(month))} for month, state in row.states.items()}


def _contents(period: Period | None) -> dict[str, Any]:
    if period is None:
        return {}
    times = {"first": period.first, "last": period.last, "watermark": period.watermark}
    return {
        "files": period.files,
        "bytes": period.bytes,
        **{name: f"{moment:%Y-%m-%dT%H:%MZ}" if moment else None for name, moment in times.items()},
    }


def spans(months: Sequence[str]) -> list[str]:
    """Return months as ranges for people: ``2026-01 to 2026-03``, ``2026-05``."""
    found: list[list[str]] = []
    for month in sorted(months):
        if found and month_before(month) == found[-1][-1]:
            found[-1].append(month)
        else:
            found.append([month])
    return [one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in found]
