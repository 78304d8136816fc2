"""Removes times in the future from a loaded document: they would defer a target, or keep it healthy, for years."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from shared.state.document import ScopeRecord, StateDocument
from shared.state.notices import Notices, week_of
from shared.target_state import TargetState

SLACK = timedelta(days=1)  # how far ahead the clock of a host that wrote the state may be
LONGEST_HOLD = timedelta(days=31)  # the function itself never waits longer than a week
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def drop_times_ahead(document: StateDocument, now: datetime) -> int:
    """Remove times in the future from the document, in place; return how many entries had such times.

    A time is dropped, as if it had never been recorded; that of the entry itself becomes `now`, so that the next
    observation wins over it. A run in the future is dropped: it would count as the last success.
    """
    latest = now + SLACK
    last = latest.date()
    runs = [note for note in document.runs if note.at <= latest]
    found = len(document.runs) - len(runs)
    document.runs = runs
    for name in ("updated_at", "cycle_since", "event_run_at", "succeeded_at"):
        if (value := getattr(document, name)) is not None and value > latest:
            setattr(document, name, None)
            found += 1
    if document.notices is not None:
        found += _cure(document.notices, now)
    for scope_id, scope in document.scopes.items():
        wrong = _wrong(scope, now)
        if wrong:
            scope = document.scopes[scope_id] = msgspec.structs.replace(scope, **wrong)
            found += 1
        for name, entry in scope.targets.items():
            wrong = _wrong(entry, now)
            if entry.arrivals and max(entry.arrivals) > last:
                wrong["arrivals"] = tuple(day for day in entry.arrivals if day <= last)
            if entry.remembered and any(_is_ahead(fact, last) for fact in entry.remembered.values()):
                wrong["remembered"] = {key: fact for key, fact in entry.remembered.items() if not _is_ahead(fact, last)}
            if wrong:
                scope.targets[name] = msgspec.structs.replace(entry, **wrong)
                found += 1
    return found


def _cure(notices: Notices, now: datetime) -> int:
    """Set times in the future to `now`, drop a digest in the future, and return how many there were."""
    last, found = now + SLACK, 0
    if notices.at > last:
        notices.at = now
        found += 1
    if notices.digest > week_of(last):
        notices.digest = ""
        found += 1
    for place, one in enumerate(notices.box):
        wrong = {name: now for name in ("at", "sent_at") if (moment := getattr(one, name)) and moment > last}
        if wrong:
            notices.box[place] = msgspec.structs.replace(one, **wrong)
            found += 1
    return found


_TIMES = {
    kind: tuple(name for name, hint in kind.__annotations__.items() if hint.startswith("Moment"))
    for kind in (TargetState, ScopeRecord)
}


def _wrong(one: TargetState | ScopeRecord, now: datetime) -> dict[str, Any]:
    times = [(name, value) for name in _TIMES[type(one)] if (value := getattr(one, name)) is not None and value > now]
    return {
        name: now if name == "at" else None
        for name, value in times
        if value > now + (LONGEST_HOLD if name == "not_before" else SLACK)
    }


def _is_ahead(fact: Any, last: date) -> bool:
    """Return whether a fact is, or contains, a date or time in text after the day `last`."""
    if isinstance(fact, str):
        return bool(_DATE.match(fact)) and fact[:10] > last.isoformat()
    inner = fact.values() if isinstance(fact, dict) else fact if isinstance(fact, list) else ()
    return any(_is_ahead(one, last) for one in inner)
