"""The periods of delivered data: months (``2026-01``), and days (``2026-01-05``) where the cloud delivers by day.

This module is below the model, because observations carry periods; the stored ledger of all is
`shared.state.deliveries`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime

import msgspec

_PERIOD = re.compile(r"(\d{4})-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01]))?", re.ASCII)


class Period(msgspec.Struct, frozen=True, gc=False):
    """What one period of one dataset holds, by evidence such as a listing of its files; None: not known.

    `files` and `bytes` count what is stored now; `first` and `last` are when data first and last arrived; `watermark`
    is the time up to which the cloud says that the data is complete. All times are in UTC.
    """

    files: int | None = None
    bytes: int | None = None
    first: datetime | None = None
    last: datetime | None = None
    watermark: datetime | None = None

    @property
    def has_data(self) -> bool:
        """Whether it holds data; a period whose number of files is not known is recorded only if it does."""
        return self.files != 0


EMPTY = Period(files=0)  # looked at, and holds no data: there never was any, or it is gone


def is_period(text: str) -> bool:
    """Return whether `text` is a month (``YYYY-MM``) or a day (``YYYY-MM-DD``) that exists."""
    return number_of(text) is not None


def number_of(period: str) -> int | None:
    """Return a period as the number YYYYMMDD, with the day 00 for a month; None for any other text."""
    match = _PERIOD.fullmatch(period)
    if match is None or match[1] == "0000":
        return None
    year, month, day = int(match[1]), int(match[2]), int(match[3] or 0)
    if day:
        try:
            date(year, month, day)
        except ValueError:
            return None
    return year * 10_000 + month * 100 + day


def period_of(number: int) -> str:
    """Return the period for a number from `number_of`."""
    year, month, day = number // 10_000, number // 100 % 100, number % 100
    return f"{year:04d}-{month:02d}-{day:02d}" if day else f"{year:04d}-{month:02d}"


def start_of(number: int) -> datetime:
    """Return when a period begins (UTC). Raises ValueError for an invalid number."""
    return datetime(number // 10_000, number // 100 % 100, number % 100 or 1, tzinfo=UTC)


def month_of(moment: date) -> str:
    """Return the month of a day or a moment."""
    return f"{moment.year:04d}-{moment.month:02d}"


def months_between(first: str, last: str) -> Iterator[str]:
    """Yield the months from `first` to `last`, both included, oldest first; none if `first` is later."""
    number, end = (int(one[:4]) * 12 + int(one[5:7]) - 1 for one in (first, last))
    while number <= end:
        yield f"{number // 12:04d}-{number % 12 + 1:02d}"
        number += 1


def month_before(month: str, count: int = 1) -> str:
    """Return the month `count` months before another; after it if `count` is negative."""
    number = max(12, int(month[:4]) * 12 + int(month[5:7]) - 1 - count)
    return f"{number // 12:04d}-{number % 12 + 1:02d}"
