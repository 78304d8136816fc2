"""The context of one run."""

from __future__ import annotations

from tests.shared.builders import Recorder


def test_deadline_keeps_a_reserve_for_saving() -> None:
    """The reserve is ten seconds, or a fifth of a short invocation."""
    assert Recorder(seconds=600).run.deadline.remaining() == 590
    assert Recorder(seconds=20).run.deadline.remaining() == 16
