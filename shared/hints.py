"""Hints from events about what may have changed, merged into one request for a run.

An event only makes a run start sooner: the run makes its own observations and acts on them. So a lost hint costs
latency, and a repeated, late or wrong one costs calls; neither changes the outcome.
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
MOST_SCOPES = 10_000  # with more scopes, a run looks at everything
OLDEST = timedelta(days=1)  # an older event does not count towards the time to heal
AHEAD = timedelta(minutes=5)  # how far ahead the clock of an event's source may be


class EventRefused(Exception):
    """An event that is not for this function: `code` is an entry of the runbook, `reason` what is wrong with it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Hint(msgspec.Struct, frozen=True, gc=False):
    """What one event says may have changed: targets of a kind (empty: of any kind) of a scope, and when (UTC).

    Without a `scope`, the event says only that something changed, and the run looks at everything.
    """

    scope: str = ""
    kind: str = ""
    at: datetime | None = None


class Hints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many hints, merged.

    `count` is the number of events. `scopes` maps each scope to the kinds of targets to look at (none: all kinds);
    without any scope, the run looks at everything. `oldest` is when the first of the events happened, None if no event
    has a plausible time. As JSON it is the value of ``hints`` in a request.
    """

    count: Annotated[int, msgspec.Meta(ge=1)]
    scopes: Mapping[str, tuple[str, ...]] = {}
    oldest: Moment | None = None

    def wants(self, key: Key) -> bool:
        """Return whether the run has to look at a target of a hinted scope."""
        kinds = self.scopes.get(key.scope, ())
        return not kinds or key.kind in kinds


Event = TypeVar("Event")
Found = TypeVar("Found")


def read_all(
    events: Iterable[Event],
    read: Callable[[Event], Found | None],
    sink: Callable[[str, str, Mapping[str, Any]], None],
    cloud: str,
) -> tuple[list[Found], int]:
    """Return what was read in many events, such as hints, and the number of refused events.

    `read` raises EventRefused for an event that it refuses. Refused events are logged to `sink` as ``event-refused``:
    one line for each code, with the first reason and the number of events.
    """
    found: list[Found] = []
    refused: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for event in events:
        try:
            one = read(event)
        except EventRefused as error:
            refused[error.code] += 1
            reasons.setdefault(error.code, error.reason)
            continue
        if one is not None:
            found.append(one)
    for code, count in sorted(refused.items()):
        sink("warning", "event-refused", {"cloud": cloud, "code": code, "reason": reasons[code], "count": count})
    return found, refused.total()


def merge(hints: Iterable[Hint], now: datetime) -> Hints | None:
    """Return all hints merged into one, or None without any. Order and repetition do not matter."""
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
    """Return the hints in a request. Raises RequestError if they are not valid."""
    try:
        found = msgspec.convert(document, Hints, strict=True)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as error:  # a lone surrogate is no text
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
    """Return the numbers of events and scopes in words."""
    return f"{hints.count} events about {f'{len(hints.scopes)} scopes' if hints.scopes else 'no scope in particular'}"


def gap_left(last: datetime | None, now: datetime) -> timedelta:
    """Return how long a run for events has to wait if the last such run began at `last`; zero if it need not."""
    if last is None or last > now:
        return timedelta(0)
    return max(timedelta(0), last + EVENT_GAP - now)


def latency(hints: Hints, now: datetime) -> timedelta | None:
    """Return the time from the first event until `now`, or None if it is not known."""
    return None if hints.oldest is None else max(timedelta(0), now - hints.oldest)


def _all_or(kinds: set[str]) -> tuple[str, ...]:
    return () if "" in kinds else tuple(sorted(kinds))
