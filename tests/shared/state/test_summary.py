"""Coverage from the stored state alone."""

from __future__ import annotations

import json

from shared.errors import Manual, NotApplicable, Permanent
from shared.model import ManualStep
from shared.state.document import RunLock, RunNote, ScopeRecord, fresh
from shared.state.summary import remembered_status
from tests.shared.builders import DAY, HOUR, START
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


def test_status_has_cloud_owner_times_and_the_last_run() -> None:
    """The newest run counts, whatever their order; a lock shows the run that holds it."""
    document = fresh("memory")
    document.owner, document.updated_at = "org-1", START + HOUR
    document.runs = [RunNote("run-2", START + HOUR, "degraded"), RunNote("run-1", START, "ok")]
    document.running = RunLock("run-3", START + HOUR, START + DAY)
    document.scopes["s1"] = ScopeRecord(at=START, targets={})
    status = remembered_status(document)
    counts = status.pop("scopes")
    assert counts["deferred"] == counts["active"] == counts["total"] == 1
    assert status == {
        "cloud": "memory",
        "owner": "org-1",
        "updated_at": "2026-01-05T01:00:00+00:00",
        "running": {"run_id": "run-3", "since": "2026-01-05T01:00:00+00:00"},
        "last_run": {"run_id": "run-2", "at": "2026-01-05T01:00:00+00:00", "status": "degraded"},
        "last_success": "2026-01-05T00:00:00+00:00",
    }
