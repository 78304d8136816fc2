"""Remembered times in the future: damage, or a wrong clock, and never a reason to leave a target alone for years."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest

from shared.state.document import RunNote, ScopeRecord, dump, fresh
from shared.state.future_times import drop_times_ahead
from shared.state.notices import Notice, Notices, week_of
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, HOUR, START, key, remembering
from tests.shared.setting import Setting, actions

YEARS = 3650 * DAY
TIMES = ("since", "created_at", "applied_at", "awaited_since", "looked_at", "verified_at", "unseen_since",
         "delivered_at", "waiting_since", "not_before")  # fmt: skip
SCOPE_TIMES = ("first_seen", "last_seen", "gone_at", "inactive_since")


def after(entry: TargetState) -> TargetState:
    """Return what is left of an entry."""
    memory = fresh("memory")
    memory.scopes["s1"] = ScopeRecord(at=START, targets={"export/daily": entry})
    assert drop_times_ahead(memory, START) == 1
    left = memory.state_of(key())
    assert left is not None
    return left


def test_the_lists_of_this_test_are_whole() -> None:
    """Every time that an entry or a scope has is tried here."""
    assert {name for name, hint in TargetState.__annotations__.items() if "Moment" in hint} == {"at", *TIMES}
    assert {name for name, hint in ScopeRecord.__annotations__.items() if "Moment" in hint} == {"at", *SCOPE_TIMES}


@pytest.mark.parametrize("name", TIMES)
def test_a_time_far_ahead_is_forgotten_and_the_rest_of_its_entry_stays(name: str) -> None:
    """One impossible time costs itself."""
    entry = msgspec.structs.replace(TargetState(at=START, present=True, state="as-wanted"), **{name: START + YEARS})
    assert after(entry) == TargetState(at=START, present=True, state="as-wanted")


def test_an_entry_of_the_future_does_not_win_over_later_observations() -> None:
    """Its own time becomes now."""
    assert after(TargetState(at=START + YEARS, present=True)).at == START


@pytest.mark.parametrize("name", SCOPE_TIMES)
def test_a_scope_has_no_time_ahead(name: str) -> None:
    """What is noted of a scope is cured in the same way."""
    memory = fresh("memory")
    memory.scopes["s1"] = msgspec.structs.replace(ScopeRecord(at=START + YEARS), **{name: START + YEARS})
    assert drop_times_ahead(memory, START) == 1
    assert memory.scopes["s1"] == ScopeRecord(at=START)


def test_facts_and_arrivals_ahead_are_forgotten_one_by_one() -> None:
    """Times in text count by their form, at any depth; other facts stay."""
    facts = {
        "repaired_at": "9999-12-31T00:00:00+00:00",
        "ledger": {"2026-01": [1, "2999-01-01"]},
        "arn": "arn:x",
        "n": 7,
    }
    left = after(TargetState(at=START, remembered=facts, arrivals=(date(2026, 1, 4), date(9999, 12, 31))))
    assert left.facts == {"arn": "arn:x", "n": 7}
    assert left.arrivals == (date(2026, 1, 4),)


def test_what_may_be_is_left_as_it_is() -> None:
    """A wait of a week, a clock that is an hour ahead and today's data are no damage."""
    memory = remembering(
        {
            key(): TargetState(
                at=START + HOUR,
                delivered_at=START + HOUR,
                not_before=START + 7 * DAY,
                arrivals=(START.date(),),
                remembered={"read_on": START.date().isoformat()},
            )
        }
    )
    before = msgspec.json.encode(memory)
    assert drop_times_ahead(memory, START) == 0
    assert msgspec.json.encode(memory) == before


def test_a_run_of_the_future_is_not_the_last_success() -> None:
    """Otherwise no alarm about a missing success would ever sound."""
    memory = fresh("memory")
    memory.runs = [RunNote("r-1", START - HOUR, "ok"), RunNote("r-2", START + YEARS, "ok")]
    assert drop_times_ahead(memory, START) == 1
    assert memory.last_success() == START - HOUR


def test_messages_of_the_future_do_not_silence_later_ones() -> None:
    """A digest of a later year would be the last one, and messages of later years would push all others out."""
    memory = fresh("memory")
    ahead, sound = Notice("a", START + YEARS, "x", "t", sent_at=START + YEARS), Notice("b", START + HOUR, "x", "t")
    memory.notices = Notices(START + YEARS, {}, [ahead, sound], "2036-W01")
    assert drop_times_ahead(memory, START) == 3
    assert memory.notices == Notices(START, {}, [msgspec.structs.replace(ahead, at=START, sent_at=START), sound], "")
    memory.notices.digest = week_of(START)
    assert drop_times_ahead(memory, START) == 0
    assert memory.notices.digest == week_of(START)


def test_a_damaged_wait_does_not_keep_a_missing_export_from_being_created() -> None:
    """A run says that there was damage, and makes the export at once."""
    setting = Setting()
    setting.run()
    (thing, *_) = (one for one in setting.world.things if one.kind == "export")
    memory, scope = setting.memory(), thing.scope
    damaged = TargetState(at=START + YEARS, not_before=START + YEARS, error=LastError("denied", "no"))
    memory.scopes[scope].targets[f"{thing.kind}/{thing.name}"] = damaged
    setting.store.replace(dump(memory, setting.clock.now()))
    del setting.world.things[thing]
    finished = setting.run()
    assert [one.key for one in actions(finished, "CREATE")] == [thing]
    assert setting.covered()
    assert len(setting.events("state-damaged")) == 1
