"""What the listing of an export's blobs shows of each month, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from shared.periods import EMPTY, Period, month_before, month_of, months_between
from shared.target_state import Count, Moment

LOOKED_BACK = 12  # a month with nothing in it is reported for so many months before the present one


class MonthFiles(msgspec.Struct, omit_defaults=True, gc=False):
    """The blobs of one month of one export: those of its newest `run`, and when the first of any run was written.

    Every run of an export has a folder of its own; where the export overwrites, Azure deletes those of earlier runs.
    The manifest is not counted: a month whose files are gone has none.
    """

    run: str
    files: Count
    bytes: Count
    first: Moment
    last: Moment

    def add(self, other: MonthFiles) -> None:
        """Take in further blobs of the same month, in any order of runs."""
        first = min(self.first, other.first)
        if other.run == self.run:
            self.files, self.bytes = self.files + other.files, self.bytes + other.bytes
            self.last = max(self.last, other.last)
        elif other.last > self.last:
            self.run, self.files, self.bytes, self.last = other.run, other.files, other.bytes, other.last
        self.first = first


def periods_of(
    months: Mapping[str, MonthFiles], now: datetime, *, whole: bool, since: datetime | None = None
) -> dict[str, Period]:
    """Return what is known of an export's months; `months` are those with blobs (``YYYYMM``).

    `whole`: everything that the export may have delivered was listed, so that a month without blobs is EMPTY, back to
    the earliest one that has some, and LOOKED_BACK months at least. `since` is when the export was first seen: one that
    delivered before and has no blobs at all has lost them. Azure does not say up to when a month is complete, so there
    is no watermark.
    """
    found = {
        f"{month[:4]}-{month[4:]}": Period(one.files, one.bytes, one.first, one.last) for month, one in months.items()
    }
    if not whole or not (found or since):
        return found
    present = month_of(now)
    begun = min(*found, month_before(present, LOOKED_BACK), *([month_of(since)] if since else []))
    last = present if since and not found else month_before(present)
    return dict.fromkeys(months_between(begun, last), EMPTY) | found
