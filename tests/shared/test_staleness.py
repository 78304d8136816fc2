"""When silence is suspicious, by each target's own rhythm."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from shared.settings import EngineSettings
from shared.staleness import DAYS_KEPT, is_silent, stale_after, with_day
from shared.target_state import TargetState
from tests.shared.builders import DAY, HOUR, START

USUAL = timedelta(hours=48)
LIMITS = EngineSettings()


def remembering(*ages: int) -> TargetState:
    """Return an entry whose data arrived so many days before START."""
    return TargetState(at=START, arrivals=tuple(sorted(START.date() - timedelta(days=age) for age in ages)))


@pytest.mark.parametrize(
    ("entry", "limit"),
    [
        pytest.param(None, USUAL, id="nothing is known"),
        pytest.param(remembering(0), USUAL, id="it delivered once"),
        pytest.param(remembering(*range(10)), USUAL, id="daily"),
        pytest.param(remembering(0, 1, 4, 5), 3 * DAY * 1.5, id="not on weekends"),
        pytest.param(remembering(0, 7, 14), 7 * DAY * 1.5, id="weekly"),
        pytest.param(remembering(0, 31, 61), 45 * DAY, id="monthly, bounded"),
        pytest.param(remembering(0, 1, 2, 29, 30, 31), 27 * DAY * 1.5, id="monthly, over several days"),
    ],
)
def test_the_limit_follows_the_rhythm(entry: TargetState | None, limit: timedelta) -> None:
    """Half as long again as the longest gap, never less than what the cloud documents, and bounded."""
    assert stale_after(USUAL, LIMITS, entry) == limit


def test_the_settings_bound_the_limit() -> None:
    """Both bounds hold, whatever was learned and documented."""
    narrow = EngineSettings(stale_min_hours=72, stale_max_hours=96)
    assert stale_after(USUAL, narrow, None) == timedelta(hours=72)
    assert stale_after(USUAL, narrow, remembering(0, 30)) == timedelta(hours=96)


def test_what_a_listing_shows_counts_beside_what_is_remembered() -> None:
    """Days from the adapter's own listing teach the rhythm of a scope that memory knows nothing of."""
    shown = [START - 30 * DAY, START]
    assert stale_after(USUAL, LIMITS, None, shown) == stale_after(USUAL, LIMITS, remembering(0, 30))


def test_a_monthly_scope_is_not_silent_where_a_daily_one_is() -> None:
    """Three days after the last delivery: late for one, and early for the other."""
    daily, monthly = remembering(*range(8)), remembering(0, 30, 61)
    last, now = START, START + 3 * DAY
    assert is_silent(last, now, USUAL, LIMITS, daily)
    assert not is_silent(last, now, USUAL, LIMITS, monthly)
    assert is_silent(last, START + 46 * DAY, USUAL, LIMITS, monthly)
    assert not is_silent(None, now, USUAL, LIMITS, daily)


def test_an_outage_is_forgotten_after_ten_days_of_deliveries() -> None:
    """A gap of twenty days widens the limit only until the daily rhythm is seen again."""
    days: tuple[date, ...] = ()
    for age in (40, 20, *range(DAYS_KEPT - 1, -1, -1)):
        days = with_day(days, START - age * DAY)
    assert len(days) == DAYS_KEPT
    assert stale_after(USUAL, LIMITS, TargetState(at=START, arrivals=days)) == USUAL


def test_arrivals_are_days_in_utc_each_once_in_order() -> None:
    """Several deliveries of a day are one, and a late one finds its place."""
    days = with_day(with_day(with_day([], START + 3 * HOUR), START + 9 * HOUR), START - DAY)
    assert days == (date(2026, 1, 4), date(2026, 1, 5))
    assert with_day([], datetime.fromisoformat("2026-01-05T23:30:00-05:00")) == (date(2026, 1, 6),)
