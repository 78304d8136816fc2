"""What the listing of an export's files shows of each billing period, for the ledger of deliveries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from shared.periods import EMPTY, Period, is_period


def listed_periods(
    data: Mapping[str, Sequence[Mapping[str, Any]]],
    manifests: Mapping[str, Mapping[str, Any]],
    covered: Collection[str],
    known: Iterable[str],
) -> dict[str, Period]:
    """Return the periods that one listing shows, by month.

    `data` are the listed data files and `manifests` the newest manifest of each period, by folder and as ListObjectsV2
    returns them. `covered` are the months whose data files are all in the listing; of other months it has only the
    manifest, so nothing but the manifest's time is known. `known` are the folders of periods that earlier runs saw:
    one without a manifest is EMPTY. AWS does not say up to when a period is complete, so there is no watermark.
    """
    periods = dict.fromkeys((month_of_folder(folder) for folder in known), EMPTY)
    for folder, manifest in manifests.items():
        periods[month_of_folder(folder)] = Period(last=manifest["LastModified"].astimezone(UTC))
    periods |= dict.fromkeys(covered, EMPTY)
    periods |= {month_of_folder(folder): summary(items) for folder, items in data.items()}
    periods.pop("", None)
    return periods


def summary(items: Sequence[Mapping[str, Any]]) -> Period:
    """Return number, bytes and times of the listed files of one period; EMPTY without files.

    AWS overwrites the files of a period, so that `first` is the time of the oldest file that is still there.
    """
    if not items:
        return EMPTY
    times = [one["LastModified"].astimezone(UTC) for one in items if "LastModified" in one]
    size = sum(int(one.get("Size", 0)) for one in items)
    return Period(len(items), size, min(times, default=None), max(times, default=None))


def month_of_folder(folder: str) -> str:
    """Return the month of a folder such as ``BILLING_PERIOD=2026-01``, "" for any other folder."""
    month = folder.partition("/")[0].partition("=")[2]
    return month if is_period(month) else ""
