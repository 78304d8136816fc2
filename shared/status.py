"""What memory alone can tell: coverage as the last runs saw it, without any call to the cloud."""

from __future__ import annotations

from typing import Any

from shared.memory import Entry, Memory, ScopeEntry
from shared.model import Result, ScopeState


def remembered_status(memory: Memory) -> dict[str, Any]:
    """Return {cloud, owner, updated_at, running, last_run, last_success, scopes} as plain JSON data.

    `scopes` counts scopes like a report does: `total` known and not gone, `active`, and each active one in exactly one
    of `covered`, `deferred`, `manual` and `failed`. Times are ISO 8601 in UTC, or None.
    """
    known = [scope for scope in memory.scopes.values() if scope.gone_at is None]
    active = [scope for scope in known if scope.state == ScopeState.ACTIVE.value]
    counts = dict.fromkeys(("covered", "deferred", "manual", "failed"), 0)
    for scope in active:
        counts[_class_of(scope)] += 1
    last, success, running = (
        max(memory.runs, key=lambda note: note.at, default=None),
        memory.last_success(),
        memory.running,
    )
    return {
        "cloud": memory.cloud,
        "owner": memory.owner,
        "updated_at": memory.updated_at.isoformat() if memory.updated_at else None,
        "running": {"run_id": running.run_id, "since": running.since.isoformat()} if running else None,
        "last_run": {"run_id": last.run_id, "at": last.at.isoformat(), "status": last.status} if last else None,
        "last_success": success.isoformat() if success else None,
        "scopes": {"total": len(known), "active": len(active), **counts},
    }


def _class_of(scope: ScopeEntry) -> str:
    classes = [_entry_class(entry) for entry in scope.targets.values()]
    return next((one for one in ("failed", "manual", "deferred") if one in classes), "covered")


def _entry_class(entry: Entry) -> str:
    if entry.error is None:
        return "covered" if entry.present else "deferred"
    if entry.error.result in (Result.FAILED.value, Result.BLOCKED.value):
        return "failed"
    if entry.error.result == Result.MANUAL.value:
        return "manual"
    return "covered" if entry.error.result == Result.SKIPPED.value else "deferred"
