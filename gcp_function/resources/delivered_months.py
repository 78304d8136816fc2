"""Computes which months of an export hold data, from the partitions that a run lists anyway."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from gcp_function.resources.billing_tables import Month, TableSeen
from gcp_function.resources.copy_manifest import moment_of
from shared.periods import EMPTY, Period, is_period, month_before, month_of, months_between

MONTHS = 84  # the maximum that is looked back: the ledger keeps no more


def delivered_months(
    table: TableSeen, watermarks: Mapping[str, int], known_since: str, now: datetime
) -> dict[str, Period]:
    """Return the contents of each month of a table, from the oldest that ever held data to the present one.

    A month without partitions is EMPTY: its data was deleted, or never written. `files` counts daily partitions, and
    `bytes` are logical bytes. `first` is the oldest last-write time of the month's partitions, so it is the first
    arrival only if a run saw it soon. `watermarks` are the newest export_time (microseconds) by month; `known_since` is
    the oldest month that an earlier run saw, "" for none.
    """
    months, current = table.months(), month_of(now)
    known = [known_since] if is_period(known_since) and len(known_since) == len(current) else []
    since = max(min([*months, *known], default=current), month_before(current, MONTHS))
    if not months and not known:
        return {}
    return {month: _period(months.get(month), watermarks.get(month)) for month in months_between(since, current)}


def _period(month: Month | None, watermark: int | None) -> Period:
    if month is None:
        return EMPTY
    return Period(
        month.partitions,
        month.bytes,
        moment_of(month.first),
        moment_of(month.last),
        moment_of(watermark) if watermark else None,
    )
