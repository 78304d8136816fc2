"""Clocks that are handed in, and the deadline that they measure."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from shared.runtime.clock import Deadline, SystemClock, VirtualClock
from tests.shared.builders import START


def test_the_system_clock_is_utc_in_whole_seconds_and_its_monotonic_time_does_not_go_back() -> None:
    """Times that are remembered have a zone and no fractions, whatever the machine's own zone is."""
    clock = SystemClock()
    now = clock.now()
    assert now.tzinfo is UTC
    assert now.microsecond == 0
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=5)
    assert clock.monotonic() <= clock.monotonic()


def test_waiting_for_a_moment_that_has_passed_returns_at_once() -> None:
    """The system clock never sleeps for a negative time."""
    clock = SystemClock()
    before = time.monotonic()
    clock.wait_until(clock.monotonic() - 3600)
    assert time.monotonic() - before < 1


def test_the_system_clock_waits_until_the_moment() -> None:
    """The wait is over only when the moment has come."""
    clock = SystemClock()
    moment = clock.monotonic() + 0.01
    clock.wait_until(moment)
    assert clock.monotonic() >= moment


def test_a_virtual_clock_moves_only_when_somebody_waits_or_advances_it() -> None:
    """Wall time and monotonic time go together; wall time is in whole seconds."""
    clock = VirtualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    clock.advance(90.7)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=90), 90.7)
    clock.wait_until(100)
    assert clock.now() == START + timedelta(seconds=100)


def test_waiting_for_the_same_moment_in_many_threads_moves_a_virtual_clock_once() -> None:
    """Waits overlap, as on a real machine, and a passed moment does not turn the clock back."""
    clock = VirtualClock(START)
    threads = [threading.Thread(target=clock.wait_until, args=(30.0,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.wait_until(10.0)
    assert clock.monotonic() == 30.0


def test_a_deadline_keeps_its_reserve_until_the_work_has_ended() -> None:
    """Work may take what is left without the reserve; saving may use all of it, once, even where a call overran."""
    clock = VirtualClock(START)
    deadline = Deadline(clock, 60, reserve=10)
    assert deadline.remaining() == 50
    assert (deadline.allows(50), deadline.allows(50.1)) == (True, False)
    clock.advance(55)
    assert (deadline.remaining(), deadline.allows(0)) == (-5, False)
    deadline.use_reserve()
    deadline.use_reserve()
    assert (deadline.remaining(), deadline.allows(10)) == (10, True)
