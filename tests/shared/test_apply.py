"""Applying a plan: stages, batches, deadline, and one outcome per action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.apply import (
    MAX_UNSEEN_CREATIONS,
    ApplyResult,
    apply,
    batches,
    is_never_seen,
    is_refused,
    outcome_of,
    unwritten,
)
from shared.errors import CloudError, Denied, Manual, NotApplicable, OutOfTime, Permanent, RunStopped, Transient
from shared.model import (
    NOT_LOOKED_AT,
    WRITES,
    Absent,
    Action,
    EscalationPolicy,
    Health,
    Key,
    Outcome,
    Present,
    Result,
    Unknown,
    Verb,
)
from shared.plan import Plan, assemble
from shared.provider import Applied
from shared.state.document import StateDocument, fresh
from shared.target_state import TargetState
from tests.shared.builders import (
    DAY,
    DESTINATION,
    EXPORT,
    GUIDE,
    HOUR,
    ROLE,
    START,
    Recorder,
    ScriptedCloud,
    action,
    key,
    known,
    paired,
    remembering,
)

BASE = Key("owner", "destination", "data")
MAKE_BASE = action(Verb.CREATE, "owner", DESTINATION, name="data")


def carry_out(
    actions: Sequence[Action],
    cloud: ScriptedCloud | None = None,
    memory: StateDocument | None = None,
    recorder: Recorder | None = None,
) -> ApplyResult:
    """Apply the plan of these actions; each must have one outcome, reported once."""
    plan = paired(assemble(actions), memory or fresh("memory"))
    reported: list[Key] = []
    recorder = recorder or Recorder()
    carried = apply(plan, cloud or ScriptedCloud(), recorder.run, lambda one: reported.append(one.key))
    assert [one.key for one in carried.outcomes] == [one.key for one in plan.actions]
    assert sorted(reported) == [one.key for one in plan.actions]
    return carried


def by_scope(carried: ApplyResult) -> dict[str, tuple[Result, str]]:
    """Return result and code by scope."""
    return {one.key.scope: (one.result, one.code) for one in carried.outcomes}


# --- the meaning of results ----------------------------------------------------------------------

TRIES = EscalationPolicy(tries=3)
SECOND = timedelta(seconds=1)
ONE_DAY = EscalationPolicy(longest=DAY)


@pytest.mark.parametrize(
    ("answer", "entry", "result", "code"),
    [
        (Applied(), None, Result.DONE, "test"),
        (Applied(Result.PENDING, "operation 7"), None, Result.PENDING, "test"),
        (Manual("off", GUIDE), None, Result.MANUAL, "off"),
        (NotApplicable("not-here", "m", 7 * DAY), None, Result.EXCLUDED, "not-here"),
        (Transient("busy", "m", retry_after=HOUR), None, Result.DEFERRED, "busy"),
        (
            Transient("busy", "m", escalation=EscalationPolicy(tries=2), manual_step=GUIDE),
            None,
            Result.DEFERRED,
            "busy",
        ),
        (
            Transient("busy", "m", escalation=TRIES, manual_step=GUIDE),
            TargetState(at=START, attempts=1),
            Result.DEFERRED,
            "busy",
        ),
        (
            Transient("busy", "m", escalation=TRIES, manual_step=GUIDE),
            TargetState(at=START, attempts=2),
            Result.MANUAL,
            "busy",
        ),
        (Transient("busy", "m", escalation=TRIES), TargetState(at=START, attempts=9), Result.DEFERRED, "busy"),
        (Denied("denied", "m"), None, Result.FAILED, "denied"),
        (Denied("denied", "m", manual_step=GUIDE), None, Result.MANUAL, "denied"),
        (Denied("denied", "m", escalation=ONE_DAY, manual_step=GUIDE), None, Result.DEFERRED, "denied"),
        (
            Denied("denied", "m", escalation=ONE_DAY, manual_step=GUIDE),
            TargetState(at=START, waiting_since=START - DAY),
            Result.MANUAL,
            "denied",
        ),
        (
            Denied("denied", "m", escalation=ONE_DAY),
            TargetState(at=START, waiting_since=START - DAY),
            Result.FAILED,
            "denied",
        ),
        (Permanent("wrong", "m"), None, Result.FAILED, "wrong"),
        (CloudError("other", "m"), None, Result.FAILED, "other"),
        (RunStopped("credentials", "m"), None, Result.FAILED, "credentials"),
    ],
)
def test_each_provider_result_has_its_outcome(
    answer: Applied | CloudError, entry: TargetState | None, result: Result, code: str
) -> None:
    """The outcome is done, pending, failed, deferred, manual or excluded; it is manual only with a manual step."""
    outcome = outcome_of(action(Verb.CREATE, state=entry), answer, START)
    assert (outcome.result, outcome.code, outcome.attempted) == (result, code, True)
    assert (outcome.manual_step is not None) == (result is Result.MANUAL)
    if not isinstance(answer, Applied):
        assert outcome.message == answer.message


def test_outcome_keeps_the_providers_wait_remedy_and_facts() -> None:
    """A write that ran out of time does not count as an attempt."""
    create = action(Verb.CREATE)
    assert outcome_of(create, Transient("busy", "m", retry_after=HOUR), START).retry_after == HOUR
    assert outcome_of(create, NotApplicable("no", "m", 7 * DAY), START).retry_after == 7 * DAY
    assert outcome_of(create, Permanent("wrong", "m", "Mend it."), START).remedy == "Mend it."
    assert outcome_of(create, Applied(facts={"id": 7}), START).facts == {"id": 7}
    assert not outcome_of(create, OutOfTime("too late"), START).attempted


@pytest.mark.parametrize(
    ("one", "result", "attempted"),
    [
        (action(Verb.KEEP, observation=Present()), Result.UNCHANGED, False),
        (action(Verb.KEEP, reason="pending", observation=Absent()), Result.PENDING, False),
        (action(Verb.SKIP), Result.SKIPPED, False),
        (action(Verb.BLOCK, observation=Absent()), Result.BLOCKED, False),
        (action(Verb.MANUAL, observation=Unknown("denied"), manual_step=GUIDE), Result.MANUAL, False),
        (action(Verb.DEFER, observation=Unknown("denied")), Result.DEFERRED, True),
        (action(Verb.DEFER, observation=Present(health=Health.WAITING)), Result.DEFERRED, True),
        (action(Verb.DEFER, observation=Unknown("denied"), waits=True), Result.DEFERRED, False),
        (action(Verb.DEFER, observation=NOT_LOOKED_AT), Result.DEFERRED, False),
        (action(Verb.DEFER, observation=Absent()), Result.DEFERRED, False),
        (action(Verb.DEFER, reason="write-cap", observation=Present()), Result.DEFERRED, False),
        (action(Verb.DEFER, reason="rests-on", observation=Present()), Result.DEFERRED, False),
    ],
)
def test_action_without_a_write_has_an_outcome(one: Action, result: Result, attempted: bool) -> None:
    """A failed observation counts as an attempt; an action that the engine held back does not."""
    outcome = unwritten(one)
    assert (outcome.result, outcome.attempted, outcome.code) == (result, attempted, one.reason)
    assert outcome.manual_step == one.manual_step


def test_unknown_target_keeps_the_wait_requested_by_the_cloud() -> None:
    """The target is not observed again before that time."""
    assert unwritten(action(Verb.DEFER, observation=Unknown("busy", retry_after=HOUR))).retry_after == HOUR


# --- stages --------------------------------------------------------------------------------------


def test_stages_are_written_in_order() -> None:
    """Destinations come first, then exports, then derived targets, whatever their keys."""
    cloud = ScriptedCloud()
    actions = [action(Verb.CREATE, "a", ROLE), action(Verb.CREATE, "b"), action(Verb.CREATE, "c", DESTINATION)]
    carried = carry_out(actions, cloud)
    assert [batch[0].kind for batch in cloud.batches] == ["destination", "export", "role"]
    assert {one.result for one in carried.outcomes} == {Result.DONE}
    assert (carried.stopped, carried.complete) == (None, True)


@pytest.mark.parametrize(
    "answer",
    [Permanent("wrong", "it is refused", "Mend it."), Manual("off", GUIDE), Denied("denied", "no")],
)
def test_failed_dependency_blocks_all_its_dependents(answer: CloudError) -> None:
    """Blocked targets are not written, and their outcome names the dependency; other targets are written."""
    cloud = ScriptedCloud(answers={"owner": answer})
    export = action(Verb.CREATE, "s1", needs=(BASE,))
    role = action(Verb.CREATE, "s2", ROLE, needs=(export.key,))
    carried = carry_out([MAKE_BASE, export, role, action(Verb.CREATE, "s3")], cloud)
    assert by_scope(carried) | {"owner": None} == {
        "owner": None,
        "s1": (Result.BLOCKED, "rests-on"),
        "s2": (Result.BLOCKED, "rests-on"),
        "s3": (Result.DONE, "test"),
    }
    blocked = next(one for one in carried.outcomes if one.key == export.key)
    assert str(BASE) in blocked.message
    assert blocked.remedy == answer.remedy
    assert not blocked.attempted


@pytest.mark.parametrize("answer", [Applied(), Applied(Result.PENDING)])
def test_pending_dependency_does_not_block(answer: Applied) -> None:
    """A target may be written as soon as its dependency was accepted."""
    cloud = ScriptedCloud(answers={"owner": answer})
    carried = carry_out([MAKE_BASE, action(Verb.CREATE, "s1", needs=(BASE,))], cloud)
    assert by_scope(carried)["s1"] == (Result.DONE, "test")


def test_only_writing_actions_reach_the_provider() -> None:
    """All other verbs have an outcome without a call."""
    cloud = ScriptedCloud()
    carried = carry_out([action(verb, verb.value) for verb in Verb], cloud)
    assert {one.scope for batch in cloud.batches for one in batch} == {verb.value for verb in WRITES}
    assert len(carried.outcomes) == len(Verb)


# --- batches -------------------------------------------------------------------------------------


def test_actions_of_one_kind_verb_and_batch_share_calls() -> None:
    """A call has at most as many actions as the kind allows; other verbs and batches have separate calls."""
    actions = [
        *(action(Verb.CREATE, f"a{number}", ROLE, batch="x") for number in range(7)),
        *(action(Verb.REPAIR, f"b{number}", ROLE, batch="x", observation=Present()) for number in range(2)),
        *(action(Verb.CREATE, f"c{number}", ROLE, batch="y") for number in range(2)),
        *(action(Verb.CREATE, f"d{number}", EXPORT) for number in range(2)),
    ]
    found = sorted([one.key.scope for one in batch] for batch in batches(actions))
    assert found == [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6"], ["b0", "b1"], ["c0", "c1"], ["d0"], ["d1"]]


def test_longest_waiting_targets_are_written_first() -> None:
    """This order applies between and within batches; targets that never waited come last, by key."""
    hours = {"a": None, "b": 1, "c": 9, "d": None, "e": 5}
    memory = remembering(
        {key(scope): TargetState(at=START, waiting_since=START - past * HOUR) for scope, past in hours.items() if past}
    )
    found = [
        batch[0].key.scope
        for batch in batches(paired(assemble([action(Verb.CREATE, scope) for scope in hours]), memory).actions)
    ]
    assert found == ["c", "e", "b", "a", "d"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([ROLE, EXPORT]), st.sampled_from("xy"), st.integers(0, 3)), max_size=20))
def test_batches_contain_every_action_once(cases: list[Any]) -> None:
    """However actions are grouped, none is lost, duplicated or mixed with another group."""
    actions = [action(Verb.CREATE, f"s{place}", kind, batch=batch) for place, (kind, batch, _) in enumerate(cases)]
    memory = remembering(
        {
            one.key: TargetState(at=START, waiting_since=START - hours * HOUR)
            for one, (_, _, hours) in zip(actions, cases, strict=True)
            if hours
        }
    )
    found = list(batches(paired(Plan(tuple(actions), ""), memory).actions))
    assert sorted(one.key for batch in found for one in batch) == sorted(one.key for one in actions)
    for batch in found:
        assert len({(one.target.kind.name, one.verb, one.target.batch) for one in batch}) == 1
        assert len(batch) <= batch[0].target.kind.batch_size


def test_error_of_a_batch_fails_only_that_batch() -> None:
    """The next batch is written."""
    actions = [action(Verb.CREATE, f"s{number}", ROLE) for number in range(6)]

    class Failing(ScriptedCloud):
        def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
            if any(one.key.scope == "s1" for one in actions):
                raise Transient("busy", "later")
            return super().apply(actions)

    carried = carry_out(actions, Failing())
    assert [one.result for one in carried.outcomes] == [Result.DEFERRED] * 3 + [Result.DONE] * 3


def test_each_action_of_a_batch_has_its_own_result() -> None:
    """A refusal of one action does not affect the others in its batch."""
    cloud = ScriptedCloud(answers={"s1": Applied(Result.PENDING)})
    cloud.apply = lambda actions: [Applied(), Permanent("wrong", "no"), Applied(Result.PENDING)]  # type: ignore[method-assign]  # answers by place
    carried = carry_out([action(Verb.CREATE, f"s{number}", ROLE) for number in range(3)], cloud)
    assert [one.result for one in carried.outcomes] == [Result.DONE, Result.FAILED, Result.PENDING]


# --- deadline, end of the run, defects -----------------------------------------------------------


class Slow(ScriptedCloud):
    """A provider in which every write takes a minute."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        self.recorder.clock.advance(60)
        return super().apply(actions)


def test_write_that_cannot_end_before_the_deadline_is_deferred() -> None:
    """The longest-waiting target is written; the rest is deferred without an attempt, and the run is incomplete."""
    recorder = Recorder(seconds=180, workers=1)
    actions = [action(Verb.CREATE, f"s{number}") for number in range(6)]
    memory = known(key("s5"), waiting_since=START - HOUR)
    carried = carry_out([*actions, action(Verb.KEEP, "k", observation=Present())], Slow(recorder), memory, recorder)
    results = by_scope(carried)
    done = [scope for scope, (result, _) in results.items() if result is Result.DONE]
    assert done == ["s0", "s1", "s5"]
    assert [results[f"s{number}"] for number in (2, 3, 4)] == [(Result.DEFERRED, "deadline")] * 3
    assert results["k"] == (Result.UNCHANGED, "test")
    assert not any(one.attempted for one in carried.outcomes if one.code == "deadline")
    assert not carried.complete
    assert carried.stopped is None


def test_nothing_is_written_after_the_deadline() -> None:
    """This includes the first stage."""
    recorder = Recorder(seconds=10)
    recorder.clock.advance(60)
    cloud = ScriptedCloud()
    carried = carry_out([MAKE_BASE, action(Verb.CREATE)], cloud, recorder=recorder)
    assert cloud.batches == []
    assert {one.result for one in carried.outcomes} == {Result.DEFERRED}


def test_write_begins_as_long_as_any_time_is_left() -> None:
    """How long it takes is not known beforehand, and its quota refuses what comes too late."""
    carried = carry_out([action(Verb.CREATE)], recorder=Recorder(seconds=0.5))
    assert [one.result for one in carried.outcomes] == [Result.DONE]


def test_run_that_ends_midway_has_an_outcome_for_every_action() -> None:
    """No later write starts, in this stage or another, and the outcomes have the reason."""
    stop = RunStopped("credentials", "they have expired", "Renew them.")

    class Expiring(ScriptedCloud):
        def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
            answers = super().apply(actions)
            if actions[0].key.scope != "s1":
                return answers
            raise stop

    cloud = Expiring()
    actions = [*(action(Verb.CREATE, f"s{number}") for number in range(4)), action(Verb.CREATE, "r", ROLE)]
    carried = carry_out([*actions, action(Verb.MANUAL, "m", manual_step=GUIDE)], cloud, recorder=Recorder(workers=1))
    assert by_scope(carried) == {
        "s0": (Result.DONE, "test"),
        "s1": (Result.FAILED, "credentials"),
        "s2": (Result.DEFERRED, "run-stopped"),
        "s3": (Result.DEFERRED, "run-stopped"),
        "r": (Result.DEFERRED, "run-stopped"),
        "m": (Result.MANUAL, "test"),
    }
    assert carried.stopped is stop
    assert [batch[0].scope for batch in cloud.batches] == ["s0", "s1"]
    assert not any(one.attempted for one in carried.outcomes if one.code == "run-stopped")


def broken(actions: Sequence[Action]) -> Any:
    """Raise an exception whose text must not be shown."""
    raise ZeroDivisionError("the secret is hunter2")


@pytest.mark.parametrize(
    ("behavior", "why"),
    [
        pytest.param(broken, "ZeroDivisionError at test_apply.py", id="raises what is no failure of the cloud"),
        pytest.param(lambda actions: [], "1 actions gave 0 answers", id="too few answers"),
        pytest.param(lambda actions: [Applied()] * 2, "1 actions gave 2 answers", id="too many answers"),
        pytest.param(lambda actions: None, "TypeError", id="no answers at all"),
        pytest.param(lambda actions: [None], "TypeError", id="an answer that is none"),
        pytest.param(lambda actions: ["done"], "TypeError", id="an answer in words"),
    ],
)
def test_exception_of_a_provider_fails_only_its_targets(behavior: Callable[..., Any], why: str) -> None:
    """The failure has the location in the code but not the exception's text."""

    class Defective(ScriptedCloud):
        def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
            return behavior(actions) if actions[0].key.scope == "s1" else super().apply(actions)

    recorder = Recorder()
    carried = carry_out([action(Verb.CREATE, f"s{number}") for number in range(3)], Defective(), recorder=recorder)
    assert by_scope(carried) == {
        "s0": (Result.DONE, "test"),
        "s1": (Result.FAILED, "internal-error"),
        "s2": (Result.DONE, "test"),
    }
    failed = carried.outcomes[1]
    assert why in failed.message
    assert "hunter2" not in f"{failed} {recorder.lines}"


def test_outcomes_are_reported_immediately_with_a_heartbeat() -> None:
    """Each stage is reported before the next one starts; each batch and each stage calls the heartbeat."""
    cloud, recorder = ScriptedCloud(), Recorder(workers=1)
    beats: list[int] = []
    recorder.run.on_heartbeat = lambda: beats.append(1)
    reported: list[tuple[str, int]] = []

    def note(outcome: Outcome) -> None:
        reported.append((outcome.key.scope, len(cloud.batches)))

    plan = assemble([MAKE_BASE, action(Verb.CREATE, "s1"), action(Verb.CREATE, "s2", ROLE), action(Verb.SKIP, "s3")])
    apply(plan, cloud, recorder.run, note)
    assert reported == [("s3", 0), ("owner", 1), ("s1", 2), ("s2", 3)]
    assert len(beats) == 6


ANSWERS = st.sampled_from(
    [
        Applied(),
        Applied(Result.PENDING),
        Permanent("wrong", "no"),
        Transient("busy", "later"),
        Manual("off", GUIDE),
        NotApplicable("no", "not here", timedelta(days=7)),
        RunStopped("credentials", "expired"),
        OutOfTime("too late"),
        ValueError("defect"),
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Verb)), st.sampled_from([DESTINATION, EXPORT, ROLE]), ANSWERS, st.booleans()),
        max_size=12,
    ),
    st.integers(1, 4),
)
def test_every_action_has_exactly_one_outcome(cases: list[Any], workers: int) -> None:
    """For any plan and any results, outcomes are reported once, in the plan's order."""
    actions = [MAKE_BASE]
    answers = {}
    for place, (verb, kind, answer, rests) in enumerate(cases):
        needs = (BASE,) if rests and kind is not DESTINATION else ()
        actions.append(action(verb, f"s{place}", kind, needs=needs, observation=Present()))
        answers[f"s{place}"] = answer
    carried = carry_out(actions, ScriptedCloud(answers=answers), recorder=Recorder(workers=workers))
    for one in carried.outcomes:
        if one.result in (Result.DONE, Result.PENDING):
            assert one.action.verb in WRITES
        if one.result is Result.FAILED:
            assert one.code in {"wrong", "credentials", "internal-error"}


def test_duration_of_a_write_is_that_of_its_call_in_milliseconds() -> None:
    """It is measured by the run's clock, and goes into the log."""
    recorder = Recorder()

    class Slow(ScriptedCloud):
        def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
            recorder.clock.advance(1.5)
            return super().apply(actions)

    recorder.clock.advance(60)
    (outcome,) = carry_out([action(Verb.CREATE)], Slow(), recorder=recorder).outcomes
    assert outcome.duration_ms == 1500


@pytest.mark.parametrize(
    ("result", "grace", "awaited", "creations", "never"),
    [
        pytest.param(Result.PENDING, HOUR, HOUR, 1, True, id="absent after its normal time"),
        pytest.param(Result.PENDING, HOUR, HOUR - SECOND, 1, False, id="within its normal time"),
        pytest.param(Result.DONE, HOUR, HOUR, 1, False, id="created, and late by listings only"),
        pytest.param(Result.DONE, HOUR, SECOND, MAX_UNSEEN_CREATIONS, True, id="created again and again"),
        pytest.param(Result.DONE, HOUR, SECOND, MAX_UNSEEN_CREATIONS - 1, False, id="once less"),
        pytest.param(Result.PENDING, 0 * HOUR, DAY, MAX_UNSEEN_CREATIONS, False, id="a kind without a normal time"),
        pytest.param(Result.PENDING, HOUR, None, MAX_UNSEEN_CREATIONS, False, id="nothing is awaited"),
    ],
)
def test_creation_that_never_appears_is_noticed(
    result: Result, grace: timedelta, awaited: timedelta | None, creations: int, never: bool
) -> None:
    """By the time since the first accepted creation, or by the number of creations."""
    entry = TargetState(at=START, awaited_since=None if awaited is None else START - awaited, creations=creations)
    one = action(Verb.CREATE, kind=msgspec.structs.replace(EXPORT, grace=grace), state=entry)
    assert is_never_seen(one, Applied(result), entry, START) is never
    outcome = outcome_of(one, Applied(result, "operation 7"), START)
    assert (outcome.result is Result.FAILED) is never
    assert outcome.message.endswith("operation 7")
    assert (outcome.message == "operation 7") is not never


@pytest.mark.parametrize(
    ("verb", "retry_after", "attempted"),
    [(Verb.SKIP, HOUR, True), (Verb.SKIP, None, False), (Verb.DEFER, None, True), (Verb.KEEP, HOUR, False)],
)
def test_only_a_refusal_or_a_failed_look_is_an_attempt(
    verb: Verb, retry_after: timedelta | None, attempted: bool
) -> None:
    """An attempt that failed makes the next one wait."""
    seen = Present(health=Health.INACTIVE, retry_after=retry_after)
    assert unwritten(action(verb, observation=seen)).attempted is attempted


@pytest.mark.parametrize(
    ("reason", "waits", "expected"),
    [("not-here", True, True), ("scope-inactive", True, False), ("not-here", False, False)],
)
def test_remembered_refusal_is_one_unless_the_scope_has_left(reason: str, waits: bool, expected: bool) -> None:
    """A scope that is not active is skipped, whatever was refused before."""
    assert is_refused(action(Verb.SKIP, reason=reason, waits=waits)) is expected
