"""One token bucket per quota, slowed by throttling answers."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import OutOfTime
from shared.runtime.clock import Deadline, VirtualClock
from shared.runtime.rate_limit import FLOOR, RECOVERY_S, Limiter, Rate


class Bench:
    """A limiter on a virtual clock with all the time in the world, or so much of it."""

    def __init__(self, per_second: float, burst: int = 1, seconds: float = 1e9) -> None:
        self.clock = VirtualClock()
        self.limiter = Limiter(Rate(per_second, burst), self.clock)
        self.deadline = Deadline(self.clock, seconds)

    def moments(self, calls: int) -> list[float]:
        """Return when each of so many calls, made one after the other, may begin."""
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
def test_calls_begin_at_the_documented_rate(per_second: float, burst: int, expected: list[float]) -> None:
    """The burst goes at once, everything after it at the rate."""
    assert Bench(per_second, burst).moments(len(expected)) == expected


def test_a_burst_is_there_again_after_a_rest_but_never_more_than_one() -> None:
    """Time without calls fills the bucket up to the burst and no further."""
    bench = Bench(1, 3)
    bench.moments(3)
    bench.clock.advance(1000)
    assert [moment - 1000 for moment in bench.moments(5)] == [0, 0, 0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(
    per_second=st.floats(0.1, 50), burst=st.integers(1, 20), rests=st.lists(st.floats(0, 5), min_size=1, max_size=40)
)
def test_no_window_of_time_holds_more_calls_than_the_quota_allows(
    per_second: float, burst: int, rests: list[float]
) -> None:
    """However the calls come, any window of w seconds has at most burst + rate × w of them."""
    bench = Bench(per_second, burst)
    moments = []
    for rest in rests:
        bench.clock.advance(rest)
        moments += bench.moments(1)
    for first, start in enumerate(moments):
        for last in range(first, len(moments)):
            assert last - first + 1 <= burst + per_second * (moments[last] - start) + 1e-3


def test_a_turn_beyond_the_deadline_is_refused_and_not_used() -> None:
    """OutOfTime comes at once, without a wait, and the turn stays free for who has the time."""
    bench = Bench(0.1, seconds=5)
    bench.moments(1)
    with pytest.raises(OutOfTime, match="10 s"):
        bench.limiter.acquire(bench.deadline)
    assert bench.clock.monotonic() == 0
    bench.deadline = Deadline(bench.clock, 100)
    assert bench.moments(1) == [10]


def test_a_throttling_answer_halves_the_rate_and_pauses_everybody() -> None:
    """No call begins within the pause; afterwards calls come at half the rate, without a burst."""
    bench = Bench(1, 10)
    bench.moments(1)
    bench.limiter.throttled(pause=30)
    assert bench.limiter.share() == 0.5
    moments = bench.moments(3)
    assert moments[0] == 30
    assert moments[1] - moments[0] == pytest.approx(2, abs=0.05)
    assert moments[2] - moments[1] == pytest.approx(2, abs=0.1)


def test_answers_of_calls_in_flight_together_count_once() -> None:
    """Eight refusals within a second are one event, and the longest pause of them counts; a later one halves again."""
    bench = Bench(10)
    for pause in (1, 20, 5):
        bench.limiter.throttled(pause)
    assert bench.limiter.share() == 0.5
    assert bench.moments(1) == [20]
    bench.clock.advance(2)
    before = bench.limiter.share()
    bench.limiter.throttled(0)
    assert bench.limiter.share() == pytest.approx(before / 2)


def test_the_rate_recovers_linearly_to_the_documented_one_and_not_beyond() -> None:
    """Half of RECOVERY_S after the pause, a halved rate is whole again."""
    bench = Bench(1)
    bench.limiter.throttled(10)
    bench.clock.advance(10 + RECOVERY_S / 4)
    assert bench.limiter.share() == pytest.approx(0.75)
    bench.clock.advance(RECOVERY_S)
    assert bench.limiter.share() == 1.0


def test_the_rate_never_falls_below_the_floor() -> None:
    """A quota that refuses for ever is still asked now and then."""
    bench = Bench(1)
    for _ in range(20):
        bench.limiter.throttled(2)
        bench.clock.advance(1.5)
    assert bench.limiter.share() == FLOOR


def test_threads_share_one_bucket() -> None:
    """Twenty threads together are not faster than one."""
    bench = Bench(2)
    threads = [threading.Thread(target=bench.limiter.acquire, args=(bench.deadline,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.clock.monotonic() == pytest.approx(9.5)
