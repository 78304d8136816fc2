"""Run the engine over a cloud in memory, and print what a run in the steady state costs."""

from __future__ import annotations

import json
import os
import sys

from localcloud.common.child_process import peak_mb_of
from shared.reconcile import RunResult
from tests.bench.calibration import timed
from tests.shared.setting import Setting


def main(scopes: int) -> None:
    """Print {cpu_s, workload_s, peak_mb, calls, state_mb, report_mb} of the third run over so many scopes as JSON."""
    setting = Setting(scopes, call_budget=1000)
    setting.seconds = 86_400.0  # virtual: the first run waits for the quota of writes
    setting.run()
    setting.world.deliver(setting.clock.now())
    setting.run(verify_all=True)

    def steady() -> tuple[RunResult, float | None]:
        finished = setting.run()
        return finished, peak_mb_of(os.getpid())

    (finished, peak_mb), timing = timed(steady)
    found = finished.report["scopes"]
    assert finished.report["status"] == "ok", finished.report["failures"][:3]
    assert found["covered"] == found["active"] == scopes + 1, found  # and their owner
    figures = {
        "peak_mb": peak_mb,
        "calls": sum(finished.report["calls"].values()),
        "state_mb": len(setting.store.data or b"") / 1e6,
        "report_mb": len(setting.store.report(finished.report["run_id"])) / 1e6,
    }
    print(json.dumps(figures | timing._asdict()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
