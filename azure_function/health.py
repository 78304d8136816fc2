"""What an export's runs and its deliveries say of its health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.model import Guide, Health, Present

FRESH = timedelta(hours=36)  # exports run once a day, at no promised time; half a day is left for a late one
SILENT = timedelta(hours=48)  # first data comes within 24 h, for new subscriptions up to 48 h
SETTLES = timedelta(hours=24)  # an execution is queued, and its data lands within hours
FAILED_IN_A_ROW = 3
BAD = frozenset({"Failed", "Timeout"})
OVER = BAD | {"Completed", "NewDataNotAvailable", "DataNotAvailable"}
LONG_AGO = datetime.min.replace(tzinfo=UTC)
TROUBLE_URL = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"


class Sight(msgspec.Struct, frozen=True):
    """An export as it was read with its runs (newest first), the newest delivery, and what is remembered of it.

    `known` is false where deliveries could not be listed; `since` is when it was created or changed, if known.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    delivered: datetime | None
    known: bool
    since: datetime | None


def judged(sight: Sight, now: datetime) -> Present:
    """Return the health, without the managed fields.

    Three failed runs in a row, or two days of silence: BROKEN, so that one execution is tried; MANUAL when that has
    not helped within a day.
    """
    seen = Present(delivered_at=sight.delivered)
    over = [run for run in sight.runs if run.get("status") in OVER]
    last = over[0] if over else {}
    if any(run.get("status") not in BAD for run in over[:FAILED_IN_A_ROW]) or len(over) < FAILED_IN_A_ROW:
        if not _silent(sight, over, now):
            executed = {"executed_at": ""} if sight.facts.get("executed_at") and sight.delivered else {}
            return msgspec.structs.replace(seen, facts=executed, **_first(sight, now))
        code = "nothing-delivered"
        detail = f"nothing was delivered for two days{_told(last)}"
    else:
        code, detail = "runs-failed", f"the last {FAILED_IN_A_ROW} runs failed{_told(last)}"
    executed_at = moment(sight.facts.get("executed_at"))
    if executed_at is None:
        return msgspec.structs.replace(seen, health=Health.BROKEN, code=code, detail=detail)
    if now - executed_at < SETTLES:
        waiting = f"{detail}; executed {executed_at:%Y-%m-%d %H:%M} UTC, its outcome will show"
        return msgspec.structs.replace(seen, health=Health.PENDING, code=code, detail=waiting)
    guide = Guide(
        f"export {sight.name} is as it should be, but {detail}; one more execution did not help",
        (
            "See its run history in the portal, and whether the storage account's firewall admits exports.",
            "Open a support request for Cost Management, naming the export and its last run.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(seen, health=Health.MANUAL, code=code, detail=guide.what, guide=guide)


def _silent(sight: Sight, over: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    if not sight.known:
        return False
    # A run that found no new data is no silence: there was nothing to deliver.
    nothing_new = over and over[0].get("status") in ("NewDataNotAvailable", "DataNotAvailable")
    if nothing_new and now - (_ended(over[0]) or LONG_AGO) < SILENT:
        return False
    since = max((one for one in (sight.delivered, sight.since) if one is not None), default=None)
    return since is not None and now - since >= SILENT


def _first(sight: Sight, now: datetime) -> dict[str, Any]:
    """Return what to say of an export that has not delivered yet, within its normal time."""
    if sight.delivered is not None or sight.since is None or not sight.known:
        return {}
    return (
        {
            "health": Health.PENDING,
            "code": "first-delivery",
            "first_data": True,
            "detail": f"created or changed {sight.since:%Y-%m-%d %H:%M} UTC; first data comes within two days",
        }
        if now - sight.since < SILENT
        else {}
    )


def _told(run: Mapping[str, Any]) -> str:
    if not run:
        return "; it has not run yet"
    error = run.get("error") or {}
    why = f": {error.get('code', '')} {error.get('message', '')}".rstrip() if error else ""
    return f"; last run {run.get('status')}{why}"


def _ended(run: Mapping[str, Any]) -> datetime | None:
    return moment(run.get("processingEndTime") or run.get("submittedTime"))


def runs_of(export: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the properties of an export's runs by schedule and by hand, newest first; empty if not asked for."""
    history = (export.get("properties", {}).get("runHistory") or {}).get("value") or []
    runs = [one.get("properties") or {} for one in history]
    return sorted(runs, key=lambda run: moment(run.get("submittedTime")) or LONG_AGO, reverse=True)


def moment(value: Any) -> datetime | None:
    """Return a moment in UTC from Azure's text (up to seven decimals) or memory's; None for nothing or nonsense."""
    if not isinstance(value, str) or not value:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
