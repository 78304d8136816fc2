"""What earlier runs recorded: a versioned, readable JSON document.

The document is never the source of truth: losing it costs only calls. Two documents merge per target, and the newest
observation wins, so that the order in which concurrent runs save does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

import msgspec

from shared.errors import RunStopped
from shared.model import Key, ScopeState, Target
from shared.state.notices import Notices, merge_notices
from shared.target_state import Count, Moment, TargetState

VERSION = 2
SIZE_LIMIT = 96 * 1024 * 1024  # bytes; 200,000 targets with deliveries take about 68 MB
INDENTED = 16 * 1024 * 1024  # bytes; a larger document is no longer read by people, and indentation is a quarter of it
RUNS_KEPT = 30


class ScopeRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """What is known about one scope.

    `missed` counts complete enumerations in a row in which it was not active. `counted` as in `Scope`. `coverage` is
    its class after the last run that looked at it, `data` what that run knew about its data (see `shared.coverage`).
    `inactive_since` is when it was first seen inactive after having been active. `labels` are the last ones read, in
    the bounds of `shared.labels`; None instead of an empty dictionary saves megabytes.
    """

    at: Moment
    name: str = ""
    state: str = ScopeState.ACTIVE.value
    first_seen: Moment | None = None
    last_seen: Moment | None = None
    missed: Count = 0
    gone_at: Moment | None = None
    targets: dict[str, TargetState] = {}
    counted: bool = True
    coverage: str = ""
    data: str = ""
    inactive_since: Moment | None = None
    labels: dict[str, str] | None = None


class RunNote(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line of the run history. Durations are seconds; the counts are scopes, `writes` are actions.

    `freshness_lag_h` is the freshness lag in hours (see `shared.state.summary`), None before any data. The cost of a
    run is estimated from its `calls` by quota and the size of its log and its report; notes of older versions lack
    these. A `limited` run was for events or for certain scopes only.
    """

    run_id: str
    at: Moment
    status: str
    duration_s: float = 0.0
    active: Count = 0
    covered: Count = 0
    pending: Count = 0
    deferred: Count = 0
    manual: Count = 0
    failed: Count = 0
    excluded: Count = 0
    writes: Count = 0
    freshness_lag_h: float | None = None
    calls: dict[str, Count] = {}
    log_lines: Count = 0
    log_bytes: Count = 0
    report_bytes: Count = 0
    limited: bool = False


class RunLock(msgspec.Struct, frozen=True):
    """The run that holds the lock, since when, and when the lock expires."""

    run_id: str
    since: Moment
    until: Moment


class StateDocument(msgspec.Struct, omit_defaults=True):
    """The whole document.

    `owner` is the organization, tenant or parent that all scopes belong to; `cycle_since` is when the current round of
    verification began (each round reads every target once). `notices` are the messages to operators, None if the
    function sends none. `ledger` is the digest of the periods that the ledger of deliveries recorded last: a run that
    observes the same periods need not read the ledger. `event_run_at` is when the last run for events began,
    `succeeded_at` what `last_success` returned after the last run, as `runs` may not reach that far.
    """

    version: int
    cloud: str = ""
    owner: str = ""
    updated_at: Moment | None = None
    cycle_since: Moment | None = None
    running: RunLock | None = None
    runs: list[RunNote] = []
    scopes: dict[str, ScopeRecord] = {}
    notices: Notices | None = None
    ledger: str = ""
    event_run_at: Moment | None = None
    succeeded_at: Moment | None = None

    def state_of(self, key: Key) -> TargetState | None:
        """Return what is known about a target, or None."""
        scope = self.scopes.get(key.scope)
        return scope.targets.get(f"{key.kind}/{key.name}") if scope else None

    def states_of(self, kind: str) -> Iterator[tuple[Key, TargetState]]:
        """Yield everything that is known about a kind, including what is not a target of this run."""
        prefix = f"{kind}/"
        for scope_id, scope in self.scopes.items():
            for name, state in scope.targets.items():
                if name.startswith(prefix):
                    yield Key(scope_id, kind, name.removeprefix(prefix)), state

    def pair(self, targets: Iterable[Target]) -> list[Target]:
        """Return the targets, each with its recorded state."""
        paired = list(targets)
        for place, target in enumerate(paired):  # one by one: both versions of 100,000 targets would cost 20 MB
            state = self.state_of(target.key)
            if state is not None:
                paired[place] = msgspec.structs.replace(target, state=state)
        return paired

    def last_success(self) -> datetime | None:
        """Return when the last run of everything that was ok began, or None.

        Runs for events or for certain scopes do not count: they say nothing of the rest, nor of the schedule.
        """
        times = [note.at for note in self.runs if note.status == "ok" and not note.limited]
        return max([*times, *([self.succeeded_at] if self.succeeded_at else [])], default=None)


T = TypeVar("T", TargetState, ScopeRecord, RunNote)


def fresh(cloud: str) -> StateDocument:
    """Return an empty document for a cold start."""
    return StateDocument(version=VERSION, cloud=cloud, runs=[], scopes={})


FOREIGN_REMEDY = (
    "Nothing was written. Check that the settings and credentials are this deployment's own. If the owner was changed "
    "on purpose, move the state object to another name: the next run begins anew from what exists, and loses nothing."
)


def move_owner(document: StateDocument, owner: str, formerly: Collection[str]) -> None:
    """Adopt what the same owner stored under a former name."""
    if document.owner in formerly:
        document.owner = owner


def check_owner(document: StateDocument, owner: str) -> None:
    """Raise RunStopped if the document belongs to another organization or tenant than `owner`."""
    if document.owner and document.owner != owner:
        raise RunStopped(
            "state-foreign",
            f"the state belongs to {document.owner[:80]!r}, the cloud shows {owner!r}",
            FOREIGN_REMEDY,
        )


def dump(document: StateDocument, now: datetime) -> bytes:
    """Return the document as JSON, with the last RUNS_KEPT runs only; indented unless it is very large."""
    document.updated_at = now
    document.runs = _last_runs(document.runs)
    try:
        data = msgspec.json.encode(document, order="sorted")
    except (UnicodeEncodeError, OverflowError):
        # Names and facts are external: a value that JSON cannot hold must not make the whole document unwritable.
        data = json.dumps(msgspec.to_builtins(document, order="sorted")).encode()
        data = re.sub(rb"\\ud[89a-f][0-9a-f]{2}", b"?", data)
    return msgspec.json.format(data, indent=1) if len(data) <= INDENTED else data


def merge(ours: StateDocument, theirs: StateDocument) -> StateDocument:
    """Return the union of two documents: for each target, scope and run, the entry touched last wins.

    Commutative, associative and idempotent: equal times are decided by content; the lock taken last wins. Raises
    RunStopped if the documents have different owners.
    """
    if ours.owner and theirs.owner:
        check_owner(theirs, ours.owner)
    merged = fresh(ours.cloud or theirs.cloud)
    merged.owner = ours.owner or theirs.owner
    merged.updated_at = max((one for one in (ours.updated_at, theirs.updated_at) if one), default=None)
    merged.cycle_since = max((one for one in (ours.cycle_since, theirs.cycle_since) if one), default=None)
    merged.event_run_at = max((one for one in (ours.event_run_at, theirs.event_run_at) if one), default=None)
    merged.succeeded_at = max((one for one in (ours.succeeded_at, theirs.succeeded_at) if one), default=None)
    merged.runs = _last_runs([*ours.runs, *theirs.runs])
    merged.notices = merge_notices(ours.notices, theirs.notices)
    merged.ledger = ours.ledger if ours.ledger == theirs.ledger else ""
    merged.scopes = {
        scope: _merge_scopes(ours.scopes.get(scope), theirs.scopes.get(scope))
        for scope in sorted(ours.scopes.keys() | theirs.scopes.keys())
    }
    locks = [one for one in (ours.running, theirs.running) if one is not None]
    merged.running = max(locks, key=lambda one: (one.since, one.run_id, one.until), default=None)
    return merged


def _merge_scopes(ours: ScopeRecord | None, theirs: ScopeRecord | None) -> ScopeRecord:
    newest = _newer(_bare(ours), _bare(theirs))
    one, other = (scope.targets if scope else {} for scope in (ours, theirs))
    newest.targets = {name: _newer(one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())}
    newest.first_seen = min((scope.first_seen for scope in (ours, theirs) if scope and scope.first_seen), default=None)
    return newest


def _bare(scope: ScopeRecord | None) -> ScopeRecord | None:
    return msgspec.structs.replace(scope, targets={}, first_seen=None) if scope else None


def _newer(one: T | None, other: T | None) -> T:
    present = [entry for entry in (one, other) if entry is not None]
    return max(present, key=lambda entry: (entry.at, msgspec.json.encode(entry, order="sorted")))


def _last_runs(runs: list[RunNote]) -> list[RunNote]:
    newest: dict[str, RunNote] = {}
    for note in runs:
        newest[note.run_id] = _newer(newest.get(note.run_id), note)
    return sorted(newest.values(), key=lambda note: (note.at, note.run_id))[-RUNS_KEPT:]
