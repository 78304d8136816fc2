"""Coverage from the stored state alone."""

from __future__ import annotations

import json

from shared.errors import Manual, NotApplicable, Permanent
from shared.model import ManualStep
from shared.state.document import fresh
from shared.state.summary import remembered_status
from tests.shared.setting import Setting


def test_empty_state_has_zero_counts_and_no_times() -> None:
    """This is the state before the first run."""
    status = remembered_status(fresh("memory"))
    assert status["last_run"] is None
    assert set(status["scopes"].values()) == {0}


def test_counts_equal_those_of_the_last_report() -> None:
    """Each active scope has the class of the run's report; departed scopes are not counted."""
    setting = Setting(6)
    setting.world.faults["write", "s00005"] = NotApplicable("read-only", "the subscription is disabled")
    setting.world.faults["write", "s00001"] = Permanent("broken", "no")
    setting.world.faults["write", "s00002"] = Manual("console", ManualStep("press the button"))
    setting.world.suspend("s00003")
    done = setting.run()
    status = remembered_status(setting.memory())
    assert status["scopes"] == done.report["scopes"]
    assert status["last_run"]["run_id"] == done.report["run_id"]
    assert status["running"] is None
    json.dumps(status)
    for _ in range(4):
        setting.world.scopes.pop("s00004", None)
        setting.run()
    assert remembered_status(setting.memory())["scopes"]["total"] == 5
