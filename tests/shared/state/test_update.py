"""Updates of the state document from a run's observations and outcomes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.labels import bounded
from shared.model import (
    FORGET_AFTER,
    Absent,
    Enumeration,
    Health,
    Kind,
    Observation,
    Outcome,
    Present,
    Result,
    Scope,
    ScopeState,
    Stage,
    Unknown,
    Verb,
    Verdict,
)
from shared.runtime.log import Log
from shared.state.document import StateDocument, fresh
from shared.state.update import (
    LONGEST_WAIT,
    compact,
    has_new_delivery,
    record_coverage,
    record_outcome,
    record_scopes,
    retire,
)
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, GUIDE, HOUR, START, action, enumeration, key, known, outcome, remembering, target

NOW = START + DAY
MINUTE = timedelta(minutes=1)
FAILED_BEFORE = TargetState(
    at=START,
    present=True,
    attempts=2,
    waiting_since=START,
    not_before=NOW - HOUR,
    error=LastError("old", result="failed"),
    remembered={"id": 1},
)


def after(
    one: Outcome, entry: TargetState | None = None, now: datetime = NOW, *, refused: bool = False
) -> TargetState | None:
    """Return the target's entry after the outcome, or None."""
    memory = remembering({one.key: entry} if entry else {})
    record_outcome(memory, one, now, random.Random(3), refused=refused)
    return memory.state_of(one.key)


def updated(one: Outcome, entry: TargetState | None = None, *, refused: bool = False) -> TargetState:
    """Return the target's entry after the outcome; it must exist."""
    found = after(one, entry, refused=refused)
    assert found is not None
    return found


# --- observations --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "entry", "expected"),
    [
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()),
            None,
            {"present": True, "looked_at": NOW, "verified_at": NOW, "unseen_since": None},
            id="a read that shows it",
        ),
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(verified=False, delivered_at=START)),
            None,
            {"present": True, "looked_at": None, "verified_at": None, "delivered_at": START},
            id="delivered data is no read",
        ),
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(delivered_at=NOW)),
            TargetState(at=START, delivered_at=START, unseen_since=START),
            {"delivered_at": NOW, "unseen_since": None},
            id="evidence that is back",
        ),
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()),
            TargetState(at=START, delivered_at=START),
            {"delivered_at": START, "unseen_since": NOW},
            id="evidence that is lost",
        ),
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()),
            TargetState(at=START, delivered_at=START, unseen_since=START + HOUR),
            {"unseen_since": START + HOUR},
            id="evidence that stays lost since the first time",
        ),
        pytest.param(
            outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Unknown("denied"), attempted=True),
            TargetState(at=START, present=True, verified_at=START),
            {"present": True, "looked_at": NOW, "verified_at": START},
            id="a failed read proves nothing",
        ),
        pytest.param(
            outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Unknown("denied"), attempted=True),
            TargetState(at=START, delivered_at=START),
            {"delivered_at": START, "unseen_since": NOW},
            id="evidence that is lost while reading is refused",
        ),
        pytest.param(
            outcome(Result.DEFERRED, verb=Verb.DEFER, reason="write-cap", observation=Absent()),
            TargetState(at=START, present=True),
            {"present": False, "looked_at": NOW, "verified_at": NOW},
            id="a proven absence",
        ),
        pytest.param(
            outcome(Result.PENDING, verb=Verb.KEEP, reason="pending", observation=Absent()),
            TargetState(at=START, present=True, applied_at=START),
            {"present": True, "verified_at": NOW},
            id="an absence within the grace",
        ),
        pytest.param(
            outcome(Result.EXCLUDED, verb=Verb.SKIP, observation=Present(health=Health.INACTIVE)),
            None,
            {"present": None, "looked_at": NOW},
            id="what the cloud refuses is not present",
        ),
        pytest.param(
            outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(facts={"types": ["a"]})),
            TargetState(at=START, remembered={"id": 1, "types": []}),
            {"facts": {"id": 1, "types": ["a"]}},
            id="facts are added to what was known",
        ),
    ],
)
def test_observation_is_recorded(one: Outcome, entry: TargetState | None, expected: dict[str, Any]) -> None:
    """This includes presence, the times of reads and deliveries, and facts."""
    found = updated(one, entry)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.at == NOW


def test_target_that_was_not_observed_keeps_its_entry() -> None:
    """A target outside the call budget is neither verified nor removed."""
    entry = TargetState(at=START, present=True, state="test", verified_at=START, looked_at=START, remembered={"id": 1})
    found = updated(outcome(Result.UNCHANGED, verb=Verb.KEEP), entry)
    assert found == TargetState(**{**entry_fields(entry), "at": NOW})


def entry_fields(entry: TargetState) -> dict[str, Any]:
    """Return the fields of an entry."""
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def test_unknown_target_of_an_inactive_scope_gets_no_entry() -> None:
    """Suspended scopes do not fill the document."""
    assert after(outcome(Result.SKIPPED, verb=Verb.SKIP)) is None


# --- outcomes ------------------------------------------------------------------------------------

SETTLED = {"waiting_since": None, "not_before": None, "attempts": 0, "error": None}


@pytest.mark.parametrize("result", [Result.DONE, Result.PENDING])
@pytest.mark.parametrize("verb", [Verb.CREATE, Verb.REPAIR, Verb.ADOPT])
def test_accepted_write_clears_the_wait(verb: Verb, result: Result) -> None:
    """The target is present since now, and keeps its facts."""
    looked = Absent() if verb is Verb.CREATE else Present(facts={"version": 2})
    found = updated(outcome(result, verb=verb, observation=looked, attempted=True, facts={"op": 3}), FAILED_BEFORE)
    assert {name: getattr(found, name) for name in SETTLED} == SETTLED
    assert (found.present, found.applied_at) == (True, NOW)
    assert found.facts == {"id": 1, "op": 3} | ({} if verb is Verb.CREATE else {"version": 2})


def test_target_without_drift_clears_the_wait_without_a_grace() -> None:
    """An operator has repaired it."""
    found = updated(outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()), FAILED_BEFORE)
    assert {name: getattr(found, name) for name in SETTLED} == SETTLED
    assert found.applied_at is None


def test_target_that_was_not_observed_keeps_its_wait() -> None:
    """It keeps its error too."""
    found = updated(outcome(Result.UNCHANGED, verb=Verb.KEEP), FAILED_BEFORE)
    assert (found.attempts, found.error, found.waiting_since) == (2, FAILED_BEFORE.error, START)


@pytest.mark.parametrize("result", [Result.FAILED, Result.DEFERRED, Result.MANUAL, Result.EXCLUDED])
def test_failed_attempt_doubles_the_wait(result: Result) -> None:
    """The not-before time doubles from five minutes up to a day, within a fifth; a refusal does not wait."""
    entry: TargetState | None = None
    now = NOW
    waits = []
    for attempt in range(1, 12):
        entry = after(outcome(result, attempted=True), entry, now)
        assert entry is not None
        assert entry.not_before is not None
        assert (entry.attempts, entry.waiting_since) == (attempt, None if result is Result.EXCLUDED else NOW)
        waits.append((entry.not_before - now) / MINUTE)
        now = entry.not_before
    expected = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]
    assert [0.79 <= wait / want <= 1.21 for wait, want in zip(waits, expected, strict=True)] == [True] * 11
    assert timedelta(hours=24) == LONGEST_WAIT


def test_wait_requested_by_the_cloud_replaces_the_back_off() -> None:
    """The target is not tried earlier."""
    assert updated(outcome(Result.DEFERRED, attempted=True, retry_after=7 * DAY)).not_before == NOW + 7 * DAY


@pytest.mark.parametrize(
    "one",
    [
        outcome(Result.DEFERRED, code="deadline"),
        outcome(Result.BLOCKED, code="rests-on"),
        outcome(Result.DEFERRED, verb=Verb.DEFER, code="write-cap", observation=Absent()),
        outcome(Result.DEFERRED, verb=Verb.DEFER, code="not-looked-at"),
        outcome(Result.MANUAL, verb=Verb.MANUAL, observation=Unknown("denied")),
    ],
)
def test_target_that_was_not_tried_is_due_immediately(one: Outcome) -> None:
    """The next run may try it, and knows since when it has been due."""
    found = updated(one)
    assert (found.waiting_since, found.not_before, found.attempts) == (NOW, None, 0)
    assert updated(one, found).waiting_since == NOW


def test_error_is_recorded_with_its_manual_step() -> None:
    """The next run can report it again without a call."""
    one = outcome(Result.MANUAL, code="off", message="m", remedy="r", manual_step=GUIDE, attempted=True)
    assert updated(one).error == LastError(
        "off", "m", "r", "manual", "it is broken", ["Mend it."], "https://console.example/mend"
    )


def test_waiting_action_keeps_its_error() -> None:
    """Count, time and reason do not change."""
    entry = TargetState(
        at=START, attempts=2, waiting_since=START, not_before=NOW + HOUR, error=LastError("old", result="failed")
    )
    one = outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Absent(), waits=True, code="old")
    found = updated(one, entry)
    assert (found.attempts, found.waiting_since, found.not_before, found.error) == (
        2,
        START,
        NOW + HOUR,
        entry.error,
    )


def test_read_before_the_not_before_time_is_not_an_attempt() -> None:
    """A requested write always counts."""
    entry = TargetState(at=START, attempts=2, waiting_since=START, not_before=NOW + HOUR)
    read = updated(outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Unknown("busy"), attempted=True), entry)
    write = updated(outcome(Result.DEFERRED, verb=Verb.CREATE, attempted=True), entry)
    assert (read.attempts, read.not_before) == (2, NOW + HOUR)
    due = msgspec.structs.replace(entry, not_before=NOW)
    read = updated(outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Unknown("busy"), attempted=True), due)
    assert read.attempts == 3
    assert write.attempts == 3


def test_start_of_the_current_state_is_recorded() -> None:
    """The state is the reason of the last action."""
    one = outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(), code="as-wanted")
    first = updated(one)
    assert (first.state, first.since) == ("as-wanted", NOW)
    again = after(one, first, NOW + HOUR)
    assert again is not None
    assert (again.since, again.at) == (NOW, NOW + HOUR)
    other = after(outcome(Result.FAILED, code="denied"), again, NOW + DAY)
    assert other is not None
    assert (other.state, other.since) == ("denied", NOW + DAY)


@pytest.mark.parametrize(
    "one",
    [
        outcome(Result.BLOCKED, verb=Verb.BLOCK, observation=Absent(), code="vanished"),
        outcome(Result.MANUAL, verb=Verb.MANUAL, observation=Absent(), code="absent"),
    ],
)
def test_refused_plan_keeps_targets_as_present(one: Outcome) -> None:
    """Otherwise the next run would not count them as vanished and would create them all."""
    found = updated(one, TargetState(at=START, present=True, attempts=1), refused=True)
    assert (found.present, found.attempts, found.looked_at) == (True, 1, NOW)
    assert updated(one, TargetState(at=START, present=True)).present is False


def test_blocked_write_of_a_refused_plan_does_not_begin_to_wait() -> None:
    """The plan as a whole was refused, not this target; what is only reported is recorded as always."""
    blocked = outcome(Result.BLOCKED, verb=Verb.BLOCK, observation=Absent(), code="vanished")
    manual = outcome(Result.MANUAL, verb=Verb.MANUAL, observation=Absent(), code="absent")
    for one, waits in ((blocked, False), (manual, True)):
        found = updated(one, TargetState(at=START, present=True), refused=True)
        assert (found.waiting_since is not None, found.error is not None) == (waits, waits)


def test_creations_are_counted_until_the_target_is_seen() -> None:
    """Many that are accepted without an effect are a failure."""
    once = after(outcome(Result.DONE))
    again = after(outcome(Result.DONE), once, NOW + HOUR)
    assert once is not None
    assert again is not None
    assert (once.creations, again.creations) == (1, 2)
    assert (again.awaited_since, again.created_at) == (NOW, NOW + HOUR)
    seen = updated(outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()), again)
    assert (seen.creations, seen.awaited_since) == (0, None)


def test_target_of_an_unlisted_scope_is_recorded() -> None:
    """The destination may belong to no enumerated scope."""
    memory = fresh("memory")
    record_outcome(memory, outcome(Result.DONE, "owner", attempted=True), NOW, random.Random(1))
    assert memory.scopes["owner"].first_seen == NOW


# --- scopes --------------------------------------------------------------------------------------


class History:
    """Enumerations one hour apart, recorded in one state document."""

    def __init__(self, memory: StateDocument | None = None) -> None:
        self.memory = memory or fresh("memory")
        self.events: list[tuple[str, str]] = []
        self.now = START

    def enumerate_scopes(self, shown: Enumeration, times: int = 1) -> None:
        """Enumerate these scopes."""

        def sink(_: str, event: str, fields: Mapping[str, Any]) -> None:
            self.events.append((event, fields["scope"]))

        for _ in range(times):
            record_scopes(self.memory, shown, self.now, Log(sink, "run", "memory"))
            self.now += HOUR


SUSPENDED = Enumeration("org-1", (Scope("s1"), Scope("s2", state=ScopeState.INACTIVE, reason="SUSPENDED")))


@pytest.mark.parametrize("without", [enumeration("s1"), SUSPENDED], ids=["not listed", "listed as suspended"])
def test_scope_is_gone_after_three_complete_enumerations(without: Enumeration) -> None:
    """It is logged once, and its state is kept."""
    history = History(known(key("s2")))
    history.enumerate_scopes(enumeration("s1", "s2"))
    for missed in (1, 2):
        history.enumerate_scopes(without)
        assert (history.memory.scopes["s2"].missed, history.memory.scopes["s2"].gone_at) == (missed, None)
    history.enumerate_scopes(without)
    gone = history.memory.scopes["s2"]
    assert (gone.state, gone.gone_at) == ("gone", START + 3 * HOUR)
    assert history.memory.state_of(key("s2")) is not None
    history.enumerate_scopes(without, 5)
    assert gone.gone_at == START + 3 * HOUR
    assert history.events == [("scope-gone", "s2")]


def test_returning_scope_is_active_with_its_state() -> None:
    """It must be missing three times again to be gone."""
    history = History(known(key("s2")))
    history.enumerate_scopes(enumeration("s1", "s2"))
    history.enumerate_scopes(enumeration("s1"), 4)
    history.enumerate_scopes(enumeration("s1", "s2"))
    back = history.memory.scopes["s2"]
    assert (back.state, back.missed, back.gone_at, back.first_seen) == ("active", 0, None, START)
    assert history.memory.state_of(key("s2")) == TargetState(at=START, present=True)
    history.enumerate_scopes(enumeration("s1"), 2)
    assert back.gone_at is None
    assert history.events == [("scope-gone", "s2"), ("scope-returned", "s2")]


def test_only_consecutive_misses_count() -> None:
    """Occasional misses do not add up."""
    history = History()
    for _ in range(5):
        history.enumerate_scopes(enumeration("s1", "s2"))
        history.enumerate_scopes(enumeration("s1"), 2)
    assert history.events == []


def test_incomplete_enumeration_does_not_count_as_a_miss() -> None:
    """It does not interrupt consecutive complete ones either."""
    history = History()
    history.enumerate_scopes(enumeration("s1", "s2"))
    history.enumerate_scopes(enumeration("s1", complete=False), 10)
    assert history.memory.scopes["s2"].missed == 0
    history.enumerate_scopes(enumeration("s1"), 2)
    history.enumerate_scopes(enumeration(complete=False), 3)
    assert (history.memory.scopes["s2"].missed, history.memory.scopes["s2"].gone_at) == (2, None)
    history.enumerate_scopes(enumeration("s1"))
    assert history.memory.scopes["s2"].gone_at is not None
    assert history.memory.scopes["s1"].gone_at is None


def test_names_states_and_times_of_scopes_are_recorded() -> None:
    """A renamed scope has its new name; its first and last time in a listing are kept."""
    history = History()
    history.enumerate_scopes(Enumeration("org-1", (Scope("s1", "old name"), Scope("s2", state=ScopeState.INACTIVE))))
    history.enumerate_scopes(Enumeration("org-1", (Scope("s1", "new name"), Scope("s2", state=ScopeState.INACTIVE))))
    one, two = history.memory.scopes["s1"], history.memory.scopes["s2"]
    assert (one.name, one.first_seen, one.last_seen, one.state) == ("new name", START, START + HOUR, "active")
    assert (two.state, two.missed) == ("inactive", 2)


def test_labels_are_recorded_when_they_were_read() -> None:
    """A run that did not read them leaves them; one that read none removes them; they are bounded and printable."""
    history = History()
    history.enumerate_scopes(Enumeration("org-1", (Scope("s1", labels={"env": "prod\x00", "n" * 500: "v" * 500}),)))
    recorded = history.memory.scopes["s1"].labels
    assert recorded == bounded({"env": "prod", "n" * 500: "v" * 500})
    history.enumerate_scopes(Enumeration("org-1", (Scope("s1"),)))
    assert history.memory.scopes["s1"].labels == recorded
    history.enumerate_scopes(Enumeration("org-1", (Scope("s1", labels={}),)))
    assert history.memory.scopes["s1"].labels is None


# --- removal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone_for", "kept"),
    [
        pytest.param(None, True, id="not gone"),
        pytest.param(FORGET_AFTER - timedelta(seconds=1), True, id="gone not quite long enough"),
        pytest.param(FORGET_AFTER, False, id="gone for ninety days"),
    ],
)
def test_state_of_a_long_gone_scope_is_compacted(gone_for: timedelta | None, kept: bool) -> None:
    """Its targets are removed, the scope and its first day are kept."""
    memory = known(key("s1"))
    memory.scopes["s1"].gone_at = START - gone_for if gone_for is not None else None
    compact(memory, START)
    scope = memory.scopes["s1"]
    assert (bool(scope.targets), scope.first_seen) == (kept, START)
    assert FORGET_AFTER == 90 * DAY


def test_state_of_a_scope_that_may_return_is_kept() -> None:
    """Its targets were part of no run since it left: that says nothing about them."""
    memory = known(key("s1"), at=START - 2 * FORGET_AFTER)
    memory.scopes["s1"].gone_at = START - DAY
    compact(memory, START)
    assert memory.scopes["s1"].targets


@pytest.mark.parametrize(
    ("age", "is_target", "kept"),
    [
        pytest.param(7 * DAY, True, True, id="still a target"),
        pytest.param(7 * DAY - HOUR, False, True, id="a target no more, for less than the kind's time"),
        pytest.param(7 * DAY, False, False, id="a target no more for the kind's time"),
    ],
)
def test_former_target_is_removed_by_the_rule_of_its_kind(age: timedelta, is_target: bool, kept: bool) -> None:
    """Daily targets must not accumulate; other kinds follow the general rule."""
    brief = Kind("copy", Stage.DERIVED, forget_after=7 * DAY)
    old, today, export = key("s1", "copy", "old"), target("s1", brief, "today"), key("s1", "export", "daily")
    memory = remembering({one: TargetState(at=START - age) for one in (old, today.key, export)})
    retire(memory, [today, *([target("s1", brief, "old")] if is_target else [])], START)
    assert (memory.state_of(old) is not None) is kept
    assert memory.state_of(today.key) is not None
    assert memory.state_of(export) is not None


@pytest.mark.parametrize(
    ("age", "kept"), [(FORGET_AFTER - timedelta(seconds=1), True), (FORGET_AFTER, False), (FORGET_AFTER + DAY, False)]
)
def test_target_of_no_run_for_ninety_days_is_forgotten(age: timedelta, kept: bool) -> None:
    """The others of its scope stay."""
    old, current = key("s1", name="old"), key("s1")
    memory = remembering({old: TargetState(at=START - age), current: TargetState(at=START)})
    compact(memory, START)
    assert (memory.state_of(old) is not None) is kept
    assert memory.state_of(current) is not None


@pytest.mark.parametrize(
    ("state", "coverage", "since"), [("active", "covered", START), ("active", "", None), ("gone", "covered", None)]
)
def test_time_at_which_a_served_scope_became_inactive_is_recorded(
    state: str, coverage: str, since: datetime | None
) -> None:
    """Only of one that was active and had a class; after it, the time stays."""
    memory = known(key("s2"))
    memory.scopes["s2"].state, memory.scopes["s2"].coverage = state, coverage
    history = History(memory)
    history.enumerate_scopes(SUSPENDED, 2)
    assert memory.scopes["s2"].inactive_since == since
    history.enumerate_scopes(enumeration("s1", "s2"))
    assert memory.scopes["s2"].inactive_since is None


@pytest.mark.parametrize(("reason", "settled"), [("scope-inactive", False), ("not-applicable", True)])
def test_skipped_target_is_settled_unless_its_scope_has_left(reason: str, settled: bool) -> None:
    """What a scope waits for is still owed when it returns."""
    entry = TargetState(at=START, waiting_since=START, attempts=2, error=LastError("denied", result="failed"))
    left = updated(outcome(Result.SKIPPED, verb=Verb.SKIP, reason=reason), entry)
    assert (left.waiting_since is None and left.error is None and left.attempts == 0) is settled


@pytest.mark.parametrize(
    ("seen", "entry", "new"),
    [
        (Present(delivered_at=START), None, True),
        (Present(delivered_at=START), TargetState(at=START), True),
        (Present(delivered_at=START), TargetState(at=START, delivered_at=START - HOUR), True),
        (Present(delivered_at=START), TargetState(at=START, delivered_at=START), False),
        (Present(), TargetState(at=START), False),
        (Absent(), None, False),
    ],
)
def test_delivery_is_new_if_it_is_later_than_the_recorded_one(
    seen: Observation, entry: TargetState | None, new: bool
) -> None:
    """It counts in the report of the run."""
    assert has_new_delivery(action(Verb.KEEP, observation=seen, state=entry)) is new


def test_day_of_an_arrival_is_recorded() -> None:
    """The rhythm of an export is learned from these days."""
    entry = TargetState(at=START, arrivals=((START - DAY).date(),))
    left = updated(outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(delivered_at=START)), entry)
    assert left.arrivals == ((START - DAY).date(), START.date())


def test_class_of_an_unknown_scope_is_not_recorded_and_others_are() -> None:
    """A verdict may be on a scope that the document does not have yet."""
    memory = known(key("s2"))
    newly = record_coverage(memory, {"s1": Verdict("excluded"), "s2": Verdict("excluded")}, NOW)
    assert newly == ["s2"]
    assert "s1" not in memory.scopes
    assert record_coverage(memory, {"s2": Verdict("excluded")}, NOW) == []
