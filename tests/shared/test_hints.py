"""Events as hints: merging them, and runs that observe only what they name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Permanent, RequestError, TooSoon
from shared.hints import AHEAD, EVENT_GAP, MOST_SCOPES, OLDEST, Hint, Hints, as_document, gap_left, merge, parse_hints
from shared.metrics import EVENT_TO_HEALED
from shared.model import Key
from shared.request import RunRequest, hinted
from tests.limits import examples
from tests.shared.builders import HOUR, START
from tests.shared.setting import Setting, actions

MINUTE = timedelta(minutes=1)
TARGETS = [
    Key(f"s0000{number}", kind, name) for number in range(4) for kind, name in (("export", "daily"), ("role", "reader"))
]
HINTS = st.lists(
    st.builds(
        Hint,
        scope=st.sampled_from(["", "s00000", "s00001", "s00002", "gone"]),
        kind=st.sampled_from(["", "export", "role"]),
        at=st.none() | st.integers(-3000, 3000).map(lambda minutes: START + minutes * MINUTE),
    ),
    max_size=6,
)


def deleted(*keys: Key, at: datetime | None = None) -> list[Hint]:
    """Return the hints of events about the deletion of these targets."""
    return [Hint(key.scope, key.kind, at) for key in keys]


def hints_of(*found: Hint) -> Hints:
    """Return the hints, merged at the start."""
    merged = merge(found, START)
    assert merged is not None
    return merged


@given(HINTS, st.randoms())
@hypothesis.settings(max_examples=examples(200))
def test_merged_hints_do_not_depend_on_order_or_repetition(found: list[Hint], rng: Any) -> None:
    """Events arrive late, twice and in any order; only the count differs."""
    doubled = found * 2
    rng.shuffle(doubled)
    one, other = merge(found, START), merge(doubled, START)
    if not found:
        assert one is None
        return
    assert one is not None
    assert other is not None
    assert (other.scopes, other.oldest, other.count) == (one.scopes, one.oldest, 2 * one.count)


@given(HINTS)
@hypothesis.settings(max_examples=examples(200))
def test_every_named_target_is_kept_by_merging_and_json(found: list[Hint]) -> None:
    """Neither merging nor a queue loses a target."""
    merged = merge(found, START)
    if merged is None:
        return
    assert parse_hints(as_document(merged)) == merged
    for one in found:
        assert not merged.scopes or one.scope in merged.scopes
        assert merged.wants(Key(one.scope, one.kind or "export", "any"))


def test_event_without_a_scope_or_with_too_many_requests_a_full_run() -> None:
    """This costs the fewest calls for more scopes than a request may name."""
    assert hints_of(Hint("s1"), Hint()).scopes == {}
    assert len(hints_of(*(Hint(f"s{number}") for number in range(MOST_SCOPES))).scopes) == MOST_SCOPES
    assert hints_of(*(Hint(f"s{number}") for number in range(MOST_SCOPES + 1))).scopes == {}


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        pytest.param(START - MINUTE, START - MINUTE, id="recent"),
        pytest.param(START - OLDEST - MINUTE, None, id="replayed after days"),
        pytest.param(START + AHEAD, START + AHEAD, id="a clock that is fast"),
        pytest.param(START + AHEAD + MINUTE, None, id="in the future"),
        pytest.param(None, None, id="without a time"),
    ],
)
def test_implausible_time_of_an_event_is_ignored(at: datetime | None, expected: datetime | None) -> None:
    """The scope is observed, but the latency is unknown."""
    merged = hints_of(Hint("s1", at=at))
    assert merged.oldest == expected
    assert "s1" in merged.scopes


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param([], "Expected", id="a list"),
        pytest.param({"count": 0}, "count", id="no event"),
        pytest.param({"scopes": {}}, "count", id="no count"),
        pytest.param({"count": 1, "scopes": {"s1": "export"}}, "array", id="kinds as text"),
        pytest.param({"count": 1, "oldest": "yesterday"}, "oldest", id="no time"),
        pytest.param({"count": 1, "oldest": "2026-01-05T00:00:00"}, "oldest", id="a time without a zone"),
        pytest.param({"count": 1, "force": True}, "force", id="an unknown key"),
        pytest.param({"count": 1, "scopes": {"": []}}, "cannot be", id="an empty id"),
        pytest.param({"count": 1, "scopes": {"s1\n": []}}, "cannot be", id="a line break in an id"),
    ],
)
def test_malformed_hints_are_refused(document: object, why: str) -> None:
    """The caller gets a request error, and no run takes place."""
    with pytest.raises(RequestError, match=why):
        parse_hints(document)


def test_hints_with_too_many_scopes_request_a_full_run() -> None:
    """The request is not refused for its size."""
    document = {"count": 1, "scopes": {f"s{number}": [] for number in range(MOST_SCOPES + 1)}}
    assert parse_hints(document).scopes == {}


def test_event_runs_are_at_least_a_minute_apart() -> None:
    """The gap starts with the last such run; a clock that was set back blocks nothing."""
    assert gap_left(None, START) == timedelta(0)
    assert gap_left(START, START + timedelta(seconds=20)) == timedelta(seconds=40)
    assert gap_left(START, START + EVENT_GAP) == timedelta(0)
    assert gap_left(START + HOUR, START) == timedelta(0)


def test_event_run_observes_only_the_named_targets_and_their_dependencies() -> None:
    """A deleted export is recreated; other targets and scopes are not observed."""
    setting = Setting(3)
    setting.run()
    export, role, other = TARGETS[0], TARGETS[1], TARGETS[2]
    for key in (export, role, other):
        setting.world.things.pop(key, None)
    done = setting.run_now(hinted(hints_of(*deleted(export))))
    assert [action.key for action in actions(done, "CREATE")] == [export]
    assert done.plan is not None
    assert {action.key.scope for action in done.plan.actions} == {"owner", export.scope}
    assert role not in setting.world.things
    setting.clock.advance(60)
    setting.run_now(hinted(hints_of(Hint(role.scope))))
    assert role in setting.world.things
    assert other not in setting.world.things


@pytest.mark.parametrize("how", ["events", "one scope"])
def test_a_limited_run_is_no_success_of_the_schedule(how: str) -> None:
    """The age of the last success, which an alarm watches, grows on while the schedule starts nothing."""
    setting = Setting(2)
    setting.run()
    setting.clock.advance(3 * 3600)
    done = setting.run_now(hinted(hints_of(Hint())) if how == "events" else RunRequest(scopes=(TARGETS[0].scope,)))
    assert done.report["status"] == "ok"
    ages = [{one.name: one.value for one in run.metrics}["seconds_since_last_success"] for run in (done, setting.run())]
    assert ages[0] >= 4 * 3600
    assert ages[1] < 60


def test_coverage_includes_targets_that_were_not_observed() -> None:
    """A scope with a failed role is not covered just because an event run observed its export."""
    setting = Setting(2)
    setting.run()
    export, role = TARGETS[0], TARGETS[1]
    del setting.world.things[role]
    setting.world.faults["write", role.scope] = Permanent("no-such-role", "it cannot be made")
    assert setting.run().report["scopes"]["failed"] == 1
    done = setting.run_now(hinted(hints_of(*deleted(export))))
    assert done.report["scopes"]["covered"] == 0
    assert setting.memory().scopes[export.scope].coverage != "covered"


def test_report_and_metrics_have_the_latency_from_event_to_repair() -> None:
    """A run that writes nothing has no latency."""
    setting = Setting(2)
    setting.run()
    now = setting.clock.now()
    del setting.world.things[TARGETS[0]]
    merged = merge(deleted(TARGETS[0], at=now - 2 * MINUTE), now)
    assert merged is not None
    healed = setting.run_now(hinted(merged))
    assert healed.report["trigger"] == "event"
    assert healed.report["events"]["count"] == 1
    assert healed.report["events"]["oldest"] == f"{now - 2 * MINUTE:%Y-%m-%dT%H:%M:%SZ}"
    assert healed.report["events"]["latency_s"] == pytest.approx(120, abs=1)
    assert {one.name: one.value for one in healed.metrics}[EVENT_TO_HEALED] == pytest.approx(120, abs=1)
    setting.clock.advance(60)
    idle = setting.run_now(hinted(merged))
    assert idle.report["events"]["latency_s"] == pytest.approx(180, abs=2)
    assert EVENT_TO_HEALED not in {one.name for one in idle.metrics}
    scheduled = setting.run()
    assert "events" not in scheduled.report


def test_second_event_run_within_a_minute_is_refused_before_any_call() -> None:
    """The caller gets the time to wait; a scheduled run is not affected."""
    setting = Setting(2)
    setting.run()
    asked = hinted(hints_of(*deleted(TARGETS[0])))
    setting.run_now(asked)
    setting.clock.advance(15)
    before = len(setting.events("run-finished"))
    with pytest.raises(TooSoon) as caught:
        setting.run_now(asked)
    assert caught.value.wait_s == pytest.approx(45, abs=1)
    assert len(setting.events("run-finished")) == before
    assert [line[2]["code"] for line in setting.events("events-wait")] == ["too-soon"]
    assert setting.run_now(RunRequest()).report["status"] == "ok"
    setting.clock.advance(45)
    assert setting.run_now(asked).report["status"] == "ok"


def test_event_of_an_unknown_scope_keeps_the_state() -> None:
    """A run of some scopes does not count the others as missing."""
    setting = Setting(2)
    setting.run()
    for _ in range(5):
        setting.run_now(hinted(hints_of(Hint("gone"))))
        setting.clock.advance(60)
    assert setting.memory().scopes["s00001"].missed == 0
    assert setting.run().report["outcomes"].keys() == {"KEEP"}


@pytest.mark.parametrize("scopes", [("gone",), ("gone", "s00001")])
def test_event_of_a_departed_scope_is_not_a_problem(scopes: tuple[str, ...]) -> None:
    """Events of departed and excluded scopes still arrive, and need no action."""
    setting = Setting(2)
    setting.run()
    report = setting.run_now(hinted(hints_of(*map(Hint, scopes)))).report
    assert (report["status"], report["failures"]) == ("ok", [])
    setting.clock.advance(60)
    assert setting.run_now(RunRequest(scopes=("gone",))).report["status"] == "failed"


@given(st.data())
@hypothesis.settings(max_examples=examples(30))
def test_lost_repeated_or_reordered_events_do_not_change_the_result(data: st.DataObject) -> None:
    """Any damage, any part of its events and one scheduled run end in the same state."""
    setting = Setting(3)
    setting.run()
    expected = dict(setting.world.things)
    writable = sorted(key for key in setting.world.things if key.kind in ("export", "role"))
    damaged = data.draw(st.lists(st.sampled_from(writable), max_size=4, unique=True))
    for key in damaged:
        del setting.world.things[key]
    events = data.draw(st.lists(st.sampled_from([*deleted(*damaged), Hint("gone"), Hint("s00001")]), max_size=6))
    batches = data.draw(st.lists(st.integers(1, 3), min_size=len(events), max_size=len(events)))
    while events:
        merged = merge([events.pop() for _ in range(min(batches.pop(), len(events)))], setting.clock.now())
        assert merged is not None
        setting.run_now(hinted(merged))
        setting.clock.advance(60)
    setting.run()
    assert dict(setting.world.things) == expected
    assert setting.run().report["outcomes"].keys() == {"KEEP"}
