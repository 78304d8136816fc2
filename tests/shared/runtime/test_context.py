"""The context of one run."""

from __future__ import annotations

from tests.shared.builders import Recorder


def test_deadline_keeps_a_reserve_for_saving() -> None:
    """The reserve is ten seconds, or a fifth of a short invocation."""
    assert Recorder(seconds=600).run.deadline.remaining() == 590
    assert Recorder(seconds=20).run.deadline.remaining() == 16


def test_heartbeat_that_was_taken_before_the_lock_saves_the_state() -> None:
    """Adapters are made before the run has a session, and keep the run alive between their resources."""
    run, beats = Recorder().run, list[None]()
    taken = run.heartbeat
    taken()
    run.on_heartbeat = lambda: beats.append(None)
    taken()
    assert len(beats) == 1
