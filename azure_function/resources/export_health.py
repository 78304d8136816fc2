"""Evaluates the health of an export from its runs and its deliveries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from azure_function.resources.manifests import ManifestContent
from shared.model import Health, ManualStep, Present
from shared.parsing import parse_time
from shared.target_state import LONG_AGO

FRESH = timedelta(hours=36)  # exports run once a day at no guaranteed time, so 12 hours are left for a late one
SILENT = timedelta(hours=48)  # the first delivery takes up to 24 h, for new subscriptions up to 48 h
SETTLES = timedelta(hours=24)  # an execution is queued, and its data arrives within hours
FAILED_IN_A_ROW = 3
BAD = frozenset({"Failed", "Timeout"})
NOTHING_NEW = frozenset({"NewDataNotAvailable", "DataNotAvailable"})
OVER = BAD | NOTHING_NEW | {"Completed"}
WITHOUT_ROWS = timedelta(days=5)  # the first days of a month may have no rows yet
# Facts: the time of the manifest that was read last; since when manifests have had no rows; what is missing from the
# last one; whether sizes in manifests equal those of the blobs; what is missing from earlier months, by month.
MANIFEST_READ, EMPTY_SINCE, INCOMPLETE, SIZED, LOST = "manifest", "empty_since", "incomplete", "sized", "lost"
TROUBLE_URL = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"


class ExportSnapshot(msgspec.Struct, frozen=True):
    """An export with its runs (newest first), its newest delivery, and the facts that the state remembers.

    `listed_at` is when deliveries were listed, None if they could not be. `since` is when the export was created or
    changed, if known. `filled` is when a delivery with rows last arrived, by the state; `stale` is how long after one
    the next is overdue. `path` is the scope's path in Resource Manager.
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


def evaluate_health(snapshot: ExportSnapshot, now: datetime) -> Present:
    """Return the health of an export, without the managed fields.

    Three failed runs in a row, no delivery in time, or a delivery with missing files: BROKEN, so that the function
    executes the export once; MANUAL if that has not helped within a day. No rows for WITHOUT_ROWS, because runs find no
    new data or deliver empty files: MANUAL if there were rows before, otherwise INACTIVE: there is nothing to export.
    """
    empty_since = parse_time(snapshot.facts.get(EMPTY_SINCE))
    seen = Present(delivered_at=None if empty_since else snapshot.delivered)
    over = [run for run in snapshot.runs if run.get("status") in OVER]
    last = over[0] if over else {}
    if len(over) >= FAILED_IN_A_ROW and all(run.get("status") in BAD for run in over[:FAILED_IN_A_ROW]):
        return _broken(seen, snapshot, now, "runs-failed", f"the last {FAILED_IN_A_ROW} runs failed{_last_run(last)}")
    wrong = str(snapshot.facts.get(INCOMPLETE) or "")
    if wrong and snapshot.delivered is not None:
        return _broken(seen, snapshot, now, "delivery-incomplete", f"its last delivery is incomplete: {wrong}")
    enough = max(WITHOUT_ROWS, snapshot.stale)
    if empty_since is not None and now - empty_since >= enough:
        return _without_rows(
            seen, snapshot, empty_since, f"its deliveries have had no rows since {empty_since:%Y-%m-%d}"
        )
    if _finds_nothing(over, now):
        since = _last_sign(snapshot)
        if snapshot.listed_at is not None and since is not None and snapshot.listed_at - since >= enough:
            text = f"its runs have found no data since {since:%Y-%m-%d}{_last_run(last)}"
            return _without_rows(seen, snapshot, since, text)
    elif _silent(snapshot):
        return _broken(seen, snapshot, now, "nothing-delivered", f"it delivered nothing for two days{_last_run(last)}")
    lost = snapshot.facts.get(LOST)
    if lost:
        return _with_lost(seen, snapshot.name, lost)
    executed = {"executed_at": ""} if snapshot.facts.get("executed_at") and snapshot.delivered else {}
    return msgspec.structs.replace(seen, facts=executed, **_first(snapshot, over, now))


def _broken(seen: Present, snapshot: ExportSnapshot, now: datetime, code: str, detail: str) -> Present:
    """Return BROKEN, so that one execution is tried, or a manual step if an execution has not helped."""
    executed_at = parse_time(snapshot.facts.get("executed_at"))
    if executed_at is None:
        return msgspec.structs.replace(seen, health=Health.BROKEN, code=code, detail=detail)
    if (snapshot.listed_at or now) - executed_at < SETTLES:
        waiting = f"{detail}; executed {executed_at:%Y-%m-%d %H:%M} UTC, waiting for its result"
        return msgspec.structs.replace(seen, health=Health.PENDING, code=code, detail=waiting)
    manual_step = ManualStep(
        f"export {snapshot.name} is configured correctly, but {detail}; another execution did not help",
        (
            "Check its run history in the portal, and whether the storage account's firewall allows exports.",
            "Check whether a person or a lifecycle rule deletes blobs in the export's folder.",
            "Open a support request for Cost Management with the name of the export and its last run.",
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
        f"export {name}: the files of {months} are missing although their manifests list them; {first}: {lost[first]}",
        (
            "Check whether a person or a lifecycle rule deletes blobs in the export's folder.",
            (
                "Run `tailpipe-exports backfill azure --missing`, or export the months in the portal: Exports, "
                "the export, Export selected dates."
            ),
            "If the files were deleted on purpose, delete their manifests as well.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(
        seen, health=Health.MANUAL, code="period-incomplete", detail=manual_step.what, manual_step=manual_step
    )


def _without_rows(seen: Present, snapshot: ExportSnapshot, since: datetime, detail: str) -> Present:
    had_rows = snapshot.filled is not None and (snapshot.filled < since or not snapshot.facts.get(EMPTY_SINCE))
    if not had_rows:
        detail = f"{detail}, and there never were any; if the subscription has costs, delete the export and run again"
        return msgspec.structs.replace(seen, health=Health.INACTIVE, code="no-cost-rows", detail=detail)
    manual_step = ManualStep(
        f"export {snapshot.name} no longer delivers data: {detail}",
        (
            "Check in Cost analysis whether the scope still has costs. If it has none, exclude it in the settings.",
            (
                "If it has, its agreement has probably changed (EA to MCA). Delete the export (az costmanagement "
                f"export delete --name {snapshot.name} --scope {snapshot.path.lstrip('/')}); the next run recreates it."
            ),
            "If the new export also stays empty, open a support request for Cost Management.",
        ),
        TROUBLE_URL,
    )
    return msgspec.structs.replace(
        seen, health=Health.MANUAL, code="data-stopped", detail=manual_step.what, manual_step=manual_step
    )


def _finds_nothing(over: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Return whether the last run is recent and found no new data, so that there was nothing to deliver."""
    return bool(over) and over[0].get("status") in NOTHING_NEW and now - (_ended(over[0]) or LONG_AGO) < SILENT


def _last_sign(snapshot: ExportSnapshot) -> datetime | None:
    signs = (snapshot.delivered, snapshot.filled, snapshot.since if snapshot.filled is None else None)
    return max((one for one in signs if one is not None), default=None)


def _silent(snapshot: ExportSnapshot) -> bool:
    """Return whether data was overdue when deliveries were last listed."""
    since = max((one for one in (snapshot.delivered, snapshot.since) if one is not None), default=None)
    return since is not None and snapshot.listed_at is not None and snapshot.listed_at - since >= snapshot.stale


def _first(snapshot: ExportSnapshot, over: Sequence[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """Return the fields of an export that has not delivered yet and is within its normal time."""
    if snapshot.delivered or snapshot.filled or snapshot.since is None or snapshot.listed_at is None:
        return {}
    if snapshot.listed_at - snapshot.since >= SILENT and not _finds_nothing(over, now):
        return {}
    return {
        "health": Health.PENDING,
        "code": "first-delivery",
        "first_data": True,
        "detail": f"created or changed {snapshot.since:%Y-%m-%d %H:%M} UTC; the first delivery takes up to two days",
    }


def news(written: datetime, content: ManifestContent, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes to the remembered facts after a manifest written at that time."""
    known: dict[str, Any] = {MANIFEST_READ: written.isoformat()}
    if content.empty != bool(facts.get(EMPTY_SINCE)):
        known[EMPTY_SINCE] = written.isoformat() if content.empty else ""
    if content.wrong != (facts.get(INCOMPLETE) or ""):
        known[INCOMPLETE] = content.wrong
    if content.sized and not facts.get(SIZED):
        known[SIZED] = True
    return known


def _last_run(run: Mapping[str, Any]) -> str:
    if not run:
        return "; it has not run yet"
    error = run.get("error") or {}
    why = " ".join(str(error[name]) for name in ("code", "message") if error.get(name))
    return f"; last run {run.get('status')}{f': {why}' if why else ''}"


def _ended(run: Mapping[str, Any]) -> datetime | None:
    return parse_time(run.get("processingEndTime") or run.get("submittedTime"))


def runs_of(export: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the properties of an export's runs, scheduled or manual, newest first; empty if they were not read."""
    history = (export.get("properties", {}).get("runHistory") or {}).get("value") or []
    runs = [one.get("properties") or {} for one in history]
    return sorted(runs, key=lambda run: parse_time(run.get("submittedTime")) or LONG_AGO, reverse=True)
