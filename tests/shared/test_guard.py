"""The guard: refuses to recreate too many vanished targets, and caps the writes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.guard import VANISHED_FLOOR, guard
from shared.model import Absent, Action, Key, Present, Result, Unknown, Verb
from shared.plan import Plan, assemble
from shared.settings import EngineSettings
from shared.target_state import TargetState
from tests.shared.builders import DESTINATION, EXPORT, HOUR, ROLE, START, action, key, known, paired, remembering
from tests.shared.setting import Setting, actions

DEFAULTS = EngineSettings()


def plan_of(present: int, absent: int) -> Plan:
    """Return a plan with a number of known targets that exist and a number that vanished."""
    kept = [action(Verb.KEEP, f"p{number:03}", observation=Present()) for number in range(present)]
    gone = [action(Verb.CREATE, f"a{number:03}", reason="absent") for number in range(absent)]
    return paired(assemble(kept + gone), known(*(one.key for one in kept + gone)))


@pytest.mark.parametrize(
    ("present", "absent", "percent", "refused"),
    [
        pytest.param(100, 0, 30, False, id="nothing is gone"),
        pytest.param(0, VANISHED_FLOOR - 1, 30, False, id="all are gone, but fewer than the floor"),
        pytest.param(0, VANISHED_FLOOR, 30, True, id="all are gone, as many as the floor"),
        pytest.param(70, 30, 30, False, id="exactly the limit"),
        pytest.param(69, 31, 30, True, id="one more than the limit"),
        pytest.param(990, VANISHED_FLOOR, 0, True, id="a limit of none"),
        pytest.param(991, VANISHED_FLOOR - 1, 0, False, id="the floor holds with a limit of none"),
        pytest.param(0, 50, 100, False, id="a limit of all"),
    ],
)
def test_plan_with_too_many_vanished_targets_is_refused(present: int, absent: int, percent: int, refused: bool) -> None:
    """Both the share and the minimum number must be exceeded."""
    plan = plan_of(present, absent)
    guarded = guard(plan, EngineSettings(max_vanished_percent=percent), START, force=False)
    assert (guarded.refusal is not None) is refused
    assert len(guarded.plan.actions) == len(plan.actions)
    assert guarded.plan.writes() == ([] if refused else plan.writes())


def test_refusal_has_the_counts_the_limit_and_the_remedy() -> None:
    """The message has both counts, the share, the limit with its setting, what to check, and how to force the run."""
    plan = plan_of(25, 15)
    refusal = guard(plan, DEFAULTS, START, force=False).refusal
    assert refusal is not None
    assert refusal.code == "vanished"
    assert refusal.message == (
        "15 of 40 known targets (37.5 %) are absent at once, more than the limit of 30 % (MAX_VANISHED_PERCENT); "
        "nothing was written"
    )
    assert "force" in refusal.remedy


def test_refused_plan_blocks_every_write() -> None:
    """Repairs are blocked too, because the credentials or scope may be wrong. Other actions are unchanged."""
    plan = plan_of(0, 12)
    repair = action(Verb.REPAIR, "r", observation=Present())
    guarded = guard(assemble([*plan.actions, repair]), DEFAULTS, START, force=False)
    assert {(one.verb, one.reason) for one in guarded.plan.actions} == {(Verb.BLOCK, "vanished")}
    assert guarded.plan.hash != plan.hash
    kept = plan_of(5, 12)
    verbs = [one.verb for one in guard(kept, DEFAULTS, START, force=False).plan.actions]
    assert (verbs.count(Verb.BLOCK), verbs.count(Verb.KEEP)) == (12, 5)


def test_force_lets_the_plan_through_unchanged() -> None:
    """The operator has confirmed the plan."""
    plan = plan_of(0, 100)
    guarded = guard(plan, DEFAULTS, START, force=True)
    assert (guarded.plan, guarded.refusal) == (plan, None)


@pytest.mark.parametrize(
    ("one", "entry", "why"),
    [
        (action(Verb.CREATE), None, "nothing is remembered of it: it is new"),
        (action(Verb.CREATE), TargetState(at=START, present=False), "it was known to be absent already"),
        (action(Verb.CREATE), TargetState(at=START), "never observed"),
        (action(Verb.SKIP, observation=Absent()), TargetState(at=START, present=True), "its scope has left"),
        (
            action(Verb.KEEP, reason="pending", observation=Absent()),
            TargetState(at=START, present=True),
            "it is pending",
        ),
        (
            action(Verb.DEFER, observation=Unknown("denied")),
            TargetState(at=START, present=True),
            "Unknown",
        ),
        (action(Verb.REPAIR, observation=Present()), TargetState(at=START, present=True), "it is there"),
    ],
)
def test_only_known_targets_that_are_absent_count_as_vanished(one: Action, entry: TargetState | None, why: str) -> None:
    """New and unknown targets do not count, even twenty of them."""
    many = [
        Action(one.target.__class__(key(f"s{number:02}"), EXPORT), one.verb, one.reason, observation=one.observation)
        for number in range(20)
    ]
    memory = remembering({other.key: entry for other in many} if entry else {})
    assert guard(paired(assemble(many), memory), DEFAULTS, START, force=False).refusal is None, why


def test_vanished_manual_targets_count() -> None:
    """Wrong credentials or a wrong scope hide them just as well."""
    gone = [action(Verb.MANUAL, f"s{number:02}", observation=Absent()) for number in range(10)]
    memory = known(*(one.key for one in gone))
    assert guard(paired(assemble(gone), memory), DEFAULTS, START, force=False).refusal is not None


def test_refused_run_keeps_the_state_and_the_next_run_refuses_again() -> None:
    """The targets stay known as present until they return or the run is forced."""
    setting = Setting(12)
    setting.run()
    before = dict(setting.world.things)
    for gone in [one for one in before if one.kind == "export"]:
        del setting.world.things[gone]
    written = len(setting.world.written)
    for _ in range(3):
        finished = setting.run()
        assert finished.report["status"] == "failed"
        assert finished.report["failures"][0]["message"].startswith("12 of 25 known targets (48.0 %) are absent")
        assert {one.result for one in finished.outcomes if one.key.kind == "export"} == {Result.BLOCKED}
    assert len(setting.world.written) == written
    setting.world.things = before
    assert setting.run().report["status"] == "ok"
    for gone in [one for one in before if one.kind == "export"]:
        setting.world.things = {one: thing for one, thing in setting.world.things.items() if one != gone}
    assert setting.run().report["status"] == "failed"
    assert setting.run(force=True).report["status"] == "ok"
    assert setting.covered()


# --- the cap -------------------------------------------------------------------------------------


def capped(most: int) -> EngineSettings:
    """Return settings with this cap."""
    return EngineSettings(max_writes=most)


def test_plan_within_the_cap_defers_nothing() -> None:
    """Zero means no cap, and a cap equal to the number of writes changes nothing."""
    plan = assemble([action(Verb.CREATE, f"s{number}") for number in range(5)])
    for most in (0, 5, 6):
        guarded = guard(plan, capped(most), START, force=False)
        assert (guarded.plan, guarded.capped) == (plan, 0)


def test_cap_defers_the_shortest_waiting_targets() -> None:
    """The longest-waiting targets are written first; actions without a write do not count."""
    waits = {"s1": 1, "s2": 5, "s3": 3, "s4": None, "s5": 4}
    memory = remembering(
        {
            key(scope): TargetState(at=START, waiting_since=START - hours * HOUR)
            for scope, hours in waits.items()
            if hours
        }
    )
    plan = assemble([*(action(Verb.CREATE, scope) for scope in waits), action(Verb.KEEP, "s9")])
    guarded = guard(paired(plan, memory), capped(3), START, force=False)
    assert [one.key.scope for one in guarded.plan.writes()] == ["s2", "s3", "s5"]
    assert guarded.capped == 2
    deferred = [one for one in guarded.plan.actions if one.verb is Verb.DEFER]
    assert [one.key.scope for one in deferred] == ["s1", "s4"]
    assert deferred[0].reason == "write-cap"
    assert deferred[0].detail == "5 writes are due, MAX_WRITES_PER_RUN allows 3"


def test_equal_waits_are_ordered_by_stage_and_key() -> None:
    """Destinations come before exports."""
    plan = assemble(
        [action(Verb.CREATE, "b"), action(Verb.CREATE, "a"), action(Verb.CREATE, "z", DESTINATION, name="data")]
    )
    guarded = guard(plan, capped(2), START, force=False)
    assert [one.key.scope for one in guarded.plan.writes()] == ["a", "z"]


def test_dependency_is_not_deferred_behind_its_dependents() -> None:
    """A destination that was just lost is created first, although its exports have waited longer."""
    base = Key("owner", "destination", "data")
    exports = [action(Verb.CREATE, f"s{number}", needs=(base,)) for number in range(4)]
    memory = remembering({one.key: TargetState(at=START, waiting_since=START - HOUR) for one in exports})
    plan = assemble([*exports, action(Verb.CREATE, "owner", DESTINATION, name="data")])
    guarded = guard(paired(plan, memory), capped(2), START, force=False)
    assert [one.key for one in guarded.plan.writes()] == [base, key("s0")]


def test_wait_of_a_dependent_counts_for_all_that_it_needs_indirectly() -> None:
    """Otherwise a long chain would be written one link a run, after everything that began to wait later."""
    base, middle = Key("z", "destination", "data"), Key("z", "export", "daily")
    chain = [
        action(Verb.CREATE, "z", DESTINATION, name="data"),
        action(Verb.CREATE, "z", needs=(base,)),
        action(Verb.CREATE, "z", ROLE, name="reader", needs=(middle,)),
    ]
    others = [action(Verb.CREATE, f"a{number}") for number in range(3)]
    waits = {one.key: HOUR for one in others} | {chain[-1].key: 2 * HOUR}
    memory = remembering({one: TargetState(at=START, waiting_since=START - wait) for one, wait in waits.items()})
    guarded = guard(paired(assemble([*chain, *others]), memory), capped(3), START, force=False)
    assert {one.key for one in guarded.plan.writes()} == {one.key for one in chain}


def test_dependents_of_a_deferred_write_are_held_back() -> None:
    """No target is written before its dependency."""
    base = Key("z", "destination", "data")
    plan = assemble([action(Verb.CREATE, "z", DESTINATION, name="data"), action(Verb.CREATE, "a", needs=(base,))])
    memory = remembering({base: TargetState(at=START, waiting_since=START - HOUR)})
    guarded = guard(paired(plan, memory), capped(1), START, force=False)
    assert {one.key.scope: (one.verb, one.reason) for one in guarded.plan.actions} == {
        "z": (Verb.CREATE, "test"),
        "a": (Verb.DEFER, "write-cap"),
    }


def test_capped_runs_write_everything_in_the_fewest_runs() -> None:
    """Nine writes with a cap of four take three runs, and a fourth has nothing to do."""
    setting = Setting(4, max_writes=4)
    written = []
    for _ in range(4):
        before = len(setting.world.written)
        finished = setting.run()
        assert finished.report["status"] == "ok"
        written.append(len(setting.world.written) - before)
    assert written == [4, 4, 1, 0]
    assert setting.covered()
    assert actions(setting.run(), "DEFER") == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=30), st.integers(0, 12))
def test_cap_is_kept_and_selects_the_longest_waits(hours: list[int], most: int) -> None:
    """No deferred write has waited longer than a selected one."""
    waits = {key(f"s{place:02}"): START - hour * HOUR for place, hour in enumerate(hours)}
    memory = remembering({one: TargetState(at=START, waiting_since=since) for one, since in waits.items()})
    plan = assemble([action(Verb.CREATE, one.scope) for one in waits])
    guarded = guard(paired(plan, memory), capped(most), START, force=False)
    chosen = [waits[one.key] for one in guarded.plan.writes()]
    left = [waits[one.key] for one in guarded.plan.actions if one.verb is Verb.DEFER]
    assert len(chosen) == (min(most, len(hours)) if most else len(hours))
    assert guarded.capped == len(left)
    if chosen and left:
        assert max(chosen) <= min(left)


BASE = key("owner", "destination", "data")


@pytest.mark.parametrize(
    ("resting", "alone", "base_gone", "named"),
    [
        pytest.param(12, 0, True, True, id="all rest on the one that is gone, too"),
        pytest.param(12, 1, True, False, id="another one vanished"),
        pytest.param(12, 0, False, False, id="what they rest on is there"),
    ],
)
def test_remedy_names_the_prerequisite_that_is_gone(resting: int, alone: int, base_gone: bool, named: bool) -> None:
    """If everything vanished with one bucket, a person looks for who deleted that bucket."""
    lost = [action(Verb.CREATE, f"s{number:02}", needs=(BASE,)) for number in range(resting)]
    lost += [action(Verb.CREATE, f"t{number:02}") for number in range(alone)]
    seen = Absent() if base_gone else Present()
    base = action(Verb.CREATE if base_gone else Verb.KEEP, "owner", DESTINATION, name="data", observation=seen)
    plan = assemble([base, *lost])
    refusal = guard(paired(plan, known(*(one.key for one in plan.actions))), DEFAULTS, START, force=False).refusal
    assert refusal is not None
    assert (str(BASE) in refusal.remedy) is named
    assert ("Check the credentials" in refusal.remedy) is not named


def test_plan_with_as_many_writes_as_the_cap_is_not_capped() -> None:
    """The cap is the number that is allowed."""
    plan = assemble([action(Verb.CREATE, f"s{number}") for number in range(3)])
    assert guard(plan, EngineSettings(max_writes=3), START, force=False).capped == 0
    assert guard(plan, EngineSettings(max_writes=2), START, force=False).capped == 1


def test_targets_that_were_not_looked_at_do_not_dilute_the_share() -> None:
    """With a budget of reads, most targets of a large cloud are only remembered: they prove nothing."""
    gone = [action(Verb.CREATE, f"a{number:02}") for number in range(VANISHED_FLOOR)]
    unseen = [action(Verb.KEEP, f"p{number:03}") for number in range(200)]
    plan = assemble([*gone, *unseen])
    guarded = guard(paired(plan, known(*(one.key for one in plan.actions))), DEFAULTS, START, force=False)
    assert guarded.refusal is not None
    assert guarded.refusal.message.startswith("10 of 10 known targets (100.0 %)")
