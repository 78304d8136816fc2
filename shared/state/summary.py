"""Summarizes the state document: coverage as the last runs recorded it, without calls to the cloud."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from shared.model import AWAITING, CLASSES, DELIVERING, ScopeState
from shared.state.document import ScopeRecord, StateDocument


def remembered_status(document: StateDocument) -> dict[str, Any]:
    """Return {cloud, owner, updated_at, running, last_run, last_success, scopes} as plain JSON data.

    `scopes` counts scopes as a report does, each by its class after the last run that looked at it; a scope without one
    is ``deferred``. Times are ISO 8601 in UTC, or None.
    """
    known = [scope for scope in document.scopes.values() if scope.gone_at is None and scope.counted]
    active = [scope for scope in known if is_active(scope)]
    of_class = [class_of(scope) for scope in active]
    of_data = [scope.data for scope in active]
    last, success, running = (
        max(document.runs, key=lambda note: note.at, default=None),
        document.last_success(),
        document.running,
    )
    return {
        "cloud": document.cloud,
        "owner": document.owner,
        "updated_at": document.updated_at.isoformat() if document.updated_at else None,
        "running": {"run_id": running.run_id, "since": running.since.isoformat()} if running else None,
        "last_run": {"run_id": last.run_id, "at": last.at.isoformat(), "status": last.status} if last else None,
        "last_success": success.isoformat() if success else None,
        "scopes": {
            "total": len(known),
            "active": len(active),
            **{name: of_class.count(name) for name in CLASSES},
            "delivering": of_data.count(DELIVERING),
            "awaiting_first_data": of_data.count(AWAITING),
        },
    }


def freshness_lag(document: StateDocument, now: datetime) -> timedelta | None:
    """Return how long the active scope with the oldest data has been without new data, None before any data.

    A scope counts once it has data; the newest arrival among its datasets counts.
    """
    arrivals = (
        max((one.delivered_at for one in scope.targets.values() if one.delivered_at), default=None)
        for scope in document.scopes.values()
        if scope.counted and is_active(scope)
    )
    oldest = min((at for at in arrivals if at), default=None)
    return max(timedelta(0), now - oldest) if oldest else None


def is_active(scope: ScopeRecord) -> bool:
    """Return whether a scope exists and takes part, as of the last run."""
    return scope.gone_at is None and scope.state == ScopeState.ACTIVE.value


def class_of(scope: ScopeRecord) -> str:
    """Return the class of a scope after the last run that looked at it, ``deferred`` without one."""
    return scope.coverage if scope.coverage in CLASSES else "deferred"
