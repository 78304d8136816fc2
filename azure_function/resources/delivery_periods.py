"""Computes the months of an export from the listing of its blobs, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from shared.periods import EMPTY, Period, month_before, month_of, months_between
from shared.target_state import Count, Moment

LOOKED_BACK = 12  # an empty month is reported if it is at most this many months before the current one


class MonthFiles(msgspec.Struct, omit_defaults=True, gc=False):
    """The blobs of one month of one export: number, bytes and last write of its newest run, first write of any run.

    Each run of an export has its own folder, `run`. If the export overwrites, Azure deletes the folders of earlier
    runs. The manifest is not counted, so a month with only a manifest has no files.
    """

    run: str
    files: Count
    bytes: Count
    first: Moment
    last: Moment

    def add(self, other: MonthFiles) -> None:
        """Add blobs of the same month, in any order of runs."""
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
    """Return the periods of an export by month (``YYYY-MM``); `months` are those with blobs (``YYYYMM``).

    `whole`: all deliveries of the export were listed. A month without blobs is then EMPTY, from the earliest month with
    blobs, at least LOOKED_BACK months back. `since` is when the export was first seen, if it has delivered: without any
    blobs, all its months since then are EMPTY. Azure does not report up to when a month is complete, so no period has a
    watermark.
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
