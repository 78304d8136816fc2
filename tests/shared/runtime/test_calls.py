"""Guarded calls to a cloud: quotas, retries, and the deadline."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import CloudError, Denied, OutOfTime, Permanent, Throttled, Transient
from shared.runtime.calls import BUDGET_S, TRIES, Calls, jittered
from shared.runtime.clock import VirtualClock
from shared.runtime.rate_limit import LONGEST_PAUSE_S, Rate
from tests.shared.builders import Recorder


class Flaky:
    """A call that raises each of the given errors in turn, then succeeds; it records its times."""

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
    """Return a transient error."""
    return Transient("busy", "later", retry_after=None if seconds is None else timedelta(seconds=seconds), **fields)


def refused(seconds: float | None = None, **fields: Any) -> Throttled:
    """Return a quota's refusal."""
    return Throttled(
        "slow-down", "later", retry_after=None if seconds is None else timedelta(seconds=seconds), **fields
    )


def test_successful_call_is_made_once_and_counted() -> None:
    """Arguments and result pass unchanged."""
    recorder = Recorder()
    assert recorder.run.calls("read", divmod, 7, 3) == (2, 1)
    assert recorder.run.calls("list", int, "11", base=2) == 3
    assert recorder.run.calls.counts == {"read": 1, "list": 1}


def test_call_on_a_quota_without_a_rate_is_refused() -> None:
    """Every quota needs a documented limit."""
    recorder = Recorder()
    with pytest.raises(KeyError):
        recorder.run.calls("guessed", int)
    assert not recorder.run.calls.counts


def test_calls_keep_the_documented_rate_of_their_quota() -> None:
    """Calls wait only for their own quota."""
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


def test_transient_error_is_retried_with_growing_waits() -> None:
    """Each wait is about twice the previous one; every try is counted and logged."""
    recorder = Recorder()
    call = Flaky(recorder.clock, busy(), busy(), busy())
    assert recorder.run.calls("read", call) == "answer"
    waits = [later - before for before, later in zip(call.moments, call.moments[1:], strict=False)]
    assert [0.5 <= wait / expected <= 1.5 for wait, expected in zip(waits, (1, 2, 4), strict=True)] == [True] * 3
    assert recorder.run.calls.counts["read"] == 4
    assert [line[:2] for line in recorder.lines] == [("info", "call-retried")] * 3
    assert recorder.lines[0][2]["attempt"] == 1


def test_waits_depend_on_the_seed() -> None:
    """Equal seeds give equal waits, other seeds give others."""

    def moments(seed: int) -> list[float]:
        recorder = Recorder(seed=seed)
        call = Flaky(recorder.clock, busy(), busy())
        recorder.run.calls("read", call)
        return call.moments

    assert moments(1) == moments(1) != moments(2)


def test_wait_requested_by_the_cloud_is_kept() -> None:
    """The next try is not made earlier."""
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
def test_retries_are_limited_by_tries_and_seconds(errors: list[Transient], tries: int, seconds: float) -> None:
    """When either is used up, the error is raised with the wait that it requested."""
    recorder = Recorder()
    call = Flaky(recorder.clock, *errors)
    with pytest.raises(Transient) as raised:
        recorder.run.calls("read", call)
    assert (raised.value.code, raised.value.retry_after) == ("busy", errors[0].retry_after)
    assert len(call.moments) == tries
    assert recorder.clock.monotonic() <= seconds


def test_wait_as_long_as_the_budget_is_made() -> None:
    """The budget is the longest wait that is allowed."""
    recorder = Recorder()
    call = Flaky(recorder.clock, busy(BUDGET_S))
    assert recorder.run.calls("read", call) == "answer"
    assert call.moments == [0, BUDGET_S]


@pytest.mark.parametrize("error", [Denied("denied", "no"), Permanent("wrong", "no"), CloudError("other", "no")])
def test_permanent_error_is_not_retried(error: CloudError) -> None:
    """A denied or invalid request raises its error immediately."""
    recorder = Recorder()
    call = Flaky(recorder.clock, error)
    with pytest.raises(CloudError) as raised:
        recorder.run.calls("read", call)
    assert raised.value is error
    assert len(call.moments) == 1


def test_sdk_exceptions_are_translated_and_chained() -> None:
    """The engine sees only its own classes; the original exception is the cause."""
    recorder = Recorder()
    original = ZeroDivisionError("inside the SDK")
    with pytest.raises(Permanent, match="unexpected: ZeroDivisionError") as raised:
        recorder.run.calls("read", Flaky(recorder.clock, original))
    assert raised.value.__cause__ is original


def test_wait_past_the_deadline_is_not_started() -> None:
    """The call is left to the next run, and the message has the reason for the wait."""
    recorder = Recorder(seconds=20)
    call = Flaky(recorder.clock, busy(30))
    with pytest.raises(OutOfTime, match="busy asks to wait 30 s"):
        recorder.run.calls("read", call)
    assert recorder.clock.monotonic() == 0


def test_throttled_call_pauses_its_quota() -> None:
    """The next call of the quota waits, a call of another quota does not."""
    recorder = Recorder()
    call = Flaky(recorder.clock, refused(30))
    other, same = Flaky(recorder.clock), Flaky(recorder.clock)
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, refused(BUDGET_S + 30)))
    recorder.run.calls("write", other)
    recorder.run.calls("read", same)
    assert (other.moments, same.moments) == ([0], [LONGEST_PAUSE_S])
    assert [line[:2] for line in recorder.lines] == [("warning", "throttled")]
    recorder.run.calls("read", call)
    assert call.moments[1] - call.moments[0] >= 30


def test_refusal_of_the_last_try_pauses_the_quota() -> None:
    """The requested wait applies to later calls although this call gives up."""
    recorder = Recorder()
    quick = [refused(0.001)] * (TRIES - 1)
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, *quick, refused(40)))
    gave_up = recorder.clock.monotonic()
    behind = Flaky(recorder.clock)
    recorder.run.calls("read", behind)
    assert behind.moments[0] - gave_up == pytest.approx(40)


def test_refusal_with_a_wait_of_a_day_does_not_stop_the_quota() -> None:
    """A wait beyond the run affects only its target; other calls continue more slowly."""
    recorder = Recorder()
    with pytest.raises(Throttled):
        recorder.run.calls("read", Flaky(recorder.clock, refused(86_400, within_run=False)))
    assert recorder.run.calls("read", Flaky(recorder.clock)) == "answer"
    assert recorder.clock.monotonic() < 1


@pytest.mark.parametrize("seconds", [600, 3600, 86_400])
def test_long_wait_pauses_the_quota_for_at_most_a_minute(seconds: float) -> None:
    """The refused call gives up with the requested wait; others continue after the quota's window."""
    recorder = Recorder(seconds=3300)
    with pytest.raises(Throttled) as raised:
        recorder.run.calls("read", Flaky(recorder.clock, refused(seconds)))
    assert raised.value.retry_after == timedelta(seconds=seconds)
    behind = Flaky(recorder.clock)
    recorder.run.calls("read", behind)
    assert behind.moments == [LONGEST_PAUSE_S]


def test_no_call_is_made_after_the_deadline() -> None:
    """A turn beyond the deadline raises OutOfTime, and nothing is counted."""
    recorder = Recorder(seconds=10)
    recorder.clock.advance(11)
    with pytest.raises(OutOfTime):
        recorder.run.calls("read", int)
    assert not recorder.run.calls.counts


@pytest.mark.parametrize(
    ("attempts", "minutes"),
    [(0, 5), (1, 5), (2, 10), (3, 20), (5, 80), (9, 1280), (10, 1440), (1000, 1440), (10**12, 1440)],
)
def test_back_off_doubles_up_to_its_maximum(attempts: int, minutes: int) -> None:
    """The wait is within a fifth of the doubled base, whatever the number of attempts."""
    rng = random.Random(7)
    for _ in range(20):
        wait = jittered(timedelta(minutes=5), attempts, timedelta(days=1), rng)
        assert 0.8 * minutes * 60 <= wait.total_seconds() <= 1.2 * minutes * 60 + 1


def test_back_off_is_doubled_at_most_twenty_times() -> None:
    """The number would otherwise become too large for a duration."""
    wait = jittered(timedelta(seconds=1), 10**6, timedelta(days=365), random.Random(7))
    assert 0.8 <= wait.total_seconds() / 2**20 <= 1.2


def test_pause_past_the_deadline_does_not_prevent_saving() -> None:
    """After the work, the calls that save the state and release the lock are made despite the pause."""
    recorder = Recorder(seconds=50)
    flaky = Flaky(recorder.clock, refused(600))
    with pytest.raises((Throttled, OutOfTime)):
        recorder.run.calls("write", flaky)
    with pytest.raises(OutOfTime):
        recorder.run.calls("write", flaky)
    recorder.run.deadline.use_reserve()
    assert recorder.run.calls("write", flaky) == "answer"


def test_wait_requested_while_saving_is_reduced_to_the_back_off() -> None:
    """A wait of ten minutes would leave the lock behind and stop the next runs."""
    recorder = Recorder(seconds=100)
    recorder.run.deadline.use_reserve()
    flaky = Flaky(recorder.clock, refused(600), busy(600))
    assert recorder.run.calls("write", flaky) == "answer"
    assert recorder.clock.monotonic() < 10
