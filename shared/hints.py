"""What events say may have changed, merged into one request for a run.

An event only makes a run sooner: the run observes for itself and acts on what it observes. So a hint that is lost costs
latency, one that is repeated, late or wrong costs calls, and neither changes the outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec

from shared.errors import RequestError
from shared.model import Key
from shared.parsing import is_id
from shared.redaction import printable
from shared.target_state import Moment

EVENT_GAP = timedelta(minutes=1)  # between the starts of two runs that events ask for
MOST_SCOPES = 10_000  # of more scopes everything is looked at
OLDEST = timedelta(days=1)  # an older event says nothing about how soon the function heals
AHEAD = timedelta(minutes=5)  # so far ahead may the clock of the event's source be


class EventRefused(Exception):
    """An event that is not for this function: `code` is an entry of the runbook, `reason` what is wrong with it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Hint(msgspec.Struct, frozen=True, gc=False):
    """What one event says may have changed: targets of a kind (empty: of any kind) of a scope, and when (UTC).

    Without a `scope` the event says only that something changed: everything is looked at.
    """

    scope: str = ""
    kind: str = ""
    at: datetime | None = None


class Hints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many hints, merged.

    `count` is the number of events. `scopes` has the kinds of targets to look at by scope (none: all of the scope's);
    without any scope everything is looked at. `oldest` is when the first of the events happened, None where no event
    said so, or none that can be believed. As JSON it is the value of ``hints`` in a request.
    """

    count: Annotated[int, msgspec.Meta(ge=1)]
    scopes: Mapping[str, tuple[str, ...]] = {}
    oldest: Moment | None = None

    def wants(self, key: Key) -> bool:
        """Return whether a target of a hinted scope is to be looked at."""
        kinds = self.scopes.get(key.scope, ())
        return not kinds or key.kind in kinds


Event = TypeVar("Event")


def read_all(
    events: Iterable[Event],
    read: Callable[[Event], Hint | None],
    sink: Callable[[str, str, Mapping[str, Any]], None],
    cloud: str,
) -> tuple[list[Hint], int]:
    """Return the hints in many events, and how many of the events were refused.

    `read` raises EventRefused for such an event; `sink` is that of a log. The refused ones are logged as
    ``event-refused``, one line for each code, with the reason of the first one and their number.
    """
    found: list[Hint] = []
    refused: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for event in events:
        try:
            hint = read(event)
        except EventRefused as error:
            refused[error.code] += 1
            reasons.setdefault(error.code, error.reason)
            continue
        if hint is not None:
            found.append(hint)
    for code, count in sorted(refused.items()):
        sink("warning", "event-refused", {"cloud": cloud, "code": code, "reason": reasons[code], "count": count})
    return found, refused.total()


def merge(hints: Iterable[Hint], now: datetime) -> Hints | None:
    """Return what all hints ask for together, in any order and however often each is repeated; None without any."""
    found = list(hints)
    if not found:
        return None
    believed = [one.at for one in found if one.at is not None and now - OLDEST <= one.at <= now + AHEAD]
    kinds: dict[str, set[str]] = {}
    for one in found:
        kinds.setdefault(one.scope, set()).add(one.kind)
    everything = "" in kinds or len(kinds) > MOST_SCOPES
    scopes = {} if everything else {scope: _all_or(named) for scope, named in sorted(kinds.items())}
    return Hints(len(found), scopes, min(believed, default=None))


def parse_hints(document: object) -> Hints:
    """Return the hints in a request. Raises RequestError that names what is wrong with them."""
    try:
        found = msgspec.convert(document, Hints, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RequestError([f"'hints': {printable(str(error))[:200]}"]) from error
    wrong = [scope for scope in found.scopes if not is_id(scope)]
    if wrong:
        raise RequestError([f"'hints' names {printable(wrong[0])[:80]!r}, which cannot be a scope's id"])
    if len(found.scopes) > MOST_SCOPES:
        return msgspec.structs.replace(found, scopes={})
    return found


def as_document(hints: Hints) -> dict[str, Any]:
    """Return the hints as the JSON value that `parse_hints` reads."""
    document: dict[str, Any] = msgspec.to_builtins(hints)
    return document


def describe(hints: Hints) -> str:
    """Return in words how many events there are, and about how many scopes."""
    return f"{hints.count} events about {f'{len(hints.scopes)} scopes' if hints.scopes else 'no scope in particular'}"


def gap_left(last: datetime | None, now: datetime) -> timedelta:
    """Return how long a run that events ask for has to wait, if the last such run began at `last`; zero: not at all."""
    if last is None or last > now:
        return timedelta(0)
    return max(timedelta(0), last + EVENT_GAP - now)


def latency(hints: Hints, now: datetime) -> timedelta | None:
    """Return the time from the first of the events until `now`, None where that is not known."""
    return None if hints.oldest is None else max(timedelta(0), now - hints.oldest)


def _all_or(kinds: set[str]) -> tuple[str, ...]:
    return () if "" in kinds else tuple(sorted(kinds))
