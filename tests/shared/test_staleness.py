"""When missing data is suspicious, by each target's own interval."""

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
    """Return an entry whose data arrived the given numbers of days before START."""
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
def test_limit_follows_the_interval(entry: TargetState | None, limit: timedelta) -> None:
    """It is 1.5 times the longest gap, at least what the cloud documents, and bounded."""
    assert stale_after(USUAL, LIMITS, entry) == limit


def test_limit_is_bounded_by_the_settings() -> None:
    """Both bounds apply, whatever was learned and documented."""
    narrow = EngineSettings(stale_min_hours=72, stale_max_hours=96)
    assert stale_after(USUAL, narrow, None) == timedelta(hours=72)
    assert stale_after(USUAL, narrow, remembering(0, 30)) == timedelta(hours=96)
    assert stale_after(HOUR, EngineSettings(stale_min_hours=2), None) == 2 * HOUR


def test_listed_days_count_in_addition_to_remembered_ones() -> None:
    """Days from the provider's listing show the interval of a scope without a history in the state."""
    shown = [START - 30 * DAY, START]
    assert stale_after(USUAL, LIMITS, None, shown) == stale_after(USUAL, LIMITS, remembering(0, 30))


def test_monthly_scope_is_not_silent_after_three_days() -> None:
    """A daily scope is."""
    daily, monthly = remembering(*range(8)), remembering(0, 30, 61)
    last, now = START, START + 3 * DAY
    assert is_silent(last, now, USUAL, LIMITS, daily)
    assert is_silent(last, last + USUAL, USUAL, LIMITS, daily)
    assert not is_silent(last, now, USUAL, LIMITS, monthly)
    assert is_silent(last, START + 46 * DAY, USUAL, LIMITS, monthly)
    assert not is_silent(None, now, USUAL, LIMITS, daily)


def test_outage_widens_the_limit_only_for_ten_days_of_deliveries() -> None:
    """A gap of twenty days no longer counts once the daily interval is observed again."""
    days: tuple[date, ...] = ()
    for age in (40, 20, *range(DAYS_KEPT - 1, -1, -1)):
        days = with_day(days, START - age * DAY)
    assert len(days) == DAYS_KEPT
    assert stale_after(USUAL, LIMITS, TargetState(at=START, arrivals=days)) == USUAL


def test_arrivals_are_distinct_utc_days_in_order() -> None:
    """Several deliveries of a day are one, and a late one is sorted in."""
    days = with_day(with_day(with_day([], START + 3 * HOUR), START + 9 * HOUR), START - DAY)
    assert days == (date(2026, 1, 4), date(2026, 1, 5))
    assert with_day([], datetime.fromisoformat("2026-01-05T23:30:00-05:00")) == (date(2026, 1, 6),)
