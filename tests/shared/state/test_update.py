"""From what a run saw and did to what the next one knows."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.model import (
    FORGET_AFTER,
    Absent,
    Enumeration,
    Health,
    Kind,
    Outcome,
    Present,
    Result,
    Scope,
    ScopeState,
    Stage,
    Unknown,
    Verb,
)
from shared.runtime.log import Log
from shared.state.document import StateDocument, fresh
from shared.state.update import LONGEST_WAIT, compact, record_outcome, record_scopes, retire
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, GUIDE, HOUR, START, enumeration, key, known, outcome, remembering, target

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
    """Return what memory knows of the target after the outcome."""
    memory = remembering({one.key: entry} if entry else {})
    record_outcome(memory, one, now, random.Random(3), refused=refused)
    return memory.state_of(one.key)


def seen(one: Outcome, entry: TargetState | None = None, *, refused: bool = False) -> TargetState:
    """Return the entry that there must be after the outcome."""
    found = after(one, entry, refused=refused)
    assert found is not None
    return found


# --- what was seen -------------------------------------------------------------------------------


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
def test_what_was_seen_is_noted(one: Outcome, entry: TargetState | None, expected: dict[str, Any]) -> None:
    """Presence, the times of reads and deliveries, and facts."""
    found = seen(one, entry)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.at == NOW


def test_what_nobody_looked_at_leaves_its_entry_as_it_is() -> None:
    """A target outside the call budget is neither verified nor forgotten."""
    entry = TargetState(at=START, present=True, state="test", verified_at=START, looked_at=START, remembered={"id": 1})
    found = seen(outcome(Result.UNCHANGED, verb=Verb.KEEP), entry)
    assert found == TargetState(**{**entry_fields(entry), "at": NOW})


def entry_fields(entry: TargetState) -> dict[str, Any]:
    """Return the fields of an entry."""
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def test_what_was_never_seen_and_takes_no_part_gets_no_entry() -> None:
    """A suspended scope of which nothing is known does not fill memory."""
    assert after(outcome(Result.SKIPPED, verb=Verb.SKIP)) is None


# --- what was done -------------------------------------------------------------------------------

SETTLED = {"waiting_since": None, "not_before": None, "attempts": 0, "error": None}


@pytest.mark.parametrize("result", [Result.DONE, Result.PENDING])
@pytest.mark.parametrize("verb", [Verb.CREATE, Verb.REPAIR, Verb.ADOPT])
def test_an_accepted_write_settles_everything(verb: Verb, result: Result) -> None:
    """It is there, since now; what it waited for is forgotten, its facts are kept."""
    looked = Absent() if verb is Verb.CREATE else Present(facts={"seen": 2})
    found = seen(outcome(result, verb=verb, observation=looked, attempted=True, facts={"op": 3}), FAILED_BEFORE)
    assert {name: getattr(found, name) for name in SETTLED} == SETTLED
    assert (found.present, found.applied_at) == (True, NOW)
    assert found.facts == {"id": 1, "op": 3} | ({} if verb is Verb.CREATE else {"seen": 2})


def test_what_is_found_as_wanted_settles_everything_but_is_no_write() -> None:
    """Somebody mended it: the wait is over, and no grace begins."""
    found = seen(outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present()), FAILED_BEFORE)
    assert {name: getattr(found, name) for name in SETTLED} == SETTLED
    assert found.applied_at is None


def test_what_was_not_looked_at_goes_on_waiting() -> None:
    """A target that is only remembered keeps its trouble."""
    found = seen(outcome(Result.UNCHANGED, verb=Verb.KEEP), FAILED_BEFORE)
    assert (found.attempts, found.error, found.waiting_since) == (2, FAILED_BEFORE.error, START)


@pytest.mark.parametrize("result", [Result.FAILED, Result.DEFERRED, Result.MANUAL, Result.EXCLUDED])
def test_a_failed_attempt_is_counted_and_waits_longer_each_time(result: Result) -> None:
    """The not-before time doubles from five minutes up to a day, give or take a fifth; a refusal is no wait."""
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


def test_the_wait_that_the_cloud_asks_for_is_kept() -> None:
    """It replaces the back-off."""
    assert seen(outcome(Result.DEFERRED, attempted=True, retry_after=7 * DAY)).not_before == NOW + 7 * DAY


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
def test_what_was_not_tried_waits_but_is_not_put_off(one: Outcome) -> None:
    """The next run may do it at once, and knows since when it has been due."""
    found = seen(one)
    assert (found.waiting_since, found.not_before, found.attempts) == (NOW, None, 0)
    assert seen(one, found).waiting_since == NOW


def test_the_trouble_is_remembered_with_the_step_to_take() -> None:
    """So that the next run can say it again without asking the cloud."""
    one = outcome(Result.MANUAL, code="off", message="m", remedy="r", manual_step=GUIDE, attempted=True)
    assert seen(one).error == LastError(
        "off", "m", "r", "manual", "it is broken", ["Mend it."], "https://console.example/mend"
    )


def test_an_action_that_only_waits_keeps_the_trouble_it_waits_for() -> None:
    """Neither the count nor the time nor the reason is changed by being looked at meanwhile."""
    entry = TargetState(
        at=START, attempts=2, waiting_since=START, not_before=NOW + HOUR, error=LastError("old", result="failed")
    )
    one = outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Absent(), waits=True, code="old")
    found = seen(one, entry)
    assert (found.attempts, found.waiting_since, found.not_before, found.error) == (
        2,
        START,
        NOW + HOUR,
        entry.error,
    )


def test_looking_again_before_the_time_is_no_further_attempt() -> None:
    """A read in between counts only when the wait was over; a write that somebody insisted on always counts."""
    entry = TargetState(at=START, attempts=2, waiting_since=START, not_before=NOW + HOUR)
    read = seen(outcome(Result.DEFERRED, verb=Verb.DEFER, observation=Unknown("busy"), attempted=True), entry)
    write = seen(outcome(Result.DEFERRED, verb=Verb.CREATE, attempted=True), entry)
    assert (read.attempts, read.not_before) == (2, NOW + HOUR)
    assert write.attempts == 3


def test_since_when_it_is_like_this_is_remembered() -> None:
    """The state is the reason of the last action; it has a date of its own."""
    one = outcome(Result.UNCHANGED, verb=Verb.KEEP, observation=Present(), code="as-wanted")
    first = seen(one)
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
def test_a_refused_plan_leaves_what_is_known_to_be_present(one: Outcome) -> None:
    """Otherwise the next run would find nothing missing and create it all."""
    found = seen(one, TargetState(at=START, present=True, attempts=1), refused=True)
    assert (found.present, found.attempts, found.looked_at) == (True, 1, NOW)
    assert seen(one, TargetState(at=START, present=True)).present is False


def test_a_target_of_a_scope_that_was_never_listed_is_remembered_too() -> None:
    """The destination may belong to no enumerated scope."""
    memory = fresh("memory")
    record_outcome(memory, outcome(Result.DONE, "owner", attempted=True), NOW, random.Random(1))
    assert memory.scopes["owner"].first_seen == NOW


# --- scopes --------------------------------------------------------------------------------------


class History:
    """Enumerations, an hour apart, over one memory."""

    def __init__(self, memory: StateDocument | None = None) -> None:
        self.memory = memory or fresh("memory")
        self.events: list[tuple[str, str]] = []
        self.now = START

    def see(self, shown: Enumeration, times: int = 1) -> None:
        """The cloud shows these scopes."""

        def sink(_: str, event: str, fields: Mapping[str, Any]) -> None:
            self.events.append((event, fields["scope"]))

        for _ in range(times):
            record_scopes(self.memory, shown, self.now, Log(sink, "run", "memory"))
            self.now += HOUR


SUSPENDED = Enumeration("org-1", (Scope("s1"), Scope("s2", state=ScopeState.INACTIVE, reason="SUSPENDED")))


@pytest.mark.parametrize("without", [enumeration("s1"), SUSPENDED], ids=["not listed", "listed as suspended"])
def test_a_scope_is_gone_after_three_complete_enumerations_without_it(without: Enumeration) -> None:
    """Twice is not enough; it is said once, and what is known of it stays."""
    history = History(known(key("s2")))
    history.see(enumeration("s1", "s2"))
    for missed in (1, 2):
        history.see(without)
        assert (history.memory.scopes["s2"].missed, history.memory.scopes["s2"].gone_at) == (missed, None)
    history.see(without)
    gone = history.memory.scopes["s2"]
    assert (gone.state, gone.gone_at) == ("gone", START + 3 * HOUR)
    assert history.memory.state_of(key("s2")) is not None
    history.see(without, 5)
    assert gone.gone_at == START + 3 * HOUR
    assert history.events == [("scope-gone", "s2")]


def test_a_scope_that_comes_back_comes_back_as_itself() -> None:
    """It is active again with everything that was known of it, and has to be missed three times again."""
    history = History(known(key("s2")))
    history.see(enumeration("s1", "s2"))
    history.see(enumeration("s1"), 4)
    history.see(enumeration("s1", "s2"))
    back = history.memory.scopes["s2"]
    assert (back.state, back.missed, back.gone_at, back.first_seen) == ("active", 0, None, START)
    assert history.memory.state_of(key("s2")) == TargetState(at=START, present=True)
    history.see(enumeration("s1"), 2)
    assert back.gone_at is None
    assert history.events == [("scope-gone", "s2"), ("scope-returned", "s2")]


def test_missing_it_only_now_and_then_does_not_add_up() -> None:
    """The three enumerations are in a row."""
    history = History()
    for _ in range(5):
        history.see(enumeration("s1", "s2"))
        history.see(enumeration("s1"), 2)
    assert history.events == []


def test_an_incomplete_enumeration_forgets_nothing() -> None:
    """However often it is not there; and it does not break a row of complete ones either."""
    history = History()
    history.see(enumeration("s1", "s2"))
    history.see(enumeration("s1", complete=False), 10)
    assert history.memory.scopes["s2"].missed == 0
    history.see(enumeration("s1"), 2)
    history.see(enumeration(complete=False), 3)
    assert (history.memory.scopes["s2"].missed, history.memory.scopes["s2"].gone_at) == (2, None)
    history.see(enumeration("s1"))
    assert history.memory.scopes["s2"].gone_at is not None
    assert history.memory.scopes["s1"].gone_at is None


def test_names_states_and_times_of_scopes_are_noted() -> None:
    """A renamed scope has its new name; when it was first and last seen is kept."""
    history = History()
    history.see(Enumeration("org-1", (Scope("s1", "old name"), Scope("s2", state=ScopeState.INACTIVE))))
    history.see(Enumeration("org-1", (Scope("s1", "new name"), Scope("s2", state=ScopeState.INACTIVE))))
    one, two = history.memory.scopes["s1"], history.memory.scopes["s2"]
    assert (one.name, one.first_seen, one.last_seen, one.state) == ("new name", START, START + HOUR, "active")
    assert (two.state, two.missed) == ("inactive", 2)


# --- what is forgotten ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone_for", "kept"),
    [
        pytest.param(None, True, id="not gone"),
        pytest.param(FORGET_AFTER - timedelta(seconds=1), True, id="gone not quite long enough"),
        pytest.param(FORGET_AFTER, False, id="gone for ninety days"),
    ],
)
def test_what_is_known_of_a_long_gone_scope_is_compacted(gone_for: timedelta | None, kept: bool) -> None:
    """Its targets are dropped, the scope itself and its first day are not."""
    memory = known(key("s1"))
    memory.scopes["s1"].gone_at = START - gone_for if gone_for is not None else None
    compact(memory, START)
    scope = memory.scopes["s1"]
    assert (bool(scope.targets), scope.first_seen) == (kept, START)
    assert FORGET_AFTER == 90 * DAY


@pytest.mark.parametrize(
    ("age", "is_target", "kept"),
    [
        pytest.param(7 * DAY, True, True, id="still a target"),
        pytest.param(7 * DAY - HOUR, False, True, id="a target no more, for less than the kind's time"),
        pytest.param(7 * DAY, False, False, id="a target no more for the kind's time"),
    ],
)
def test_what_is_a_target_no_more_is_dropped_by_the_rule_of_its_kind(
    age: timedelta, is_target: bool, kept: bool
) -> None:
    """Targets that come and go by the day must not pile up; other kinds are left to the time that counts for all."""
    brief = Kind("copy", Stage.DERIVED, forget_after=7 * DAY)
    old, today, export = key("s1", "copy", "old"), target("s1", brief, "today"), key("s1", "export", "daily")
    memory = remembering({one: TargetState(at=START - age) for one in (old, today.key, export)})
    retire(memory, [today, *([target("s1", brief, "old")] if is_target else [])], START)
    assert (memory.state_of(old) is not None) is kept
    assert memory.state_of(today.key) is not None
    assert memory.state_of(export) is not None
