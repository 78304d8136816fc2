"""Invokes one cloud's function again and again in this process, and writes samples of what the process holds.

``python -m tests.soak.worker CLOUD CALLS FILE``, with the environment of the function. Each line of FILE is one sample:
the number of calls so far, resident memory in bytes, threads, open sockets and open files.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SAMPLES = 50


class Sample(NamedTuple):
    """What the process holds after so many calls."""

    calls: int
    memory: int
    threads: int
    sockets: int
    files: int


class Context:
    """The context object that Lambda passes with the event."""

    invoked_function_arn = ""
    aws_request_id = "soak"
    function_name = "tailpipe-exports"
    memory_limit_in_mb = 512

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def aws() -> Callable[[], str]:
    """Return a call of Lambda's handler, which returns the run's status."""
    from aws_lambda.handler import handler

    context: Any = Context()
    return lambda: str(handler({}, context)["status"])


def azure() -> Callable[[], str]:
    """Return a request to the HTTP trigger, which returns the run's status."""
    import azure.functions as func

    from azure_function import handler
    from shared.runtime.clock import SystemClock

    def call() -> str:
        request = func.HttpRequest(method="POST", url="http://host/api/reconcile", body=b"")
        answer = handler.on_request(request, SystemClock())
        return str(json.loads(answer.get_body())["status"])

    return call


def gcp() -> Callable[[], str]:
    """Return a request to the HTTP function, which returns the run's status."""
    from flask import Flask, request

    from gcp_function.handler import reconcile

    gateway = Flask("gateway")

    def call() -> str:
        with gateway.test_request_context(method="POST", data=b""):
            answer: Any = reconcile(request)
        return str(json.loads(answer[0])["status"])

    return call


FUNCTIONS = {"aws": aws, "azure": azure, "gcp": gcp}


def sample(calls: int) -> Sample:
    """Return what this process holds now, after its garbage was collected."""
    gc.collect()
    memory = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    opened = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            opened.append(str(one.readlink()))
        except FileNotFoundError:  # the one that lists this folder
            continue
    sockets = sum(one.startswith("socket:") for one in opened)
    return Sample(calls, memory, threading.active_count(), sockets, len(opened) - sockets)


def main(cloud: str, calls: int, file: Path) -> int:
    """Call the function and write the samples; return 1 if a call did not end well."""
    call = FUNCTIONS[cloud]()
    every = max(1, calls // SAMPLES)
    with file.open("w", encoding="utf-8") as lines:
        for number in range(1, calls + 1):
            status = call()
            if status == "failed":
                sys.stderr.write(f"call {number} ended with the status {status}\n")
                return 1
            if number % every == 0:
                lines.write(json.dumps(sample(number)) + "\n")
                lines.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
