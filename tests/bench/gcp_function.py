"""Do a dry run of the GCP function in this process, as its handler does, and print the measured values as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from gcp_function.handler import cloud_logging, run_once
from localcloud.common.child_process import peak_mb_of
from shared.request import RunRequest
from shared.runtime.calls import Calls
from shared.runtime.clock import SystemClock
from tests.bench.calibration import timed


class CallCounter:
    """Counts the calls to Google's services and their CPU seconds, including the SDKs' own."""

    def __init__(self) -> None:
        self.calls = 0
        self.cpu_s = 0.0
        self._lock = threading.Lock()
        self._original = Calls.__call__
        counter = self

        def counted(calls: Calls, quota: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def timed(*args: Any, **kwargs: Any) -> Any:
                started = time.thread_time()
                try:
                    return function(*args, **kwargs)
                finally:
                    with counter._lock:
                        counter.calls += 1
                        counter.cpu_s += time.thread_time() - started

            return counter._original(calls, quota, timed, *args, **kwargs)

        Calls.__call__ = counted  # type: ignore[assignment,method-assign]  # every call goes through it


def main() -> None:
    """Print {copies, cpu_s, workload_s, calls, peak_mb, ok, …} of one dry run as one line of JSON."""
    # The first call would import these; imported here, their CPU time is not counted as planning.
    from google.cloud import bigquery, storage  # noqa: F401 - see the line above

    counter = CallCounter()
    sink = cloud_logging({}, sys.stderr)
    finished, timing = timed(lambda: run_once(RunRequest(dry_run=True), os.environ, sink, SystemClock(), 900.0))
    actions = finished.plan.actions if finished.plan else ()
    copies = [action for action in actions if action.key.kind == "copy"]
    figures = {
        "copies": len(copies),
        "creates": sum(action.verb == "CREATE" for action in copies),
        "keeps": sum(action.verb == "KEEP" for action in copies),
        "cpu_s": timing.cpu_s - counter.cpu_s,
        "workload_s": timing.workload_s,
        "calls_cpu_s": counter.cpu_s,
        "calls": counter.calls,
        "peak_mb": peak_mb_of(os.getpid()),
        "ok": finished.report["status"] == "ok",
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
