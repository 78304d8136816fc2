"""Run one function once in this process, as its handler does, and print its resource use as one line of JSON.

`python -m tests.bench.cost_run aws|azure|gcp`: {cpu_s, waited_s, calls, log_lines, log_bytes, status, active}.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import Clock, SystemClock

SECONDS = 900.0


def aws(clock: Clock) -> RunResult:
    """Run the AWS function."""
    from aws_lambda.handler import emit_metrics, run_once
    from aws_lambda.log import powertools_sink

    finished = run_once(RunRequest(), os.environ, powertools_sink, clock, SECONDS, os.environ["BENCH_ACCOUNT"])
    emit_metrics(finished.metrics, finished.report["calls"])
    return finished


def azure(clock: Clock) -> RunResult:
    """Run the Azure function, which logs through Python's logging."""
    from azure_function.handler import logging_sink
    from azure_function.invocation import run_once

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    return run_once(RunRequest(), os.environ, logging_sink, clock, None, seed=1)


def gcp(clock: Clock) -> RunResult:
    """Run the GCP function."""
    from gcp_function.handler import cloud_logging, run_once

    return run_once(RunRequest(), os.environ, cloud_logging({}, sys.stderr), clock, SECONDS)


def clock_of(cloud: str) -> Clock:
    """Return the local cloud's clock; on Azure it is virtual, so that waiting for a quota takes no real time."""
    if cloud != "azure":
        return SystemClock()
    from localcloud.common.remote_clock import RemoteClock

    return RemoteClock(os.environ["ARM_ENDPOINT"])


def _metrics(lines: str) -> int:
    """Return the number of metrics that CloudWatch extracts from the log lines (embedded metric format)."""
    found = [json.loads(line) for line in lines.splitlines() if '"_aws"' in line]
    return sum(len(one["Metrics"]) for line in found for one in line["_aws"]["CloudWatchMetrics"])


def main(cloud: str) -> dict[str, Any]:
    """Run once and return the measured values."""
    clock, log = clock_of(cloud), io.StringIO()
    started, cpu = clock.monotonic(), time.process_time()
    with redirect_stdout(log), redirect_stderr(log):
        finished = {"aws": aws, "azure": azure, "gcp": gcp}[cloud](clock)
    report = finished.report
    lines = log.getvalue()
    return {
        "cpu_s": time.process_time() - cpu,
        # Real time depends on this machine; virtual time advances only while waiting for a quota.
        "waited_s": 0.0 if isinstance(clock, SystemClock) else clock.monotonic() - started,
        "calls": dict(report["calls"]),
        "metrics": _metrics(lines),
        "log_lines": len(lines.splitlines()),
        "log_bytes": len(lines.encode()),
        "status": report["status"],
        "active": report["scopes"]["active"],
    }


if __name__ == "__main__":
    # Powertools' logger keeps the stream of its creation, so it is created after the redirection.
    sys.__stdout__.write(json.dumps(main(sys.argv[1])) + "\n")  # type: ignore[union-attr]  # not None in a process with standard output
