"""Clocks, and the deadline that they measure."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.runtime.clock import Deadline, SystemClock, VirtualClock
from tests.shared.builders import START


def test_system_clock_is_utc_in_whole_seconds_and_monotonic() -> None:
    """Stored times have a zone and no fractions, whatever the machine's zone."""
    clock = SystemClock()
    before, now, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert now.tzinfo is UTC
    assert now.microsecond == 0
    assert before.replace(microsecond=0) <= now <= after
    assert clock.monotonic() <= clock.monotonic()


def test_wait_for_a_past_time_returns_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system clock does not sleep for a negative time."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    clock = SystemClock()
    clock.wait_until(clock.monotonic() - 3600)
    assert slept == []


def test_system_clock_waits_until_the_given_time() -> None:
    """The wait does not end early."""
    clock = SystemClock()
    moment = clock.monotonic() + 0.01
    clock.wait_until(moment)
    assert clock.monotonic() >= moment


def test_virtual_clock_moves_only_by_waiting_or_advancing() -> None:
    """Wall time and monotonic time move together; wall time has whole seconds."""
    clock = VirtualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    clock.advance(90.7)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=90), 90.7)
    clock.wait_until(100)
    assert clock.now() == START + timedelta(seconds=100)


def test_concurrent_waits_move_a_virtual_clock_once() -> None:
    """Waits overlap as on a real machine, and a past time does not turn the clock back."""
    clock = VirtualClock(START)
    threads = [threading.Thread(target=clock.wait_until, args=(30.0,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.wait_until(10.0)
    assert clock.monotonic() == 30.0


def test_reserve_of_a_deadline_is_kept_for_saving() -> None:
    """Work may use the time without the reserve; saving may use all of it, even after a call that overran."""
    clock = VirtualClock(START)
    deadline = Deadline(clock, 60, reserve=10)
    assert deadline.remaining() == 50
    assert (deadline.allows(50), deadline.allows(50.1)) == (True, False)
    clock.advance(55)
    assert (deadline.remaining(), deadline.allows(0)) == (-5, False)
    deadline.use_reserve()
    deadline.use_reserve()
    assert (deadline.remaining(), deadline.allows(10)) == (10, True)
    assert Deadline(clock, 5).remaining() == 5
