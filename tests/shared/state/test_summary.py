"""Coverage from memory alone."""

from __future__ import annotations

import json

from shared.errors import Manual, NotApplicable, Permanent
from shared.model import ManualStep
from shared.state.document import fresh
from shared.state.summary import remembered_status
from tests.shared.setting import Setting


def test_an_empty_memory_has_nothing_to_tell() -> None:
    """Before the first run all counts are zero and all times are missing."""
    status = remembered_status(fresh("memory"))
    assert status["last_run"] is None
    assert set(status["scopes"].values()) == {0}


def test_the_status_counts_what_the_last_run_reported() -> None:
    """Each active scope is in one class, the same one as in the run's report; scopes that left are not counted."""
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
