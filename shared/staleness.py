"""How long after a delivery the next one is overdue, learned per target from the days on which its data arrived.

For adapters::

    stale_after(usual, settings, entry, arrivals=()) -> timedelta
    is_silent(last, now, usual, settings, entry, arrivals=()) -> bool

`usual` is the longest time between two deliveries by the cloud's documentation (`Target.rhythm`), `entry` what is
remembered of the target, `arrivals` further days on which data arrived, if a listing shows them anyway. The engine
itself records the day of each `Present.delivered_at` in `TargetState.arrivals`.

The rule: 1.5 times the longest gap between the known days, at least `usual`, and within STALE_MIN_HOURS and
STALE_MAX_HOURS. An account that is billed monthly is therefore not silent after two days, while one that delivered
daily is. Only the last DAYS_KEPT days count, so that the gap of an outage is soon forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from shared.settings import EngineSettings
from shared.target_state import TargetState

DAYS_KEPT = 10  # monthly data often arrives on several days at the month's start: ten days hold at least one such gap


def stale_after(
    usual: timedelta, settings: EngineSettings, entry: TargetState | None, arrivals: Iterable[datetime | date] = ()
) -> timedelta:
    """Return how long after a delivery the next one is overdue; see the module for the rule."""
    days = sorted({*(entry.arrivals if entry else ()), *map(_day, arrivals)})[-DAYS_KEPT:]
    longest = max((after - before for before, after in pairwise(days)), default=timedelta(0))
    shortest_limit, longest_limit = timedelta(hours=settings.stale_min_hours), timedelta(hours=settings.stale_max_hours)
    return min(max(longest * 3 / 2, usual, shortest_limit), longest_limit)


def is_silent(
    last: datetime | None,
    now: datetime,
    usual: timedelta,
    settings: EngineSettings,
    entry: TargetState | None,
    arrivals: Iterable[datetime | date] = (),
) -> bool:
    """Return whether data is overdue after a last delivery at `last`; without any delivery (None), it is not."""
    return last is not None and now - last >= stale_after(usual, settings, entry, arrivals)


def with_day(days: Sequence[date], moment: datetime) -> tuple[date, ...]:
    """Return the last DAYS_KEPT days on which data arrived, including that of `moment`, oldest first."""
    return tuple(sorted({*days, _day(moment)})[-DAYS_KEPT:])


def _day(moment: datetime | date) -> date:
    return moment.astimezone(UTC).date() if isinstance(moment, datetime) else moment
