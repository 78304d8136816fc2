"""Reads a stored document of this version or an older one, and salvages the intact parts of a damaged one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from shared.errors import RunStopped
from shared.state.document import FOREIGN_REMEDY, VERSION, RunNote, ScopeRecord, StateDocument, fresh
from shared.target_state import LONG_AGO, Moment, TargetState

FACTS_DEPTH = 16  # levels of nesting in the facts of a target
LONGEST_NUMBER = 19  # digits and sign; a longer number is damage
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
TOO_DEEP = "it is nested too deeply"
_REPEATED = ("state", *(one.name for one in msgspec.structs.fields(TargetState) if one.type in (Moment, Moment | None)))
S = TypeVar("S", bound=msgspec.Struct)
C = TypeVar("C", bound=Collection[Any])


class CorruptState(Exception):
    """The blob is not a state document; `reason` says why, without quoting its content."""


def parse(
    data: bytes,
    cloud: str,
    now: datetime,
    facts: Mapping[str, Any] | None = None,
    damaged: Callable[[str], None] | None = None,
) -> StateDocument:
    """Return the document in `data`, migrated from older versions.

    A bare JSON array of scope ids (version 1) becomes scopes about which nothing else is known, without a cloud. Damage
    within a document loses only the damaged part: a field, a fact of another type than `facts` gives for its name, a
    target, a run of the history; `damaged` is called with the reason. Raises CorruptState if it is not such a document,
    RunStopped if a newer version or another cloud wrote it.
    """
    try:
        head = msgspec.json.decode(data, type=list[str] | _Head)
    except UNREADABLE as error:
        raise CorruptState(_why(error)) from error
    if isinstance(head, list):
        return _from_ids(head, now)
    if head.version > VERSION:
        raise RunStopped(
            "state-newer",
            f"the state was written by format {head.version}, this function knows {VERSION}",
            "Deploy the newer function again, or remove the state: losing it costs calls only.",
        )
    if head.cloud not in ("", cloud):
        raise RunStopped("state-foreign", f"the state belongs to {head.cloud[:40]!r}, not {cloud!r}", FOREIGN_REMEDY)
    try:
        return _sound(msgspec.json.decode(data, type=StateDocument), facts or {})
    except UNREADABLE as error:
        if damaged is not None:
            damaged(_why(error))
        return _sound(_salvaged(data, cloud), facts or {})


def is_document(data: bytes) -> bool:
    """Return whether `data` is a complete JSON object or array, whatever it holds."""
    try:
        msgspec.json.decode(data, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except UNREADABLE:
        return False
    return True


def _salvaged(data: bytes, cloud: str) -> StateDocument:
    """Return the document without its damaged parts: each field, run, scope and target is checked separately.

    Raises CorruptState if not even its outline can be read.
    """
    try:
        raw = json.loads(data.decode("utf-8", "replace"), parse_int=_int, parse_float=_float, parse_constant=_none)
    except UNREADABLE as error:
        raise CorruptState(_why(error)) from error
    owner, scopes, runs = (raw.get(name, kind()) for name, kind in (("owner", str), ("scopes", dict), ("runs", list)))
    if not isinstance(owner, str) or "\ufffd" in owner or not isinstance(scopes, dict):
        raise CorruptState("its owner or its scopes are unreadable")
    document = _kept(raw, StateDocument, fresh(cloud), ("scopes", "runs"))
    document.runs = [note for one in _items(runs, list) if (note := _converted(one, RunNote)) is not None]
    for name, one in scopes.items():
        moments = [entry for entry in _items(one, dict).values() if _converted(entry, Moment) is not None]
        blank = ScopeRecord(at=_converted(moments[0], Moment) if moments else LONG_AGO)
        scope = _kept(one, ScopeRecord, blank, ("targets",))
        targets = _items(_items(one, dict).get("targets"), dict).items()
        scope.targets = {key: entry for key, value in targets if (entry := _converted(value, TargetState)) is not None}
        document.scopes[name] = scope
    return document


def _int(text: str) -> int | None:
    return int(text) if len(text) <= LONGEST_NUMBER else None


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _none(_text: str) -> None:
    return None


def _kept(raw: Any, kind: type[S], blank: S, apart: tuple[str, ...]) -> S:
    """Return `blank` with each intact field of the document, except those that are read separately."""
    types = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name not in apart}
    sound = {
        name: value
        for name, one in _items(raw, dict).items()
        if name in types and (value := _converted(one, types[name])) is not None
    }
    return msgspec.structs.replace(blank, **sound)


def _items(value: Any, kind: type[C]) -> C:
    return value if isinstance(value, kind) else kind()


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, OverflowError, RecursionError):
        return None


def _sound(document: StateDocument, facts: Mapping[str, Any]) -> StateDocument:
    """Return the document without facts that no adapter could read: of another type, or nested too deeply.

    `facts` gives the type of each fact by name; others are kept as they are. Equal names, times and codes, which the
    decoder makes anew for each target, become one object.
    """
    known: dict[Any, Any] = {}
    for scope in document.scopes.values():
        scope.targets = {known.setdefault(name, name): entry for name, entry in scope.targets.items()}
        for name, entry in scope.targets.items():
            for field in _REPEATED:
                value = getattr(entry, field)
                if value is not None:
                    msgspec.structs.force_setattr(entry, field, known.setdefault(value, value))
            wrong = [
                fact
                for fact, value in entry.facts.items()
                if _is_deep(value, FACTS_DEPTH - 1) or (fact in facts and not _is_sound(value, facts[fact]))
            ]
            if wrong:
                left = {fact: value for fact, value in entry.facts.items() if fact not in wrong}
                scope.targets[name] = msgspec.structs.replace(entry, remembered=left or None)
    return document


def _is_sound(value: Any, kind: Any) -> bool:
    return type(value) is kind or _converted(value, kind) is not None


class _Head(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=2)]
    cloud: str = ""


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return TOO_DEEP
    return str(error)[:200]


def _is_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(one, levels - 1) for one in inner)


def _from_ids(ids: list[str], now: datetime) -> StateDocument:
    document = fresh("")
    document.scopes = {scope: ScopeRecord(at=now, first_seen=now, targets={}) for scope in sorted(set(ids)) if scope}
    return document
