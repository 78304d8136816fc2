"""Parses a trigger's payload into the request for a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from shared.errors import RequestError, cut
from shared.hints import Hints
from shared.parsing import is_id
from shared.periods import is_period
from shared.redaction import printable

MAX_SCOPES = 10_000
SHOWN = 20  # the number of invalid ids that are named


class Trigger(StrEnum):
    """What started a run."""

    TIMER = "timer"
    EVENT = "event"
    CALL = "call"


class RunRequest(msgspec.Struct, frozen=True):
    """What a run has to do.

    `dry_run`: plan and report, write nothing. `scopes`: only these ids (empty: all). `force`: recreate even where the
    guard refuses. `verify_all`: read every target's configuration regardless of the call budget, and retry what an
    earlier run deferred, as naming its scope does. `writes_hash`: stop before the first write unless the plan's writes
    have this hash (`Plan.writes_hash`; empty: any). `months`: deliver these past months (``YYYY-MM``) of the scopes
    again if they are missing; clouds that cannot refuse the request. `trigger`, and `hints` from the events behind the
    run, are set by the entry that was called, never by a caller's payload.
    """

    dry_run: bool = False
    scopes: tuple[str, ...] = ()
    force: bool = False
    verify_all: bool = False
    writes_hash: str = ""
    months: tuple[str, ...] = ()
    trigger: Trigger = Trigger.CALL
    hints: Hints | None = None


FLAGS = ("dry_run", "force", "verify_all")
HASH = "writes_hash"
KEYS = (*FLAGS, HASH, "months", "scopes")
MAX_MONTHS = 84
_SHA256 = re.compile(r"(?:[0-9a-f]{64})?", re.ASCII)


def parse_request(payload: object) -> RunRequest:
    """Return the request in `payload`: an object with any of the keys of `RunRequest`; None or empty is a full run.

    Raises RequestError that names every problem at once: unknown keys, wrong types, ids that are empty, malformed or
    too long. A repeated id counts once.
    """
    if payload is None or payload == "":
        return RunRequest()
    if not isinstance(payload, Mapping):
        raise RequestError([f"the request is a {type(payload).__name__}, not an object"])
    problems = [
        f"unknown key {printable(str(key))[:80]!r} (known: {', '.join(sorted(KEYS))})"
        for key in sorted(payload, key=str)
        if key not in KEYS
    ]
    problems += [
        f"{key!r} is {type(payload[key]).__name__}, not true or false"
        for key in FLAGS
        if key in payload and not isinstance(payload[key], bool)
    ]
    expected = payload.get(HASH, "")
    if not isinstance(expected, str) or not _SHA256.fullmatch(expected):
        problems.append(f"{HASH!r} is not a SHA-256 in 64 hexadecimal digits")
    months = payload.get("months", [])
    problems += _month_problems(months)
    problems += _scope_problems(payload.get("scopes", []))
    if problems:
        raise RequestError(problems)
    return RunRequest(
        scopes=tuple(dict.fromkeys(payload.get("scopes", []))),
        writes_hash=expected,
        months=tuple(sorted(set(months))),
        **{key: payload[key] for key in FLAGS if key in payload},
    )


def hinted(hints: Hints) -> RunRequest:
    """Return the request of a run for events."""
    return RunRequest(scopes=tuple(hints.scopes), trigger=Trigger.EVENT, hints=hints)


def refuse_months(request: RunRequest, why: str) -> None:
    """Raise RequestError if the request names months; for clouds that cannot deliver them."""
    if request.months:
        raise RequestError([f"'months': {why}"])


def _month_problems(months: Any) -> list[str]:
    if not isinstance(months, list):
        return [f"'months' is {type(months).__name__}, not a list of months"]
    if len(months) > MAX_MONTHS:
        return [f"'months' has {len(months)} entries, more than {MAX_MONTHS}"]
    return [
        f"'months'[{place}] is {cut(printable(str(one)), 40)!r}, not a month (YYYY-MM)"
        for place, one in enumerate(months)
        if not isinstance(one, str) or len(one) != 7 or not is_period(one)
    ]


def _scope_problems(scopes: Any) -> list[str]:
    if not isinstance(scopes, list):
        return [f"'scopes' is {type(scopes).__name__}, not a list of ids"]
    if len(scopes) > MAX_SCOPES:
        return [f"'scopes' has {len(scopes)} ids, more than {MAX_SCOPES}; leave it out for a full run"]
    wrong = [
        f"'scopes'[{place}] is {_what(scope)}, not an id" for place, scope in enumerate(scopes) if not is_id(scope)
    ]
    return wrong[:SHOWN] + ([f"and {len(wrong) - SHOWN} more of 'scopes'"] if len(wrong) > SHOWN else [])


def _what(scope: object) -> str:
    if not isinstance(scope, str):
        return type(scope).__name__
    return f"{cut(printable(scope), 40)!r}, which is too long or has invalid characters" if scope.strip() else "empty"
