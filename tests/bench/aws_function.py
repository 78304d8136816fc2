"""Run the AWS function once in this process, as its handler does, and print the measured values as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from typing import Any

from botocore.client import BaseClient

from aws_lambda.handler import run_once
from aws_lambda.log import powertools_sink
from localcloud.common.child_process import peak_mb_of
from shared.request import RunRequest
from shared.runtime.clock import SystemClock
from tests.bench.calibration import timed

PAGES = ("ListAccounts", "ListStackInstances")


class CallCounter:
    """Counts the SDK's calls and their CPU seconds."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.cpu_s = 0.0
        self._lock = threading.Lock()
        self._original = BaseClient._make_api_call  # type: ignore[attr-defined]  # the stubs show public names only
        counter = self

        def counted(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
            started = time.thread_time()
            try:
                return counter._original(client, operation, parameters)
            finally:
                with counter._lock:
                    counter.calls[operation] += 1
                    counter.cpu_s += time.thread_time() - started

        BaseClient._make_api_call = counted  # type: ignore[attr-defined]  # every SDK call goes through it


def main() -> None:
    """Print {calls, beyond_pages, cpu_s, workload_s, peak_mb, …} as one line of JSON; `cpu_s` without the calls'."""
    counter = CallCounter()
    sys.stdout, stdout = sys.stderr, sys.stdout  # keep the function's log lines out of the output
    account = os.environ["BENCH_ACCOUNT"]

    def run() -> tuple[dict[str, Any], float | None]:
        finished = run_once(RunRequest(), os.environ, powertools_sink, SystemClock(), 900.0, account)
        return finished.report, peak_mb_of(os.getpid())

    (report, peak_mb), timing = timed(run)
    figures = {
        "calls": counter.calls.total(),
        "beyond_pages": counter.calls.total() - sum(counter.calls[page] for page in PAGES),
        "cpu_s": timing.cpu_s - counter.cpu_s,
        "workload_s": timing.workload_s,
        "peak_mb": peak_mb,
        "ok": report["status"] == "ok",
        "active": report["scopes"]["active"],
        # Roles that the first run created are pending for a few minutes.
        "served": report["scopes"]["covered"] + report["scopes"]["pending"],
        "operations": dict(counter.calls),
    }
    stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
