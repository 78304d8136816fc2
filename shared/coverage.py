"""Classifies each scope after a run, and determines whether its data arrives.

A scope has the worst class of its targets and of the targets that these need or rest on. Those often belong to another
scope: the accounts of an organization are covered no better than its one export. From best to worst:

``covered``   every target is as desired
``pending``   a write was accepted and is within its normal time (an export that awaits its first data is covered)
``deferred``  something waits, or a dry run would write it
``excluded``  the cloud refuses something permanently
``manual``    a manual step is open, or something is blocked until one is done
``failed``    something failed, or is blocked by what failed

Targets that do not apply, by the settings or by the cloud's own rules, do not affect their scope. A scope without any
other target is excluded: nothing is exported for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from shared.model import (
    AWAITING,
    CLASSES,
    DELIVERING,
    RESTS_ON,
    Enumeration,
    Key,
    Outcome,
    Present,
    Result,
    ScopeState,
    Target,
    Verdict,
)
from shared.settings import EngineSettings
from shared.staleness import is_silent, stale_after
from shared.state.document import StateDocument
from shared.target_state import TargetState

_FROM_BEST = ("covered", "pending", "deferred", "excluded", "manual", "failed")
NOTHING_WANTED, NOT_BEGUN = "not-applicable", "run-stopped"

_RANK = {
    Result.DONE: 0,
    Result.UNCHANGED: 0,
    Result.SKIPPED: 0,
    Result.PENDING: 1,
    Result.DEFERRED: 2,
    Result.PLANNED: 2,
    Result.EXCLUDED: 3,
    Result.MANUAL: 4,
    Result.BLOCKED: 5,
    Result.FAILED: 5,
}
_RESULTS = {result.value: result for result in Result}
# Flags for what is known about a target's data; a scope has the flags of all its targets.
_ARRIVES, _AWAITED, _SILENT = 1, 2, 4


class _Judged(msgspec.Struct, frozen=True, gc=False):
    rank: int
    code: str
    data: int


def classify(
    enumeration: Enumeration | None,
    outcomes: Sequence[Outcome],
    document: StateDocument,
    settings: EngineSettings,
    now: datetime,
    targets: Sequence[Target] = (),
) -> dict[str, Verdict]:
    """Return the verdict on every active scope that is counted, by id, in the enumeration's order.

    `targets` are all that must exist. If a run was limited to some of them, the state document covers the others.
    """
    if enumeration is None:
        return {}
    judge = _Judge(outcomes, document, settings, now, targets)
    of_scope: dict[str, _Judged] = {}
    for key in [*_looked_at(outcomes), *_left_out(outcomes, targets)]:
        found = judge.with_what_it_rests_on(key)
        known = of_scope.get(key.scope)
        of_scope[key.scope] = found if known is None else _worse(known, found)
    # A run that ended before its plan has no evidence about any scope.
    unknown = _Judged(_RANK[Result.EXCLUDED], NOTHING_WANTED, 0) if outcomes else _Judged(2, NOT_BEGUN, 0)
    return {
        scope.id: _verdict(of_scope.get(scope.id, unknown))
        for scope in enumeration.scopes
        if scope.counted and scope.state is ScopeState.ACTIVE
    }


def _looked_at(outcomes: Sequence[Outcome]) -> list[Key]:
    return [one.key for one in outcomes if one.result is not Result.SKIPPED or one.action.target.rests_on]


def _left_out(outcomes: Sequence[Outcome], targets: Sequence[Target]) -> list[Key]:
    """Return the targets that a run for events skipped in the scopes that it looked at."""
    if len(outcomes) >= len(targets):
        return []
    done = {outcome.key for outcome in outcomes}
    scopes = {key.scope for key in done}
    return [one.key for one in targets if one.key.scope in scopes and one.key not in done and not one.skip]


def _remembered_rank(result: str) -> int:
    # Documents of earlier versions record "skipped" for targets that the cloud refused.
    known = _RESULTS.get(result, Result.DEFERRED)
    return _RANK[Result.EXCLUDED if known is Result.SKIPPED else known]


def _worse(one: _Judged, other: _Judged) -> _Judged:
    worst = other if other.rank > one.rank else one
    return worst if one.data == other.data else _Judged(worst.rank, worst.code, one.data | other.data)


def _verdict(judged: _Judged) -> Verdict:
    data = DELIVERING if judged.data == _ARRIVES else AWAITING if judged.data & _AWAITED else ""
    return Verdict(_FROM_BEST[judged.rank], judged.code, data)


class _Judge:
    """Ranks each target together with the targets that it rests on."""

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        document: StateDocument,
        settings: EngineSettings,
        now: datetime,
        targets: Sequence[Target],
    ) -> None:
        self._outcomes = {outcome.key: outcome for outcome in outcomes}
        self._elsewhere = {one.key: one for one in targets if one.key not in self._outcomes}
        self._memory = document
        self._settings = settings
        self._now = now
        self._known: dict[Key, _Judged] = {}

    def with_what_it_rests_on(self, key: Key) -> _Judged:
        """Return the worst rank among a target and everything that it needs or rests on, directly or indirectly."""
        known = self._known.get(key)
        if known is not None:
            return known
        outcome = self._outcomes.get(key)
        # Recorded first, so that a cycle ends here.
        judged = self._known[key] = self._alone(outcome) if outcome else self._remembered(self._elsewhere[key])
        if outcome is not None and outcome.result is Result.BLOCKED and outcome.code == RESTS_ON:
            judged = self._known[key] = self._blocked(outcome, judged)
        for need in self._foundations(key, skipped=outcome is not None and outcome.result is Result.SKIPPED):
            judged = _worse(judged, self.with_what_it_rests_on(need))
        self._known[key] = judged
        return judged

    def _blocked(self, outcome: Outcome, judged: _Judged) -> _Judged:
        """Return the verdict on a write whose prerequisite is missing: no worse than that of the prerequisite."""
        needs = [key for key in outcome.action.target.needs if key in self._outcomes]
        worst = max((self.with_what_it_rests_on(key) for key in needs), key=lambda one: one.rank, default=judged)
        return _Judged(max(worst.rank, _RANK[Result.MANUAL]), judged.code, judged.data)

    def _foundations(self, key: Key, *, skipped: bool) -> list[Key]:
        target = self._target(key)
        needs = [] if skipped or target is None else list(target.needs)
        found = [need for need in needs if (one := self._target(need)) is not None and not one.kind.only_to_write]
        return found + [one for one in (target.rests_on if target else ()) if self._target(one) is not None]

    def _target(self, key: Key) -> Target | None:
        outcome = self._outcomes.get(key)
        return outcome.action.target if outcome else self._elsewhere.get(key)

    def _alone(self, outcome: Outcome) -> _Judged:
        rank = _RANK[outcome.result]
        seen = outcome.action.observation
        if outcome.result is Result.PENDING and isinstance(seen, Present) and seen.first_data:
            rank = 0
        return _Judged(rank, outcome.code, self._data(outcome))

    def _remembered(self, target: Target) -> _Judged:
        """Return the recorded state of a target that was not part of this run."""
        entry = self._memory.state_of(target.key)
        if target.skip:
            return _Judged(0, "", 0)
        if entry is None or (entry.error is None and not entry.present):
            return _Judged(_RANK[Result.DEFERRED], "not-looked-at", 0)
        trouble = entry.error
        rank = _remembered_rank(trouble.result) if trouble else 0
        data = 0
        if target.rhythm is not None and not trouble:
            silent = is_silent(entry.delivered_at, self._now, target.rhythm, self._settings, entry)
            data = _AWAITED if entry.delivered_at is None else _SILENT if silent else _ARRIVES
        return _Judged(rank, trouble.code if trouble else "", data)

    def _data(self, outcome: Outcome) -> int:
        rhythm = outcome.action.target.rhythm
        if rhythm is None or outcome.result in (Result.SKIPPED, Result.EXCLUDED):
            return 0
        entry = self._memory.state_of(outcome.key)
        last = last_delivery(outcome, entry)
        if last is None:
            return _AWAITED if outcome.result in (Result.DONE, Result.UNCHANGED, Result.PENDING) else _SILENT
        return _SILENT if _is_late(outcome, last, rhythm, self._now, self._settings, entry) else _ARRIVES


def last_delivery(outcome: Outcome, entry: TargetState | None) -> datetime | None:
    """Return when a target last delivered, as seen by this run or recorded before; None if it never did."""
    seen = outcome.action.observation
    moments = [seen.delivered_at if isinstance(seen, Present) else None, entry.delivered_at if entry else None]
    return max((moment for moment in moments if moment is not None), default=None)


def _is_late(
    outcome: Outcome,
    last: datetime,
    rhythm: timedelta,
    now: datetime,
    settings: EngineSettings,
    entry: TargetState | None,
) -> bool:
    seen = outcome.action.observation
    limit = seen.silent_after if isinstance(seen, Present) else None
    return now - last >= (limit or stale_after(rhythm, settings, entry))


class Silence(msgspec.Struct, frozen=True, gc=False):
    """The outcomes of targets whose data is overdue.

    `late`: it delivered before and has been silent for longer than its rhythm. `missing`: it exists, has never
    delivered, and its first delivery is overdue.
    """

    late: tuple[Outcome, ...]
    missing: tuple[Outcome, ...]


def find_silence(
    outcomes: Sequence[Outcome], document: StateDocument, settings: EngineSettings, now: datetime
) -> Silence:
    """Return the outcomes of all targets whose data is overdue."""
    late, missing = [], []
    for outcome in outcomes:
        rhythm = outcome.action.target.rhythm
        if rhythm is None or outcome.result in (Result.SKIPPED, Result.EXCLUDED):
            continue
        entry = document.state_of(outcome.key)
        last = last_delivery(outcome, entry)
        if last is not None:
            if _is_late(outcome, last, rhythm, now, settings, entry):
                late.append(outcome)
        elif entry is not None and entry.present:
            # Counted from its creation: a target that is repaired repeatedly would otherwise never count as missing.
            since = entry.created_at or entry.applied_at or document.scopes[outcome.key.scope].first_seen
            if since is not None and now - since >= stale_after(rhythm, settings, entry):
                missing.append(outcome)
    return Silence(tuple(late), tuple(missing))


def count_scopes(enumeration: Enumeration | None, verdicts: Mapping[str, Verdict]) -> dict[str, int]:
    """Return the numbers of scopes: total, active, each class, delivering and awaiting_first_data."""
    of_class = [verdict.coverage for verdict in verdicts.values()]
    of_data = [verdict.data for verdict in verdicts.values()]
    return {
        "total": sum(scope.counted for scope in enumeration.scopes) if enumeration else 0,
        "active": len(verdicts),
        **{name: of_class.count(name) for name in CLASSES},
        "delivering": of_data.count(DELIVERING),
        "awaiting_first_data": of_data.count(AWAITING),
    }
