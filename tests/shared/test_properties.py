"""Property tests of complete runs, on clouds in any state."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Denied, Manual, NotApplicable, Permanent, Throttled, Transient
from shared.model import CLASSES, Health, Key, ManualStep, Ownership, Present, Result, Unknown
from shared.plan import make_plan
from shared.state.document import fresh
from tests.inmemory import DESIRED, Thing
from tests.shared.setting import Setting

THINGS = st.sampled_from(
    ["absent", "wanted", "drifted", "unmarked", "foreign", "broken", "waiting", "manual", "inactive"]
)
FAULTS = st.sampled_from([
    None,
    None,
    Denied("denied", "no"),
    Permanent("broken", "no"),
    Transient("busy", "later", within_run=False),
    NotApplicable("refused", "never here"),
    Manual("console", ManualStep("open the console")),
])  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> Setting:
    """Generate a setting with scopes, targets in any state, and faults on some scopes."""
    setting = Setting(draw(st.integers(1, 6)))
    for scope in list(setting.world.scopes):
        if scope == "owner":
            continue
        for kind, name in (("export", "daily"), ("role", "reader")):
            state = draw(THINGS)
            if state != "absent":
                setting.world.things[Key(scope, kind, name)] = _thing(state, DESIRED[kind])
        for operation in ("read", "write"):
            fault = draw(FAULTS)
            if fault:
                setting.world.faults[operation, scope] = fault
        if draw(st.booleans()):
            setting.world.suspend(scope)
    if draw(st.booleans()):
        setting.world.faults["list", "*"] = Denied("denied", "no listing")
    return setting


def _thing(state: str, wanted: Mapping[str, object]) -> Thing:
    fields = {**wanted, next(iter(wanted)): "other"} if state == "drifted" else dict(wanted)
    health = {one.value: one for one in Health}.get(state, Health.HEALTHY)
    ownership = {one.value: one for one in Ownership}.get(state, Ownership.OURS)
    return Thing(fields, health, ownership)


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_every_target_has_one_action_and_one_outcome(setting: Setting) -> None:
    """This holds for any state of the cloud."""
    done = setting.run()
    assert done.plan is not None
    keys = [action.key for action in done.plan.actions]
    assert keys == sorted(set(keys))
    assert [outcome.key for outcome in done.outcomes] == keys
    assert sum(sum(one.values()) for one in done.report["outcomes"].values()) == len(keys)


@settings(max_examples=120, deadline=None)
@given(worlds(), st.booleans())
def test_every_active_scope_is_in_exactly_one_class(setting: Setting, dry_run: bool) -> None:
    """The six classes add up to the active scopes in any run."""
    for _ in range(3):
        scopes = setting.run(dry_run=dry_run).report["scopes"]
        assert sum(scopes[name] for name in CLASSES) == scopes["active"]
        assert scopes["delivering"] + scopes["awaiting_first_data"] <= scopes["active"] <= scopes["total"]
        setting.world.faults.clear()


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_scope_with_a_refused_target_is_not_covered(setting: Setting) -> None:
    """No scope with a refused, missing, foreign or broken target is covered."""
    finished = setting.run()
    good = {one.key.scope for one in finished.outcomes} - {
        one.key.scope for one in finished.outcomes if one.result not in (Result.DONE, Result.UNCHANGED)
    }
    assert finished.report["scopes"]["covered"] <= len(good)
    assert sum(one["count"] for one in finished.report["excluded"]) == finished.report["scopes"]["excluded"]


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_unknown_foreign_or_inactive_targets_are_not_written(setting: Setting) -> None:
    """A write needs a successful observation of our own target in an active scope."""
    done = setting.run()
    assert done.plan is not None
    for action in done.plan.writes():
        assert not isinstance(action.observation, Unknown)
        if isinstance(action.observation, Present):
            assert action.observation.ownership is not Ownership.FOREIGN
            assert action.observation.health is not Health.INACTIVE


@settings(max_examples=120, deadline=None)
@given(worlds())
def test_plan_after_a_run_writes_only_what_failed(setting: Setting) -> None:
    """After the faults end, nothing is written twice."""
    done = setting.run()
    written = {one.key for one in done.outcomes if one.result in (Result.DONE, Result.PENDING)}
    again = setting.run(dry_run=True)
    assert again.plan is not None
    assert not written & {action.key for action in again.plan.writes()}
    setting.world.faults.clear()
    setting.clock.advance(3 * 86400)
    setting.run()
    last = setting.run(dry_run=True)
    assert last.plan is not None
    assert last.plan.writes() == []


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_dry_run_has_the_same_plan_and_changes_nothing(setting: Setting) -> None:
    """The plans are equal action by action."""
    before = dict(setting.world.things)
    dry = setting.run(dry_run=True)
    assert (setting.world.things, setting.store.data, setting.store.reports) == (before, None, {})
    setting.clock.advance(-3600)
    real = setting.run()
    assert dry.plan is not None
    assert dry.plan == real.plan


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_plan_does_not_depend_on_the_order_of_targets(setting: Setting, random: Random) -> None:
    """A cloud may list its resources in any order."""
    done = setting.run(dry_run=True)
    assert done.plan is not None
    targets = [action.target for action in done.plan.actions]
    observations = {action.key: action.observation for action in done.plan.actions}
    scopes = setting.world.scopes
    memory = fresh("memory")
    one = make_plan(memory.pair(targets), scopes, observations, setting.clock.now())
    random.shuffle(targets)
    other = make_plan(memory.pair(targets), scopes, observations, setting.clock.now())
    assert one == other


@settings(max_examples=40, deadline=None)
@given(worlds(), st.integers(1, 5))
def test_capped_runs_eventually_cover_every_scope(setting: Setting, cap: int) -> None:
    """Once the faults end, a bounded number of runs covers all scopes."""
    setting.settings = msgspec.structs.replace(setting.settings, max_writes=cap)
    setting.run()
    setting.world.faults.clear()
    setting.clock.advance(3 * 86400)
    for _ in range(20):
        setting.run()
    last = setting.run(dry_run=True)
    assert last.plan is not None
    assert last.plan.writes() == []


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 6))
def test_throttled_runs_end_in_time(scopes: int, seconds: int, every: int) -> None:
    """However the cloud throttles, a run ends before its deadline with all outcomes."""
    setting = Setting(scopes)
    setting.seconds = seconds
    count = [0]

    def trip(operation: str, scope: str = "*") -> None:
        count[0] += 1
        if count[0] % every == 0:
            raise Throttled("throttled", "slow down")

    setting.world.trip = trip  # type: ignore[method-assign]  # every n-th call is throttled
    begun = setting.clock.monotonic()
    done = setting.run()
    assert setting.clock.monotonic() - begun - 3600 <= seconds
    if done.plan is not None:
        assert len(done.outcomes) == len(done.plan.actions)
