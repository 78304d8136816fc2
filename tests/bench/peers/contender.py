"""Runs one contender once, in a process of its own, and prints what it used and whom it named as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from azure_function.handler import logging_sink
from azure_function.invocation import run_once
from localcloud.common.child_process import peak_mb_of
from localcloud.common.remote_clock import RemoteClock
from shared.model import Result
from shared.request import RunRequest
from tests.bench.peers import loop, runbook
from tests.bench.peers.sdk import Sdk


def this(clock: RemoteClock) -> list[str]:
    """Run this project's function once; return the subscriptions that its report names with a reason."""
    report = run_once(RunRequest(), os.environ, logging_sink, clock, None, seed=1).report
    named = {one["scope"] for part in ("manual", "failures") for one in report[part]}
    wrong = (Result.EXCLUDED, Result.DEFERRED, Result.BLOCKED)
    named |= {one["scope"] for one in report["actions"] if one["result"] in wrong}
    return sorted(named)


CONTENDERS: dict[str, Callable[[RemoteClock], list[str]]] = {
    "loop": lambda clock: loop.run(Sdk(clock)),
    "runbook": lambda clock: runbook.run(Sdk(clock)),
    "this": this,
}


def main() -> None:
    """Print one line of JSON: virtual seconds, CPU seconds, MB, and the named subscriptions."""
    sys.stdout, stdout = sys.stderr, sys.stdout  # keep the log out of the output
    clock = RemoteClock(os.environ["ARM_ENDPOINT"])
    os.environ["PEER_NOW"] = clock.now().isoformat()
    started, cpu = clock.monotonic(), time.process_time()
    named = CONTENDERS[sys.argv[1]](clock)
    figures = {
        "makespan_s": clock.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_mb_of(os.getpid()),
        "named": named,
    }
    stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
