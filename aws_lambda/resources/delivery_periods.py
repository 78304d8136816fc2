"""What the listing of an export's files shows of each billing period, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shared.parsing import parse_int
from shared.periods import EMPTY, Period, is_period


def listed_periods(
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    manifests: Mapping[str, Mapping[str, Any]],
    covered: Collection[str],
    marks: Mapping[str, str],
    incomplete: Collection[str],
) -> dict[str, Period]:
    """Return the periods that one listing shows, by month.

    `data` are the listed data files and `manifests` the newest manifest of each period, by folder and as ListObjectsV2
    returns them. `covered` are the months whose data files are all in the listing. For other months, `marks` of earlier
    comparisons have the number and bytes of the files, as long as the manifest is the same; those in `incomplete` lost
    files since and are left out. A period with a mark and without a manifest is EMPTY. AWS does not say up to when a
    period is complete, so there is no watermark.
    """
    periods = dict.fromkeys((month_of_folder(folder) for folder in marks), EMPTY)
    for folder, manifest in manifests.items():
        month = month_of_folder(folder)
        if month in covered:
            continue
        if folder in incomplete:
            periods.pop(month, None)
        else:
            periods[month] = _remembered(manifest, marks.get(folder, ""))
    periods |= dict.fromkeys(covered, EMPTY)
    written = {month_of_folder(folder): manifest for folder, manifest in manifests.items()}
    for folder, items in data.items():
        month = month_of_folder(folder)
        periods[month] = summary(items, written.get(month))
    periods.pop("", None)
    return periods


def summary(items: Sequence[Mapping[str, Any]], manifest: Mapping[str, Any] | None) -> Period:
    """Return number, bytes and times of the listed files of one period; EMPTY without files.

    AWS overwrites the files of a period, so `first` is the time of the oldest file that still exists. The `manifest`,
    if there is one, is the last object of a delivery.
    """
    if not items:
        return EMPTY
    times = [_time(one) for one in items]
    last = max([*times, _time(manifest)] if manifest else times)
    return Period(len(items), sum(int(one.get("Size", 0)) for one in items), min(times), last)


def _remembered(manifest: Mapping[str, Any], mark: str) -> Period:
    """Return a period whose files are not listed: its manifest's time, and the figures of a mark for this manifest."""
    tag, *figures = mark.rsplit(" ", 3)
    if tag != str(manifest["ETag"]) or len(figures) != 3:
        return Period(last=_time(manifest))
    return Period(parse_int(figures[0]), parse_int(figures[1]), last=_time(manifest))


def _time(item: Mapping[str, Any]) -> datetime:
    found: datetime = item["LastModified"]
    return found.astimezone(UTC)


def month_of_folder(folder: str) -> str:
    """Return the month of a folder such as ``BILLING_PERIOD=2026-01``, "" for any other folder."""
    month = folder.partition("/")[0].partition("=")[2]
    return month if is_period(month) else ""
