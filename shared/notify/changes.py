"""The messages that operators get after a run: the difference between what is open now and what was reported before.

What is open comes from the run's report, by the rules of `shared.monitor.history`; what was reported before is in the
state document. A message is about one change of state of any number of scopes, never about a run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.errors import clean
from shared.model import Enumeration, Outcome, Present, Result, ScopeState
from shared.monitor.history import FAILURE, MANUAL, judged_in, open_in
from shared.monitor.stored import StoredReport, stored_of
from shared.redaction import printable
from shared.report import RUNBOOK, remedy_for
from shared.state.document import StateDocument
from shared.state.notices import Notice, Notices, keep, week_of

EXAMPLES = 5  # scopes that a message names
SEPARATE = 3  # changes of one run that get a message each; more become one
TOGETHER = 100  # scopes; changes of different sorts that concern more become one message
LINES = 12  # of a message about many changes
WARN_BEFORE = timedelta(days=14)  # the second schedule of a week still leaves time to act
EXPIRY = "expiry"
SILENT = frozenset({"data-late", "data-missing"})
# The caller's own error, which the caller reads in the answer: no change of state.
OF_THE_CALL = frozenset({"unknown-scope", "plan-changed"})

OpenKey = tuple[str, str, str]  # what, scope ("": the run as a whole), code


class Open(msgspec.Struct, frozen=True, gc=False):
    """One thing that is open after a run: the sentence about it, what to do, and where."""

    text: str
    remedy: str = ""
    link: str = ""


# What a change is called: the beginning of a title for one scope, and for several.
_TITLES: Mapping[str, tuple[str, str]] = {
    "failure.opened": ("is failing", "are failing"),
    "failure.closed": ("has recovered", "have recovered"),
    "data.stopped": ("stopped delivering data", "stopped delivering data"),
    "data.returned": ("delivers data again", "deliver data again"),
    "manual.opened": ("needs you", "need you"),
    "manual.closed": ("no longer needs you", "no longer need you"),
    "exclusion.opened": ("is excluded", "are excluded"),
    "exclusion.closed": ("is no longer excluded", "are no longer excluded"),
    "expiry.opened": ("is about to expire", "are about to expire"),
}


class Wording(msgspec.Struct, frozen=True):
    """What one cloud and its scopes are called: ``AWS``, ``account``, ``accounts``."""

    title: str
    scope: str
    scopes: str


def record_changes(
    document: StateDocument,
    report: Mapping[str, Any],
    expiries: Mapping[OpenKey, Open],
    undecided: Collection[OpenKey],
    wording: Wording,
    now: datetime,
    *,
    limited: bool,
) -> None:
    """Compare what is open after a run with what was reported before, and add the messages owed to the document.

    `expiries` and `undecided` are those of `find_expiries`; a `limited` run looked at the requested scopes only.
    Without any notices yet, everything that is open now counts as a change: the first message says where things stand.
    """
    before = document.notices or Notices(now)
    stored = stored_of(report)
    current = {**_open(report, stored), **expiries}
    reported = {
        (what, scope, code)
        for name, scopes in before.open.items()
        for what, _, code in (name.rpartition(" "),)
        for scope in scopes
    }
    judged = _judged(stored, report, document, limited=limited)
    closed = {
        key
        for key in reported - current.keys()
        if _is_gone(document, key[1]) or (key[1] in judged and key not in undecided)
    }
    opened = current.keys() - reported
    if not opened and not closed:
        document.notices = before
        return
    # What fails differently has not recovered: only the new failure is said. That a warning ends says nothing more.
    still = {(what, scope) for what, scope, _ in (reported - closed) | opened}
    announced = {key for key in closed if (key[0], key[1]) not in still and key[0] != EXPIRY}
    groups = _groups("opened", opened) | _groups("closed", announced)
    made = _messages(groups, current, document, wording, f"{before.at.isoformat()} {document.owner}", now)
    left: dict[str, list[str]] = {}
    for what, scope, code in sorted((reported - closed) | opened):
        left.setdefault(f"{what} {code}", []).append(scope)
    document.notices = Notices(now, left, keep([*before.box, *made]), before.digest)


def record_digest(document: StateDocument, wording: Wording, now: datetime) -> None:
    """Add the digest of this ISO week to the messages owed, unless it was added before.

    Weeks without a run get no digest. If a run dies after sending it, the next run sends it again with the same id.
    """
    notices = document.notices or Notices(now)
    name = week_of(now)
    if notices.digest >= name:
        return
    from shared.monitor.overview import overview  # once a week, so that no cold start pays for it

    found = overview(document, (), now)
    notes = [note for note in document.runs if now - note.at < timedelta(days=7)]
    lines = [found["sentence"]]
    lines += [f"Needs you: {one['what']} ({one['count']:,}, {one['code']})" for one in found["must_do"]]
    lines += [f"Failing: {one['code']} ({one['count']:,}): {one['message']}" for one in found["failing"]]
    lines += [f"Excluded: {one['reason']} ({one['count']:,})" for one in found["excluded"]]
    if len(lines) >= LINES:
        left = len(lines) - LINES + 2
        lines = [*lines[: LINES - 2], f"{left} more: see `tailpipe-exports status {document.cloud}`."]
    lines.append(f"Last {len(notes)} runs: {sum(note.status == 'ok' for note in notes)} ok.")
    notice = Notice(
        id=_id(document.cloud, document.owner, "digest", name),
        at=now,
        event="digest",
        title=f"{wording.title}: week {name}",
        lines=[clean(one) for one in lines],
        count=found["scopes"]["active"],
    )
    document.notices = Notices(notices.at, notices.open, keep([*notices.box, notice]), name)


def find_expiries(
    enumeration: Enumeration | None, outcomes: Sequence[Outcome], document: StateDocument, now: datetime
) -> tuple[dict[OpenKey, Open], set[OpenKey]]:
    """Return what expires within WARN_BEFORE, and for what this run cannot decide it.

    Three things are known to a run: when a target stops by itself (`Present.ends`), until when a closed scope can be
    restored (`Scope.restorable`, counted from when it was first seen inactive), and by when a manual step has to be
    done (`ManualStep.before`). The first is undecided where the target's
    configuration was not read.
    """
    found: dict[OpenKey, Open] = {}
    undecided: set[OpenKey] = set()
    for outcome in outcomes:
        seen, key, step = outcome.action.observation, outcome.key, outcome.manual_step
        ending = (EXPIRY, key.scope, f"{key.kind}-ends")
        if not isinstance(seen, Present) or not seen.verified:
            undecided.add(ending)
        elif _is_near(seen.ends, now) and outcome.result is not Result.DONE:
            text = f"{key.kind} {key.name} ends on {seen.ends:%Y-%m-%d}{f': {seen.detail}' if seen.detail else ''}"
            found[ending] = Open(text, remedy_for(outcome.remedy, key.scope))
        if outcome.result is Result.MANUAL and step is not None and _is_near(step.before, now):
            text = f"{step.what}; do it before {step.before:%Y-%m-%d}, or data is lost permanently"
            found[EXPIRY, key.scope, outcome.code] = Open(text, " ".join(step.steps), step.url)
    for scope in enumeration.scopes if enumeration else ():
        known = document.scopes.get(scope.id)
        if scope.state is ScopeState.ACTIVE or scope.restorable is None or known is None or not known.inactive_since:
            continue
        last = known.inactive_since + scope.restorable
        if _is_near(last, now):
            text = f"it is {scope.reason or 'inactive'} and can be restored until {last:%Y-%m-%d} only"
            found[EXPIRY, scope.id, "restorable"] = Open(text, "Restore it in the cloud's console if it is needed.")
    return found, undecided


def _is_near(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and now < moment <= now + WARN_BEFORE


def _open(report: Mapping[str, Any], stored: StoredReport) -> dict[OpenKey, Open]:
    """Return what the report shows as open, each with its remedy or steps."""
    helps = {(FAILURE, one["scope"], one["code"]): (one["remedy"], "") for one in report["failures"]}
    helps |= {(MANUAL, one["scope"], one["code"]): (" ".join(one["steps"]), one["url"]) for one in report["manual"]}
    return {
        key: Open(text, *helps.get(key, ("", "")))
        for key, text in open_in(stored).items()
        if not (key[0] == FAILURE and key[2] in OF_THE_CALL)
    }


def _judged(stored: StoredReport, report: Mapping[str, Any], document: StateDocument, *, limited: bool) -> set[str]:
    """Return the scopes that the run checked completely; "" is the run as a whole, which a limited run leaves out."""
    judged = judged_in(stored)
    whole = stored.run_complete and report["enumeration_complete"] and not limited
    if not whole:
        return judged - {""}
    # What is open of a scope that is none (a unit that could not be listed) is settled by a whole run.
    open_scopes = document.notices.open.values() if document.notices else ()
    return judged | {scope for scopes in open_scopes for scope in scopes if scope not in document.scopes}


def _is_gone(document: StateDocument, scope: str) -> bool:
    known = document.scopes.get(scope)
    return known is not None and known.gone_at is not None


Groups = dict[tuple[str, str], list[OpenKey]]  # (event, code) → what changed


def _groups(change: str, keys: Iterable[OpenKey]) -> Groups:
    groups: Groups = {}
    for key in sorted(keys):
        groups.setdefault((_event(key, change), key[2]), []).append(key)
    return groups


def _event(key: OpenKey, change: str) -> str:
    what, _, code = key
    if what == FAILURE and code in SILENT:
        return "data.stopped" if change == "opened" else "data.returned"
    return f"{what.partition(' ')[0]}.{change}"


def _messages(
    groups: Groups, current: Mapping[OpenKey, Open], document: StateDocument, wording: Wording, seed: str, now: datetime
) -> list[Notice]:
    number = sum(len(keys) for keys in groups.values())
    if len(groups) <= SEPARATE and (len(groups) == 1 or number <= TOGETHER):
        return [_message(group, keys, current, document, wording, seed, now) for group, keys in groups.items()]
    ordered = sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))
    lines = [
        f"{_subject(keys, document, wording)} {_verb(event, keys)}: {code}{_named(keys, document)}"
        for (event, code), keys in ordered[:LINES]
    ]
    if len(ordered) > LINES:
        lines.append(f"{len(ordered) - LINES} more changes: see the report of the run.")
    identity = "\n".join(f"{event} {code} {key[1]}" for (event, code), keys in ordered for key in keys)
    return [
        Notice(
            id=_id(seed, identity),
            at=now,
            event="changes",
            title=f"{wording.title}: {number:,} changes",
            lines=lines,
            count=number,
        )
    ]


def _message(
    group: tuple[str, str],
    keys: Sequence[OpenKey],
    current: Mapping[OpenKey, Open],
    document: StateDocument,
    wording: Wording,
    seed: str,
    now: datetime,
) -> Notice:
    event, code = group
    about = current.get(keys[0])
    scopes = [key[1] for key in keys if key[1]]
    lines = [] if about is None else [about.text, about.remedy]
    return Notice(
        id=_id(seed, event, code, *(key[1] for key in keys)),
        at=now,
        event=event,
        title=f"{wording.title}: {_subject(keys, document, wording)} {_verb(event, keys)}: {code}",
        lines=[clean(one) for one in lines if one],
        code=code,
        count=len(keys),
        examples=[_name(scope, document) for scope in scopes[:EXAMPLES]],
        link=(about.link if about else "") or f"{RUNBOOK}#:~:text={code}",
    )


def _subject(keys: Sequence[OpenKey], document: StateDocument, wording: Wording) -> str:
    scope = keys[0][1]
    if len(keys) > 1:
        return f"{len(keys):,} {wording.scopes}"
    known = document.scopes.get(scope)
    if not scope or (known is not None and not known.counted):
        return "the deployment"
    return f"{wording.scope} {_name(scope, document)}"


def _verb(event: str, keys: Sequence[OpenKey]) -> str:
    return _TITLES[event][len(keys) > 1]


def _named(keys: Sequence[OpenKey], document: StateDocument) -> str:
    if len(keys) == 1:
        return ""
    names = [_name(key[1], document) for key in keys[:EXAMPLES]]
    more = f" and {len(keys) - EXAMPLES:,} more" if len(keys) > EXAMPLES else ""
    return f" ({', '.join(names)}{more})"


def _name(scope: str, document: StateDocument) -> str:
    """Return the sanitized name of a scope and its id."""
    known = document.scopes.get(scope)
    name = re.sub(r"\s+", " ", printable(known.name)).strip()[:80] if known else ""
    shown = printable(scope)[:200]
    return f"{name} ({shown})" if name and name != scope else shown


def _id(*parts: str) -> str:
    """Return an id that is the same whenever the same change of the same state is found."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
