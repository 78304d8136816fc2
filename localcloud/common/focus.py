"""Rows of FOCUS data as a cloud delivers them: the columns of a version, each with a valid value.

Source: https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec, "Columns" of the versions 1.0 and 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from localcloud.common.data_file import read_table

# The form that FOCUS requires of a point in time, which is in UTC.
MOMENT = "%Y-%m-%dT%H:%M:%SZ"


class Column(msgspec.Struct, frozen=True):
    """A column, the version that introduced it, and a value that is valid in any row (empty: null)."""

    name: str
    value: str
    since: str = "1.0"


_COLUMNS = {one.name: one for one in read_table(__file__, "focus_columns.json", tuple[Column, ...])}


def columns(version: str) -> tuple[str, ...]:
    """Return the columns of a version such as ``1.0``, ``1.0r2`` or ``1.2-preview``."""
    return tuple(one.name for one in _COLUMNS.values() if one.since <= version[:3])


def row(names: Iterable[str], start: datetime, own: Mapping[str, str], moment: str = MOMENT) -> list[str]:
    """Return the values of these columns for an hour of usage from `start` on; `own` are the cloud's own values.

    Columns that are not part of FOCUS are empty unless `own` has them. `moment` is the form of a point in time.
    """
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    values = {name: one.value for name, one in _COLUMNS.items()} | {
        "BillingPeriodStart": month.strftime(moment),
        "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1).strftime(moment),
        "ChargePeriodStart": start.strftime(moment),
        "ChargePeriodEnd": (start + timedelta(hours=1)).strftime(moment),
        **own,
    }
    return [values.get(name, "") for name in names]
