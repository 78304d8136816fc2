"""The token bucket of a quota, slowed down by throttled calls."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import OutOfTime
from shared.runtime.clock import Deadline, VirtualClock
from shared.runtime.rate_limit import FLOOR, RECOVERY_S, SAME_BURST_S, Limiter, Rate


class LimiterOnClock:
    """A limiter on a virtual clock, optionally with a deadline."""

    def __init__(self, per_second: float, burst: int = 1, seconds: float = 1e9) -> None:
        self.clock = VirtualClock()
        self.limiter = Limiter(Rate(per_second, burst), self.clock)
        self.deadline = Deadline(self.clock, seconds)

    def moments(self, calls: int) -> list[float]:
        """Return the start times of consecutive calls."""
        found = []
        for _ in range(calls):
            self.limiter.acquire(self.deadline)
            found.append(round(self.clock.monotonic(), 6))
        return found


@pytest.mark.parametrize(
    ("per_second", "burst", "expected"),
    [
        pytest.param(1, 1, [0, 1, 2, 3], id="one a second, evenly"),
        pytest.param(4, 1, [0, 0.25, 0.5, 0.75], id="four a second, evenly"),
        pytest.param(1, 3, [0, 0, 0, 1, 2], id="a burst, then evenly"),
        pytest.param(0.1, 2, [0, 0, 10, 20], id="slower than one a second"),
    ],
)
def test_calls_start_at_the_documented_rate(per_second: float, burst: int, expected: list[float]) -> None:
    """The burst starts immediately, later calls at the rate."""
    assert LimiterOnClock(per_second, burst).moments(len(expected)) == expected


def test_idle_time_restores_at_most_one_burst() -> None:
    """Time without calls fills the bucket only up to the burst."""
    limiter = LimiterOnClock(1, 3)
    limiter.moments(3)
    limiter.clock.advance(1000)
    assert [moment - 1000 for moment in limiter.moments(5)] == [0, 0, 0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.floats(0.1, 50), burst=st.integers(1, 20), rests=st.lists(st.floats(0, 5), min_size=1, max_size=40)
)
def test_no_time_window_exceeds_the_quota(per_second: float, burst: int, rests: list[float]) -> None:
    """Any window of w seconds has at most burst + rate × w calls, however they arrive."""
    limiter = LimiterOnClock(per_second, burst)
    moments = []
    for rest in rests:
        limiter.clock.advance(rest)
        moments += limiter.moments(1)
    for first, start in enumerate(moments):
        for last in range(first, len(moments)):
            assert last - first + 1 <= burst + per_second * (moments[last] - start) + 1e-3


def test_turn_beyond_the_deadline_is_refused_and_stays_free() -> None:
    """OutOfTime is raised without a wait, and a caller with more time can take the turn."""
    limiter = LimiterOnClock(0.1, seconds=5)
    limiter.moments(1)
    with pytest.raises(OutOfTime, match="10 s"):
        limiter.limiter.acquire(limiter.deadline)
    assert limiter.clock.monotonic() == 0
    limiter.deadline = Deadline(limiter.clock, 100)
    assert limiter.moments(1) == [10]


def test_throttled_call_pauses_the_quota_and_halves_its_rate() -> None:
    """No call starts during the pause; afterwards there is no burst."""
    limiter = LimiterOnClock(1, 10)
    limiter.moments(1)
    limiter.limiter.throttled(pause=30)
    assert limiter.limiter.share() == 0.5
    moments = limiter.moments(3)
    assert moments[0] == 30
    assert moments[1] - moments[0] == pytest.approx(2, abs=0.05)
    assert moments[2] - moments[1] == pytest.approx(2, abs=0.1)


def test_refusals_within_a_second_count_once() -> None:
    """The longest of their pauses applies; a later refusal halves the rate again."""
    limiter = LimiterOnClock(10)
    for pause in (1, 20, 5):
        limiter.limiter.throttled(pause)
    assert limiter.limiter.share() == 0.5
    assert limiter.moments(1) == [20]
    limiter.clock.advance(2)
    before = limiter.limiter.share()
    limiter.limiter.throttled(0)
    assert limiter.limiter.share() == pytest.approx(before / 2)


@pytest.mark.parametrize(("seconds", "share"), [(SAME_BURST_S / 2, 0.5), (SAME_BURST_S, 0.25)])
def test_refusal_after_a_second_counts_again(seconds: float, share: float) -> None:
    """Until then, the calls may have been in flight together."""
    limiter = LimiterOnClock(10)
    limiter.limiter.throttled(60)
    limiter.clock.advance(seconds)
    limiter.limiter.throttled(0)
    assert limiter.limiter.share() == share


def test_rate_recovers_linearly_to_the_documented_rate() -> None:
    """A halved rate is restored RECOVERY_S / 2 after the pause."""
    limiter = LimiterOnClock(1)
    limiter.limiter.throttled(10)
    limiter.clock.advance(10 + RECOVERY_S / 4)
    assert limiter.limiter.share() == pytest.approx(0.75)
    limiter.clock.advance(RECOVERY_S)
    assert limiter.limiter.share() == 1.0


def test_rate_does_not_fall_below_the_minimum() -> None:
    """A quota that always refuses is still called occasionally."""
    limiter = LimiterOnClock(1)
    for _ in range(20):
        limiter.limiter.throttled(2)
        limiter.clock.advance(1.5)
    assert limiter.limiter.share() == FLOOR


def test_threads_share_one_bucket() -> None:
    """Twenty threads together are not faster than one."""
    limiter = LimiterOnClock(2)
    threads = [threading.Thread(target=limiter.limiter.acquire, args=(limiter.deadline,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limiter.clock.monotonic() == pytest.approx(9.5)
