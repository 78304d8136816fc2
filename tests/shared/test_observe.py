"""Observation: evidence first, then single reads within the call budget, and the meaning of a failed read."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.apply import unwritten
from shared.errors import (
    CloudError,
    Denied,
    Manual,
    NotApplicable,
    NotFound,
    OutOfTime,
    Permanent,
    RunStopped,
    Transient,
)
from shared.model import (
    Absent,
    EscalationPolicy,
    Health,
    Key,
    ManualStep,
    Observation,
    Present,
    Target,
    Unknown,
)
from shared.observe import (
    DENIED_ESCALATION,
    as_bulk_observation,
    as_observation,
    choose,
    observe,
    without_secrets,
)
from shared.plan import make_plan
from shared.redaction import remember_secret
from shared.runtime.clock import VirtualClock
from shared.state.document import StateDocument, fresh
from shared.state.update import record_outcome
from shared.target_state import LastError, TargetState
from tests.shared.builders import (
    DESTINATION,
    GUIDE,
    HOUR,
    START,
    Recorder,
    ScriptedCloud,
    known,
    remembering,
    scopes,
    target,
    with_state,
)
from tests.shared.setting import Setting

EVIDENCE = Present(verified=False, delivered_at=START)
PATIENCE = EscalationPolicy(tries=3)


def targets(number: int) -> list[Target]:
    """Return a number of targets in the order of their keys."""
    return [target(f"s{place:03}") for place in range(number)]


def names(chosen: Sequence[Target]) -> list[str]:
    """Return the scopes of the targets."""
    return [one.key.scope for one in chosen]


# --- the meaning of a failed read ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            NotApplicable("off", "not here"),
            Present(health=Health.INACTIVE, code="off", detail="not here", retry_after=timedelta(days=7)),
        ),
        (Manual("off", GUIDE), Unknown("off", "it is broken", GUIDE)),
        (Denied("denied", "no"), Unknown("denied", "no")),
        (Denied("denied", "no", escalation=PATIENCE, manual_step=GUIDE), Unknown("denied", "no", GUIDE, PATIENCE)),
        (
            Transient("busy", "later", retry_after=HOUR, escalation=PATIENCE, manual_step=GUIDE),
            Unknown("busy", "later", GUIDE, PATIENCE, HOUR),
        ),
        (Permanent("broken", "no"), Unknown("broken", "no")),
        (NotFound("missing", "no"), Unknown("missing", "no")),
        (CloudError("other", "no"), Unknown("other", "no")),
    ],
)
def test_failed_read_is_unknown(error: CloudError, expected: Observation) -> None:
    """The observation has the error's code, manual step, escalation policy and wait, or does not apply."""
    assert as_observation(error) == expected


def test_failed_read_affects_only_its_target() -> None:
    """The other targets are observed, and the failure is logged."""
    one, two, three = targets(3)
    cloud = ScriptedCloud(observations={one.key: Present(), two.key: Denied("denied", "no"), three.key: Absent()})
    recorder = Recorder()
    observations = observe(cloud, [one, two, three], fresh("memory"), recorder.run, 0)
    assert observations == {one.key: Present(), two.key: Unknown("denied", "no"), three.key: Absent()}
    assert [fields["scope"] for _, event, fields in recorder.lines if event == "unknown"] == ["s001"]


def test_target_observed_in_bulk_is_not_read_again() -> None:
    """Only targets that are missing from the listings, or known only by their data, are read."""
    one, two, three, four = targets(4)
    cloud = ScriptedCloud({one.key: Present(), two.key: Absent(), three.key: Unknown("denied")})
    observe(cloud, [one, two, three, four], fresh("memory"), Recorder().run, 0)
    assert cloud.inspected == [four.key]


def test_failed_bulk_observation_makes_every_target_unknown() -> None:
    """No target is Absent because a listing was denied, and no single read is made."""
    cloud = ScriptedCloud()
    cloud.survey_error = Denied("denied", "no listing")
    run = Recorder().run
    observations = observe(cloud, targets(3), fresh("memory"), run, 0)
    assert list(observations.values()) == [Unknown("denied", "no listing")] * 3
    assert cloud.inspected == []
    assert not run.cut_short


def test_target_without_time_for_its_read_is_left_out() -> None:
    """It keeps its place in the queue and is not Unknown; the run is marked as cut short."""
    one, two = targets(2)
    cloud = ScriptedCloud(observations={one.key: OutOfTime("too late"), two.key: Present()})

    def look(wanted: Sequence[Target]) -> tuple[dict[Key, Observation], bool]:
        run = Recorder().run
        return observe(cloud, wanted, fresh("memory"), run, 0), run.cut_short

    assert look([one, two]) == ({two.key: Present()}, True)
    assert look([two]) == ({two.key: Present()}, False)
    cloud.survey_error = OutOfTime("too late")
    assert look([one, two]) == ({}, True)


def test_target_is_read_as_long_as_any_time_is_left() -> None:
    """How long a read takes is not known beforehand."""
    recorder, cloud = Recorder(seconds=0.5), ScriptedCloud()
    observe(cloud, targets(1), fresh("memory"), recorder.run, 0)
    assert len(cloud.inspected) == 1


def test_nothing_is_read_after_the_deadline() -> None:
    """Bulk observations are kept, and the run is marked as cut short."""
    recorder = Recorder(seconds=10)
    recorder.clock.advance(20)
    one, two = targets(2)
    cloud = ScriptedCloud({one.key: EVIDENCE})
    assert observe(cloud, [one, two], fresh("memory"), recorder.run, 0) == {one.key: EVIDENCE}
    assert cloud.inspected == []
    assert recorder.run.cut_short


def test_run_without_time_for_every_read_is_reported_incomplete() -> None:
    """With more time, the next run is complete."""
    setting = Setting(3)
    setting.run()
    setting.world.faults["read", "s00001"] = OutOfTime("too late")
    late = setting.run().report
    assert (late["run_complete"], late["status"], late["scopes"]["covered"]) == (False, "ok", 4)
    del setting.world.faults["read", "s00001"]
    assert setting.run().report["run_complete"] is True


@pytest.mark.parametrize("where", ["observe_bulk", "observe"])
def test_run_ending_error_is_raised(where: str) -> None:
    """Expired credentials are not a property of one target."""
    cloud, stop = ScriptedCloud(), RunStopped("credentials", "they have expired")
    if where == "observe_bulk":
        cloud.survey_error = stop
    else:
        cloud.observations = {one.key: stop for one in targets(3)}
    with pytest.raises(RunStopped):
        observe(cloud, targets(3), fresh("memory"), Recorder().run, 0)


def test_heartbeat_is_called_after_the_bulk_observation_and_each_read() -> None:
    """A long observation therefore saves the state and keeps the lock."""
    recorder, beats = Recorder(), []
    recorder.run.on_heartbeat = lambda: beats.append(1)
    observe(ScriptedCloud(), targets(5), fresh("memory"), recorder.run, 0)
    assert len(beats) == 6


@pytest.mark.parametrize(
    ("surveyed", "read", "remembered", "expected"),
    [
        pytest.param(EVIDENCE, Present(), None, START, id="a read does not hide what the survey showed"),
        pytest.param(EVIDENCE, Present(delivered_at=START + HOUR), None, START + HOUR, id="the read knows better"),
        pytest.param(None, Present(delivered_at=START), START - HOUR, START, id="the read has news"),
        pytest.param(None, Present(delivered_at=START), START, None, id="the read has no news"),
        pytest.param(None, Present(delivered_at=START), None, START, id="nothing was known"),
        pytest.param(None, Present(), START, None, id="nothing was delivered"),
    ],
)
def test_delivery_is_evidence_only_while_fresh(
    surveyed: Present | None, read: Present, remembered: object, expected: object
) -> None:
    """An old delivery does not prove that an export exists, nor that it is lost."""
    (one,) = targets(1)
    memory = known(one.key, delivered_at=remembered)
    cloud = ScriptedCloud({one.key: surveyed} if surveyed else {}, {one.key: read})
    (found,) = observe(cloud, memory.pair([one]), memory, Recorder().run, 0).values()
    assert isinstance(found, Present)
    assert found.delivered_at == expected


# --- the choice of reads within the budget -------------------------------------------------------


def test_without_a_budget_everything_is_read() -> None:
    """This includes targets with evidence, whose configuration is unknown; each run starts a new round."""
    memory = fresh("memory")
    chosen = choose(memory.pair(targets(3)), {targets(3)[0].key: EVIDENCE}, memory, START, 0)
    assert names(chosen) == ["s001", "s002", "s000"]
    assert memory.cycle_since == START


@pytest.mark.parametrize(
    ("looked_at", "evidence", "expected"),
    [
        pytest.param({}, [], ["s000", "s001"], id="nothing is known: by key"),
        pytest.param({}, [0, 1], ["s002", "s003"], id="what has no evidence comes first"),
        pytest.param({0: 1, 1: 2, 2: 3}, [], ["s003", "s002"], id="never read comes first, then the oldest"),
        pytest.param({0: 1, 1: 2, 2: 3, 3: 4}, [3], ["s002", "s001"], id="no evidence before age"),
    ],
)
def test_targets_without_evidence_are_read_first_oldest_first(
    looked_at: dict[int, int], evidence: list[int], expected: list[str]
) -> None:
    """The budget is spent on the targets about which least is known."""
    everything = targets(4)
    memory = remembering(
        {
            everything[place].key: TargetState(at=START, present=True, looked_at=START - hours * HOUR)
            for place, hours in looked_at.items()
        }
    )
    observations = {everything[place].key: EVIDENCE for place in evidence}
    assert names(choose(memory.pair(everything), observations, memory, START, 2)) == expected


def test_target_that_lost_its_evidence_is_read_in_the_next_run() -> None:
    """It is read once, before targets with evidence, even if this round has read it already."""
    everything = targets(4)
    fields: dict[str, Any] = {"present": True, "looked_at": START - HOUR, "delivered_at": START - HOUR}
    memory = known(*(one.key for one in everything), **fields)
    memory.cycle_since = START - 2 * HOUR
    observations = {one.key: EVIDENCE for one in everything[:3]}
    assert names(choose(memory.pair(everything), observations, memory, START, 1)) == ["s003"]
    read = TargetState(at=START, **{**fields, "looked_at": START, "unseen_since": START})
    memory.scopes["s003"].targets["export/daily"] = read
    assert names(choose(memory.pair(everything), observations, memory, START + HOUR, 1)) == ["s000"]


def test_targets_that_deliver_and_have_an_error_leave_the_budget_to_others() -> None:
    """They are read once in a round: each run would otherwise read only them, and the round would never end."""
    everything = targets(3)
    fields: dict[str, Any] = {"present": True, "delivered_at": START - HOUR}
    memory = known(everything[2].key, **fields, looked_at=START - 5 * HOUR)
    failing = known(*(one.key for one in everything[:2]), **fields, looked_at=START - HOUR, error=LastError("denied"))
    memory.scopes.update(failing.scopes)
    memory.cycle_since = START - 2 * HOUR
    observations = {one.key: EVIDENCE for one in everything}
    assert names(choose(memory.pair(everything), observations, memory, START, 1)) == ["s002"]


@pytest.mark.parametrize(
    ("entry", "requested", "read"),
    [
        pytest.param(TargetState(at=START, not_before=START + HOUR), (), False, id="its first look has to wait"),
        pytest.param(TargetState(at=START, not_before=START + HOUR), ("s000",), True, id="requested"),
        pytest.param(TargetState(at=START, not_before=START), (), True, id="the wait is over"),
        pytest.param(
            TargetState(at=START, present=True, not_before=START + HOUR), (), True, id="known: its write waits"
        ),
        pytest.param(
            TargetState(at=START, present=False, not_before=START + HOUR), (), True, id="absent: its write waits"
        ),
    ],
)
def test_denied_scope_is_not_read_before_its_time(entry: TargetState, requested: Collection[str], read: bool) -> None:
    """Only a target that was never observed is skipped, unless its scope is requested."""
    (one,) = targets(1)
    assert bool(choose([with_state(one, entry)], {}, fresh("memory"), START, 0, requested)) is read


class Rounds:
    """Consecutive runs with one state document, which records each run as the engine does."""

    def __init__(self, number: int, budget: int) -> None:
        self.targets = targets(number)
        self.budget = budget
        self.memory = fresh("memory")
        self.evidence: set[Key] = set()
        self.now = START
        self.reads: list[set[str]] = []
        self.cloud = ScriptedCloud()
        self.failing: dict[Key, CloudError] = {}

    def run(self) -> None:
        """Run once: observe, plan, record."""
        recorder = Recorder(VirtualClock(self.now))
        fresh_evidence = Present(verified=False, delivered_at=self.now)
        self.cloud.surveyed = dict.fromkeys(self.evidence, fresh_evidence)
        self.cloud.observations = {one.key: Present({"format": "csv"}) for one in self.targets}
        self.cloud.observations.update(self.failing)
        self.cloud.inspected = []
        observations = observe(self.cloud, self.memory.pair(self.targets), self.memory, recorder.run, self.budget)
        plan = make_plan(self.memory.pair(self.targets), scopes(*names(self.targets)), observations, self.now)
        for action in plan.actions:
            record_outcome(self.memory, unwritten(action), self.now, random.Random(1))
        assert len(self.cloud.inspected) <= self.budget
        self.reads.append({one.scope for one in self.cloud.inspected})
        self.now += timedelta(hours=1)

    def longest_gap(self) -> int:
        """Return the largest number of consecutive runs in which some readable target was not read."""
        gaps = [0]
        for scope in names([one for one in self.targets if one.key not in self.failing]):
            gap = 0
            for read in self.reads:
                gap = 0 if scope in read else gap + 1
                gaps.append(gap)
        return max(gaps)


@settings(max_examples=25, deadline=None)
@given(number=st.integers(1, 25), budget=st.integers(1, 25), share=st.integers(0, 25))
def test_every_target_is_read_at_least_once_in_n_over_budget_runs(number: int, budget: int, share: int) -> None:
    """Any window of ⌈N / budget⌉ runs reads each target, with any share of evidence, and uses the whole budget."""
    rounds = Rounds(number, budget)
    rounds.evidence = {one.key for one in rounds.targets[:share]}
    runs = math.ceil(number / budget)
    for _ in range(4 * runs + 1):
        rounds.run()
    assert rounds.longest_gap() < runs
    assert all(len(read) == min(number, budget) for read in rounds.reads)


@settings(max_examples=25, deadline=None)
@given(number=st.integers(1, 20), budget=st.integers(1, 20), seed=st.integers(0, 10_000))
def test_changing_evidence_does_not_starve_any_target(number: int, budget: int, seed: int) -> None:
    """Reads for lost evidence add to the round; a window longer by these and one round still reads each target."""
    rounds, rng = Rounds(number, budget), random.Random(seed)
    rounds.evidence = {one.key for one in rounds.targets if rng.random() < 0.8}
    losses = 0
    for _ in range(3 * math.ceil(number / budget)):
        rounds.run()
        lost = {one for one in rounds.evidence if rng.random() < 0.05}
        losses += len(lost)
        rounds.evidence = (rounds.evidence - lost) | {one.key for one in rounds.targets if rng.random() < 0.01}
    for _ in range(2 * math.ceil((number + losses) / budget)):
        rounds.run()
    assert rounds.longest_gap() < 2 * math.ceil((number + losses) / budget)


@pytest.mark.parametrize(
    "error",
    [NotApplicable("off", "not here"), Denied("denied", "no"), Permanent("broken", "no")],
    ids=["does not apply", "denied", "broken"],
)
def test_unreadable_targets_do_not_exhaust_the_budget(error: CloudError) -> None:
    """As many unreadable targets as the budget do not keep the others from being read."""
    rounds = Rounds(12, 4)
    rounds.failing = {one.key: error for one in rounds.targets[:6]}
    for _ in range(9):
        rounds.run()
    assert rounds.longest_gap() < 3


def test_target_that_does_not_apply_is_not_read_for_a_week() -> None:
    """It uses no budget until then."""
    rounds = Rounds(3, 3)
    rounds.failing = {rounds.targets[0].key: NotApplicable("off", "not here")}
    for _ in range(5):
        rounds.run()
    [off] = names(rounds.targets[:1])
    assert [off in read for read in rounds.reads] == [True, False, False, False, False]


def test_target_with_stopped_delivery_is_read_once_then_in_turn() -> None:
    """The read itself still returns the last delivery."""
    rounds = Rounds(12, 3)
    rounds.evidence = {one.key for one in rounds.targets}
    for _ in range(6):
        rounds.run()
    lost = rounds.targets[0].key
    rounds.evidence.discard(lost)
    rounds.failing = {}
    rounds.run()
    assert lost.scope in rounds.reads[-1]
    for _ in range(8):
        rounds.run()
    assert sum(lost.scope in read for read in rounds.reads[-8:]) <= 3


def test_lost_state_starts_a_new_round_of_reads() -> None:
    """Every target is read again within the budget."""
    memory: StateDocument = fresh("memory")
    assert len(choose(memory.pair(targets(10)), {}, memory, START, 4)) == 4
    assert memory.cycle_since == START


BULK_STEP = ManualStep("grant it", ("Grant it.",))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Denied("denied", "no"), Unknown("denied", "no", BULK_STEP, DENIED_ESCALATION)),
        (
            Denied("denied", "no", "Do.", escalation=EscalationPolicy(tries=9), manual_step=GUIDE),
            Unknown("denied", "no", GUIDE, EscalationPolicy(tries=9), remedy="Do."),
        ),
        (NotApplicable("off", "not here"), Present(health=Health.INACTIVE, code="off", detail="not here")),
        (Permanent("broken", "no"), Unknown("broken", "no")),
    ],
)
def test_failed_bulk_listing_is_unknown(error: CloudError, expected: Observation) -> None:
    """A missing permission becomes a manual step after some runs; what does not apply is looked at in each run."""
    assert as_bulk_observation(error, BULK_STEP) == expected


@pytest.mark.parametrize(
    "observation",
    [
        Unknown("a\u202ecode", "key=SECRET-of-the-tests"),
        Present(detail="key=SECRET-of-the-tests"),
        Present(code="a\u202ecode"),
        Present(manual_step=ManualStep("key=SECRET-of-the-tests")),
    ],
)
def test_texts_of_an_observation_are_cleaned(observation: Observation) -> None:
    """Any text may quote the cloud: secrets and control characters are removed from each one."""
    remember_secret("SECRET-of-the-tests")
    shown = str(without_secrets(observation))
    assert "SECRET-of-the-tests" not in shown
    assert "\\u202e" not in ascii(shown)


def test_observation_without_texts_is_not_copied() -> None:
    """Most observations have none, of 100,000 in a run."""
    seen = Present({"format": "csv"})
    assert without_secrets(seen) is seen


def test_destination_is_read_before_targets_that_were_looked_at_earlier() -> None:
    """Everything rests on it, so a budget of one read goes to it."""
    base, export = target("owner", DESTINATION, "data"), target("s1")
    memory = known(base.key, looked_at=START)
    remembered = [with_state(one, memory.state_of(one.key)) for one in (export, base)]
    assert [one.key for one in choose(remembered, {}, memory, START + HOUR, 1)] == [base.key]


def test_only_a_refused_read_hides_what_a_listing_showed() -> None:
    """The periods of a target whose read fails are noted; those of one that was read are in its observation."""
    listed, hidden = target("s1"), target("s2")
    cloud = ScriptedCloud(
        {one.key: EVIDENCE for one in (listed, hidden)}, {listed.key: Present(), hidden.key: Permanent("broken", "no")}
    )
    noted: list[Mapping[Key, Observation]] = []
    seen = observe(cloud, [listed, hidden], fresh("memory"), Recorder().run, 0, note_periods=noted.append)
    assert [list(one) for one in noted] == [[hidden.key]]
    assert isinstance(seen[hidden.key], Unknown)
