"""The one guarded way to call a cloud."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import CloudError, Denied, OutOfTime, Permanent, Throttled, Transient
from shared.runtime.calls import BUDGET_S, TRIES, Calls, jittered
from shared.runtime.clock import Deadline, VirtualClock
from shared.runtime.rate_limit import LONGEST_PAUSE_S, Rate
from tests.shared.builders import Recorder


class Flaky:
    """A call that fails with each of the given errors in turn and answers then; it notes when it was made."""

    def __init__(self, clock: VirtualClock, *errors: Exception) -> None:
        self.clock = clock
        self.errors = list(errors)
        self.moments: list[float] = []

    def __call__(self) -> str:
        self.moments.append(self.clock.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def busy(seconds: float | None = None, **fields: Any) -> Transient:
    """Return a failure that passes by itself."""
    return Transient("busy", "later", retry_after=None if seconds is None else timedelta(seconds=seconds), **fields)


def refused(seconds: float | None = None, **fields: Any) -> Throttled:
    """Return a quota's refusal."""
    return Throttled(
        "slow-down", "later", retry_after=None if seconds is None else timedelta(seconds=seconds), **fields
    )


def test_arguments_and_the_answer_are_passed_on_and_the_call_is_counted() -> None:
    """A call that works is made once, on its quota."""
    recorder = Recorder()
    assert recorder.run.calls("read", divmod, 7, 3) == (2, 1)
    assert recorder.run.calls("list", int, "11", base=2) == 3
    assert recorder.run.calls.counts == {"read": 1, "list": 1}


def test_a_quota_without_a_rate_is_a_defect() -> None:
    """No call is made on a quota whose limit nobody has looked up."""
    recorder = Recorder()
    with pytest.raises(KeyError):
        recorder.run.calls("guessed", int)
    assert not recorder.run.calls.counts


def test_the_documented_rate_holds_over_many_calls() -> None:
    """Calls wait for their quota's turn, and only for their own quota's."""
    recorder = Recorder()
    slow = Calls(
        {"slow": Rate(1), "other": Rate(1)},
        lambda error: Permanent("unexpected", str(error)),
        recorder.clock,
        recorder.run.deadline,
        recorder.run.log,
        random.Random(1),
    )
    for _ in range(11):
        slow("slow", int)
    slow("other", int)
    assert recorder.clock.monotonic() == 10


def test_what_passes_by_itself_is_tried_again_with_growing_waits() -> None:
    """Each wait is about twice the one before; every try is counted and logged."""
    recorder = Recorder()
    call = Flaky(recorder.clock, busy(), busy(), busy())
    assert recorder.run.calls("read", call) == "answer"
    waits = [later - before for before, later in zip(call.moments, call.moments[1:], strict=False)]
    assert [0.5 <= wait / expected <= 1.5 for wait, expected in zip(waits, (1, 2, 4), strict=True)] == [True] * 3
    assert recorder.run.calls.counts["read"] == 4
    assert recorder.events() == ["call-retried"] * 3
    assert recorder.lines[0][2]["attempt"] == 1


def test_the_waits_come_from_a_seedable_source() -> None:
    """Equal seeds give equal waits, other seeds other ones."""

    def moments(seed: int) -> list[float]:
        recorder = Recorder(seed=seed)
        call = Flaky(recorder.clock, busy(), busy())
        recorder.run.calls("read", call)
        return call.moments

    assert moments(1) == moments(1) != moments(2)


def test_a_wait_that_the_cloud_asks_for_is_kept() -> None:
    """The next try is not made before the asked-for time."""
    recorder = Recorder()
    call = Flaky(recorder.clock, busy(20))
    recorder.run.calls("read", call)
    assert call.moments == [0, 20]


@pytest.mark.parametrize(
    ("errors", "tries", "seconds"),
    [
        pytest.param([busy()] * 9, TRIES, BUDGET_S, id="the tries are used up"),
        pytest.param([busy(25)] * 9, 3, BUDGET_S, id="the seconds are used up"),
        pytest.param([busy(BUDGET_S + 1)], 1, 0, id="one wait is longer than all the seconds"),
        pytest.param([busy(within_run=False)], 1, 0, id="it says that this run will not see it pass"),
    ],
)
def test_a_retry_has_two_budgets(errors: list[Transient], tries: int, seconds: float) -> None:
    """When the tries or the seconds are used up the failure itself is raised, with the wait it asked for."""
    recorder = Recorder()
    call = Flaky(recorder.clock, *errors)
    with pytest.raises(Transient) as raised:
        recorder.run.calls("read", call)
    assert (raised.value.code, raised.value.retry_after) == ("busy", errors[0].retry_after)
    assert len(call.moments) == tries
    assert recorder.clock.monotonic() <= seconds


@pytest.mark.parametrize("error", [Denied("denied", "no"), Permanent("wrong", "no"), CloudError("other", "no")])
def test_what_does_not_pass_by_itself_is_never_tried_again(error: CloudError) -> None:
    """A refusal of rights or of the request is raised at once, as it is."""
    recorder = Recorder()
    call = Flaky(recorder.clock, error)
    with pytest.raises(CloudError) as raised:
        recorder.run.calls("read", call)
    assert raised.value is error
    assert len(call.moments) == 1


def test_the_sdks_exceptions_are_translated_and_chained() -> None:
    """The engine sees its own classes only; the original stays reachable."""
    recorder = Recorder()
    original = ZeroDivisionError("inside the SDK")
    with pytest.raises(Permanent, match="unexpected: ZeroDivisionError") as raised:
        recorder.run.calls("read", Flaky(recorder.clock, original))
    assert raised.value.__cause__ is original


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    """The call is left to the next run at once, and the message says what asked for the wait."""
    recorder = Recorder(seconds=20)
    call = Flaky(recorder.clock, busy(30))
    with pytest.raises(OutOfTime, match="busy asks to wait 30 s"):
        recorder.run.calls("read", call)
    assert recorder.clock.monotonic() == 0


def test_a_throttling_answer_slows_everybody_on_that_quota_down() -> None:
    """The next call of the quota waits out the pause, a call of another one does not."""
    recorder = Recorder()
    call = Flaky(recorder.clock, refused(30))
    other, same = Flaky(recorder.clock), Flaky(recorder.clock)
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, refused(BUDGET_S + 30)))
    recorder.run.calls("write", other)
    recorder.run.calls("read", same)
    assert (other.moments, same.moments) == ([0], [LONGEST_PAUSE_S])
    assert recorder.events() == ["throttled"]
    recorder.run.calls("read", call)
    assert call.moments[1] - call.moments[0] >= 30


def test_the_last_try_s_refusal_still_pauses_the_quota() -> None:
    """When a call gives up, the wait that the cloud asked for still holds for the calls behind it."""
    recorder = Recorder()
    quick = [refused(0.001)] * (TRIES - 1)
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, *quick, refused(40)))
    gave_up = recorder.clock.monotonic()
    behind = Flaky(recorder.clock)
    recorder.run.calls("read", behind)
    assert behind.moments[0] - gave_up == pytest.approx(40)


def test_a_refusal_that_asks_for_a_day_does_not_stop_the_quota_for_the_others() -> None:
    """What cannot pass within the run is one target's affair: the others go on, slower."""
    recorder = Recorder()
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, refused(86_400, within_run=False)))
    assert recorder.run.calls("read", Flaky(recorder.clock)) == "answer"
    assert recorder.clock.monotonic() < 1


@pytest.mark.parametrize("seconds", [600, 3600, 86_400])
def test_a_long_wait_of_one_target_pauses_the_quota_for_a_minute_at_most(seconds: float) -> None:
    """The refused call gives up with the wait that was asked for; the others go on after a quota's window."""
    recorder = Recorder(seconds=3300)
    with pytest.raises(Throttled) as raised:
        recorder.run.calls("read", Flaky(recorder.clock, refused(seconds)))
    assert raised.value.retry_after == timedelta(seconds=seconds)
    behind = Flaky(recorder.clock)
    recorder.run.calls("read", behind)
    assert behind.moments == [LONGEST_PAUSE_S]


def test_no_call_is_made_after_the_deadline() -> None:
    """A turn that lies beyond the deadline is OutOfTime, and nothing is counted."""
    recorder = Recorder(seconds=10)
    recorder.clock.advance(11)
    with pytest.raises(OutOfTime):
        recorder.run.calls("read", int)
    assert not recorder.run.calls.counts


def test_the_deadline_of_a_run_keeps_a_reserve_for_saving() -> None:
    """The reserve is ten seconds, or a fifth of a short invocation."""
    assert Recorder(seconds=600).run.deadline.remaining() == 590
    assert Recorder(seconds=20).run.deadline.remaining() == 16
    assert Deadline(VirtualClock(), 5).remaining() == 5


@pytest.mark.parametrize(
    ("attempts", "minutes"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (5, 80), (9, 1280), (10, 1440), (1000, 1440), (10**12, 1440)],
)
def test_the_back_off_doubles_up_to_its_longest(attempts: int, minutes: int) -> None:
    """The wait lies within a fifth of the doubled base, whatever number of attempts is remembered."""
    rng = random.Random(7)
    for _ in range(20):
        wait = jittered(timedelta(minutes=5), attempts, timedelta(days=1), rng)
        assert 0.8 * minutes * 60 <= wait.total_seconds() <= 1.2 * minutes * 60 + 1


def test_a_quota_that_pauses_past_the_deadline_does_not_keep_the_state_from_being_saved() -> None:
    """Once work has ended the few calls that save and give the lock back are made, whatever pause was asked for."""
    recorder = Recorder(seconds=50)
    flaky = Flaky(recorder.clock, refused(600))
    with pytest.raises((Throttled, OutOfTime)):
        recorder.run.calls("write", flaky)
    with pytest.raises(OutOfTime):
        recorder.run.calls("write", flaky)
    recorder.run.deadline.use_reserve()
    assert recorder.run.calls("write", flaky) == "answer"


def test_a_wait_that_is_asked_for_at_the_end_is_cut_to_the_own_back_off() -> None:
    """There is no time to wait for ten minutes, and a lock that is left would stop the next runs."""
    recorder = Recorder(seconds=100)
    recorder.run.deadline.use_reserve()
    flaky = Flaky(recorder.clock, refused(600), busy(600))
    assert recorder.run.calls("write", flaky) == "answer"
    assert recorder.clock.monotonic() < 10
