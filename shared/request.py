"""Parses a trigger's payload into the request for a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from shared.errors import RequestError, cut
from shared.hints import Hints
from shared.parsing import is_id, is_tenant_id
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
    again if they are missing; clouds that cannot refuse the request. `tenant`: run for this tenant of the registry
    (empty: for the deployment's own cloud), as part of the round `round` if that is given. `trigger`, and `hints` from
    the events behind the run, are set by the entry that was called, never by a caller's payload.
    """

    dry_run: bool = False
    scopes: tuple[str, ...] = ()
    force: bool = False
    verify_all: bool = False
    writes_hash: str = ""
    months: tuple[str, ...] = ()
    tenant: str = ""
    round: str = ""
    trigger: Trigger = Trigger.CALL
    hints: Hints | None = None


class Step(StrEnum):
    """The two calls of a round that are not for one tenant."""

    BEGIN = "begin"
    END = "end"


class RoundRequest(msgspec.Struct, frozen=True):
    """Asks for the tenants of a new round, or for the report of the round `id`."""

    step: Step
    id: str = ""


FLAGS = ("dry_run", "force", "verify_all")
HASH = "writes_hash"
KEYS = (*FLAGS, HASH, "months", "round", "scopes", "tenant")
MAX_MONTHS = 84
_ROUND = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", re.ASCII)
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
    problems += _tenant_problems(payload)
    if problems:
        raise RequestError(problems)
    return RunRequest(
        tenant=payload.get("tenant", ""),
        round=payload.get("round", ""),
        scopes=tuple(dict.fromkeys(payload.get("scopes", []))),
        writes_hash=expected,
        months=tuple(sorted(set(months))),
        **{key: payload[key] for key in FLAGS if key in payload},
    )


def parse_round(payload: object) -> RoundRequest | None:
    """Return the request to begin or end a round; None if the payload does not ask for either.

    Raises RequestError that names every problem at once.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("round"), Mapping):
        return None
    given = payload["round"]
    problems = [f"unknown key {_shown(key)} beside 'round'" for key in payload if key != "round"]
    problems += [
        f"unknown key {_shown(key)} in 'round' (known: id, step)" for key in given if key not in ("id", "step")
    ]
    step, round_id = given.get("step"), given.get("id", "")
    if step not in tuple(Step):
        problems.append(f"'step' is {_shown(step)}, not one of {', '.join(Step)}")
    elif step == Step.END and not is_round_id(round_id):
        problems.append(f"'id' is {_shown(round_id)}, not the id of a round")
    elif step == Step.BEGIN and round_id:
        problems.append("'id' is given by the round that begins; leave it out")
    if problems:
        raise RequestError(problems)
    return RoundRequest(Step(str(step)), round_id)


def is_round_id(value: object) -> bool:
    """Return whether a value is the id of a round; it begins with its time (``20260105T000000Z-0000002a``)."""
    if not isinstance(value, str) or not _ROUND.fullmatch(value):
        return False
    try:
        round_start(value)
    except ValueError:
        return False
    return True


def round_start(round_id: str) -> datetime:
    """Return when a round began."""
    return datetime.strptime(round_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


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


def _tenant_problems(payload: Mapping[Any, Any]) -> list[str]:
    problems = []
    tenant, round_id = payload.get("tenant", ""), payload.get("round", "")
    if "tenant" in payload and not is_tenant_id(tenant):
        problems.append(f"'tenant' is {_shown(tenant)}, not the id of a tenant")
    if "round" in payload and not is_round_id(round_id):
        problems.append(f"'round' is {_shown(round_id)}, not the id of a round")
    if round_id and "tenant" not in payload:
        problems.append("'round' needs 'tenant'")
    return problems


def _shown(value: object) -> str:
    return repr(cut(printable(str(value)), 40)) if isinstance(value, str) else type(value).__name__


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
