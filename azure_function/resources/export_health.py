"""What an export's runs and its deliveries say of its health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function.resources.manifests import Content
from shared.model import Health, ManualStep, Present
from shared.parsing import parse_time
from shared.target_state import LONG_AGO

FRESH = timedelta(hours=36)  # exports run once a day, at no promised time; half a day is left for a late one
SILENT = timedelta(hours=48)  # first data comes within 24 h, for new subscriptions up to 48 h
SETTLES = timedelta(hours=24)  # an execution is queued, and its data lands within hours
FAILED_IN_A_ROW = 3
BAD = frozenset({"Failed", "Timeout"})
NOTHING_NEW = frozenset({"NewDataNotAvailable", "DataNotAvailable"})
OVER = BAD | NOTHING_NEW | {"Completed"}
WITHOUT_ROWS = timedelta(days=5)  # the first days of a month may have no rows yet
# Facts: the time of the manifest that was read last, since when manifests have no rows, what the last one lacks, and
# whether sizes in its manifests are those of the blobs; and what the manifests of earlier months lack, by month.
MANIFEST_READ, EMPTY_SINCE, INCOMPLETE, SIZED, LOST = "manifest", "empty_since", "incomplete", "sized", "lost"
TROUBLE_URL = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"


class Sight(msgspec.Struct, frozen=True):
    """An export as it was read with its runs (newest first), the newest delivery, and what is remembered of it.

    `listed_at` is when deliveries were listed, None where they could not be; `since` is when it was created or changed,
    if known.
    `filled` is when a delivery with rows last came, by memory; `stale` how long after one the next is overdue. `path`
    is its scope's path in Resource Manager.
    """

    name: str
    runs: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    delivered: datetime | None
    listed_at: datetime | None
    since: datetime | None
    filled: datetime | None = None
    stale: timedelta = SILENT
    path: str = ""


def judged(sight: Sight, now: datetime) -> Present:
    """Return the health, without the managed fields.

    Three failed runs in a row, silence, or a delivery that lacks files: BROKEN, so that one execution is tried; MANUAL
    when that has not helped within a day. No rows for WITHOUT_ROWS, be it that runs find no new data or that they
    deliver empty files: MANUAL where there were rows before, otherwise INACTIVE, for there is nothing to export.
    """
    empty_since = parse_time(sight.facts.get(EMPTY_SINCE))
    seen = Present(delivered_at=None if empty_since else sight.delivered)
    over = [run for run in sight.runs if run.get("status") in OVER]
    last = over[0] if over else {}
    if len(over) >= FAILED_IN_A_ROW and all(run.get("status") in BAD for run in over[:FAILED_IN_A_ROW]):
        return _broken(seen, sight, now, "runs-failed", f"the last {FAILED_IN_A_ROW} runs failed{_told(last)}")
    wrong = str(sight.facts.get(INCOMPLETE) or "")
    if wrong and sight.delivered is not None:
        return _broken(seen, sight, now, "delivery-incomplete", f"its last delivery is not whole: {wrong}")
    enough = max(WITHOUT_ROWS, sight.stale)
    if empty_since is not None and now - empty_since >= enough:
        return _without_rows(seen, sight, empty_since, f"its deliveries have no rows since {empty_since:%Y-%m-%d}")
    if _finds_nothing(over, now):
        since = _last_sign(sight)
        if sight.listed_at is not None and since is not None and sight.listed_at - since >= enough:
            text = f"its runs find no data since {since:%Y-%m-%d}{_told(last)}"
            return _without_rows(seen, sight, since, text)
    elif _silent(sight):
        return _broken(seen, sight, now, "nothing-delivered", f"nothing was delivered for two days{_told(last)}")
    lost = sight.facts.get(LOST)
    if lost:
        return _with_lost(seen, sight.name, lost)
    executed = {"executed_at": ""} if sight.facts.get("executed_at") and sight.delivered else {}
    return msgspec.structs.replace(seen, facts=executed, **_first(sight, over, now))


def _broken(seen: Present, sight: Sight, now: datetime, code: str, detail: str) -> Present:
    """Return what one execution may cure; a person's step where one has not cured it."""
    executed_at = parse_time(sight.facts.get("executed_at"))
    if executed_at is None:
        return msgspec.structs.replace(seen, health=Health.BROKEN, code=code, detail=detail)
    if (sight.listed_at or now) - executed_at < SETTLES:
        waiting = f"{detail}; executed {executed_at:%Y-%m-%d %H:%M} UTC, its outcome will show"
        return msgspec.structs.replace(seen, health=Health.PENDING, code=code, detail=waiting)
    manual_step = ManualStep(
        f"export {sight.name} is as it should be, but {detail}; one more execution did not help",
        (
            "See its run history in the portal, and whether the storage account's firewall admits exports.",
            "See whether a person or a lifecycle rule deletes blobs below the export's folder.",
            "Open a support request for Cost Management, naming the export and its last run.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(
        seen, health=Health.MANUAL, code=code, detail=manual_step.what, manual_step=manual_step
    )


def _with_lost(seen: Present, name: str, lost: Mapping[str, str]) -> Present:
    months = ", ".join(sorted(lost)[:6])
    first = min(lost)
    manual_step = ManualStep(
        f"export {name}: the files of {months} are gone, and their manifests are there; {first}: {lost[first]}",
        (
            "See whether a person or a lifecycle rule deletes blobs below the export's folder.",
            "Run the export again for each month: in the portal, Exports, the export, Export selected dates.",
            "If they are to go, delete their manifests as well: then nothing is missed.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(
        seen, health=Health.MANUAL, code="period-incomplete", detail=manual_step.what, manual_step=manual_step
    )


def _without_rows(seen: Present, sight: Sight, since: datetime, detail: str) -> Present:
    had_rows = sight.filled is not None and (sight.filled < since or not sight.facts.get(EMPTY_SINCE))
    if not had_rows:
        told = f"{detail}, and it never had any; if the subscription has costs, delete the export and run again"
        return msgspec.structs.replace(seen, health=Health.INACTIVE, code="no-cost-rows", detail=told)
    manual_step = ManualStep(
        f"export {sight.name} brings no data any more: {detail}",
        (
            "See in Cost analysis whether the scope still has costs. If it has none, exclude it in the settings.",
            (
                "If it has, its agreement has probably changed (EA to MCA): delete the export (az costmanagement "
                f"export delete --name {sight.name} --scope {sight.path.lstrip('/')}); the next run creates it anew."
            ),
            "If the new export stays empty too, open a support request for Cost Management.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(
        seen, health=Health.MANUAL, code="data-stopped", detail=manual_step.what, manual_step=manual_step
    )


def _finds_nothing(over: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Return whether its last run, not long ago, found no new data: then there was nothing to deliver."""
    return bool(over) and over[0].get("status") in NOTHING_NEW and now - (_ended(over[0]) or LONG_AGO) < SILENT


def _last_sign(sight: Sight) -> datetime | None:
    signs = (sight.delivered, sight.filled, sight.since if sight.filled is None else None)
    return max((one for one in signs if one is not None), default=None)


def _silent(sight: Sight) -> bool:
    """Return whether data was overdue when deliveries were listed: what has come since then is not known."""
    since = max((one for one in (sight.delivered, sight.since) if one is not None), default=None)
    return since is not None and sight.listed_at is not None and sight.listed_at - since >= sight.stale


def _first(sight: Sight, over: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """Return what to say of an export that has not delivered yet, within its normal time."""
    if sight.delivered or sight.filled or sight.since is None or sight.listed_at is None:
        return {}
    if sight.listed_at - sight.since >= SILENT and not _finds_nothing(over, now):
        return {}
    return {
        "health": Health.PENDING,
        "code": "first-delivery",
        "first_data": True,
        "detail": f"created or changed {sight.since:%Y-%m-%d %H:%M} UTC; first data comes within two days",
    }


def news(written: datetime, content: Content, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a manifest that was written then adds to the remembered facts: no more than what has changed."""
    known: dict[str, Any] = {MANIFEST_READ: written.isoformat()}
    if content.empty != bool(facts.get(EMPTY_SINCE)):
        known[EMPTY_SINCE] = written.isoformat() if content.empty else ""
    if content.wrong != (facts.get(INCOMPLETE) or ""):
        known[INCOMPLETE] = content.wrong
    if content.sized and not facts.get(SIZED):
        known[SIZED] = True
    return known


def _told(run: Mapping[str, Any]) -> str:
    if not run:
        return "; it has not run yet"
    error = run.get("error") or {}
    why = " ".join(str(error[name]) for name in ("code", "message") if error.get(name))
    return f"; last run {run.get('status')}{f': {why}' if why else ''}"


def _ended(run: Mapping[str, Any]) -> datetime | None:
    return parse_time(run.get("processingEndTime") or run.get("submittedTime"))


def runs_of(export: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the properties of an export's runs by schedule and by hand, newest first; empty if not asked for."""
    history = (export.get("properties", {}).get("runHistory") or {}).get("value") or []
    runs = [one.get("properties") or {} for one in history]
    return sorted(runs, key=lambda run: parse_time(run.get("submittedTime")) or LONG_AGO, reverse=True)
