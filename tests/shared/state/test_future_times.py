"""Stored times in the future, from damage or a wrong clock, must not postpone work for years."""

from __future__ import annotations

from datetime import date, timedelta

import msgspec
import pytest

from shared.state.document import RunNote, ScopeRecord, dump, fresh
from shared.state.future_times import drop_times_ahead
from shared.state.notices import Notice, Notices, week_of
from shared.target_state import LastError, TargetState
from tests.shared.builders import DAY, HOUR, START, key, remembering
from tests.shared.setting import Setting, actions

YEARS = 3650 * DAY
SECOND = timedelta(seconds=1)
TIMES = ("since", "created_at", "applied_at", "awaited_since", "looked_at", "verified_at", "unseen_since",
         "delivered_at", "waiting_since", "not_before")  # fmt: skip
SCOPE_TIMES = ("first_seen", "last_seen", "gone_at", "inactive_since")


def after(entry: TargetState) -> TargetState:
    """Return the decoded entry."""
    memory = fresh("memory")
    memory.scopes["s1"] = ScopeRecord(at=START, targets={"export/daily": entry})
    assert drop_times_ahead(memory, START) == 1
    left = memory.state_of(key())
    assert left is not None
    return left


def test_cases_cover_every_time_of_an_entry_and_a_scope() -> None:
    """A new field with a time needs a case here."""
    assert {name for name, hint in TargetState.__annotations__.items() if "Moment" in hint} == {"at", *TIMES}
    assert {name for name, hint in ScopeRecord.__annotations__.items() if "Moment" in hint} == {"at", *SCOPE_TIMES}


@pytest.mark.parametrize("name", TIMES)
def test_time_far_in_the_future_is_dropped(name: str) -> None:
    """The rest of the entry is kept."""
    entry = msgspec.structs.replace(TargetState(at=START, present=True, state="as-wanted"), **{name: START + YEARS})
    assert after(entry) == TargetState(at=START, present=True, state="as-wanted")


def test_entry_from_the_future_does_not_override_later_ones() -> None:
    """Its own time becomes the current one."""
    assert after(TargetState(at=START + YEARS, present=True)).at == START


@pytest.mark.parametrize("name", SCOPE_TIMES)
def test_future_times_of_a_scope_are_corrected(name: str) -> None:
    """The times of a scope are corrected like those of an entry."""
    memory = fresh("memory")
    memory.scopes["s1"] = msgspec.structs.replace(ScopeRecord(at=START + YEARS), **{name: START + YEARS})
    assert drop_times_ahead(memory, START) == 1
    assert memory.scopes["s1"] == ScopeRecord(at=START)


def test_future_times_in_facts_and_arrivals_are_dropped() -> None:
    """Times in text are recognized by their form, at any depth; other facts are kept."""
    facts = {
        "repaired_at": "9999-12-31T00:00:00+00:00",
        "ledger": {"2026-01": [1, "2999-01-01"]},
        "arn": "arn:x",
        "n": 7,
    }
    left = after(TargetState(at=START, remembered=facts, arrivals=(date(2026, 1, 4), date(9999, 12, 31))))
    assert left.facts == {"arn": "arn:x", "n": 7}
    assert left.arrivals == (date(2026, 1, 4),)


def test_plausible_future_times_are_kept() -> None:
    """A wait of a week, a clock that is an hour ahead and today's data are plausible."""
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


def test_run_from_the_future_is_not_the_last_success() -> None:
    """Otherwise no alarm about a missing success would fire."""
    memory = fresh("memory")
    memory.runs = [RunNote("r-1", START - HOUR, "ok"), RunNote("r-2", START + YEARS, "ok")]
    memory.succeeded_at = START + YEARS
    assert drop_times_ahead(memory, START) == 2
    assert memory.last_success() == START - HOUR


def test_messages_from_the_future_do_not_suppress_later_ones() -> None:
    """A digest of a later year would be the last, and later messages would displace all others."""
    memory = fresh("memory")
    ahead, sound = Notice("a", START + YEARS, "x", "t", sent_at=START + YEARS), Notice("b", START + HOUR, "x", "t")
    memory.notices = Notices(START + YEARS, {}, [ahead, sound], "2036-W01")
    assert drop_times_ahead(memory, START) == 3
    assert memory.notices == Notices(START, {}, [msgspec.structs.replace(ahead, at=START, sent_at=START), sound], "")
    memory.notices.digest = week_of(START)
    assert drop_times_ahead(memory, START) == 0
    assert memory.notices.digest == week_of(START)


def test_damaged_wait_does_not_prevent_the_creation_of_an_export() -> None:
    """The run logs the damage and creates the export."""
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


@pytest.mark.parametrize(("ahead", "kept"), [(DAY, True), (DAY + SECOND, False)])
def test_time_may_be_a_day_ahead(ahead: timedelta, kept: bool) -> None:
    """Clocks of hosts differ; one that is more than a day ahead is wrong."""
    at = START + ahead
    memory = fresh("memory")
    memory.updated_at = at
    memory.runs = [RunNote("run-1", at, "ok")]
    memory.notices = Notices(at)
    memory.notices.box = [Notice(id="n", at=at, event="failure.opened", title="t")]
    memory.scopes["s1"] = ScopeRecord(at=at, targets={"export/daily": TargetState(at=at, looked_at=at)})
    found = drop_times_ahead(memory, START)
    assert (found == 0) is kept
    assert (memory.updated_at == at) is kept
    assert bool(memory.runs) is kept
    assert (memory.notices.at == at) is kept
    assert (memory.notices.box[0].at == at) is kept
    assert (memory.scopes["s1"].at == at) is kept
    entry = memory.scopes["s1"].targets["export/daily"]
    assert (entry.looked_at == at) is kept


@pytest.mark.parametrize(("day", "kept"), [("2026-01-06", True), ("2026-01-07", False)])
def test_day_in_facts_and_arrivals_may_be_tomorrow(day: str, kept: bool) -> None:
    """Here it is the night of January 5, and in other time zones it is the 6th."""
    memory = fresh("memory")
    entry = TargetState(at=START, arrivals=(date.fromisoformat(day),), remembered={"seen": f"{day}T01:02:03Z"})
    memory.scopes["s1"] = ScopeRecord(at=START, targets={"export/daily": entry})
    assert (drop_times_ahead(memory, START) == 0) is kept
    left = memory.scopes["s1"].targets["export/daily"]
    assert bool(left.arrivals) is bool(left.facts) is kept


def test_plausible_arrivals_are_kept_beside_others() -> None:
    """Tomorrow's is one of them."""
    days = tuple(START.date() + timedelta(days=ahead) for ahead in (0, 1, 2))
    assert after(TargetState(at=START, arrivals=days)).arrivals == days[:2]
