"""Run the Azure function once in this process, in virtual time, and print the measured values as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from azure_function.clients import RATES, warm_clients
from azure_function.errors import translate
from azure_function.handler import logging_sink
from azure_function.invocation import run_once
from azure_function.settings import read_settings
from azure_function.state_store import BlobStore
from localcloud.common.child_process import peak_mb_of
from localcloud.common.remote_clock import RemoteClock
from shared.request import parse_request
from shared.runtime.context import RunContext
from shared.state.session import StateSession

ROUNDS = 5


class Listings:
    """Counts the requests of this process that list blobs."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()
        original = requests.Session.send

        def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            if parse_qs(urlsplit(request.url or "").query).get("comp") == ["list"]:
                with self._lock:
                    self.count += 1
            return original(session, request, **options)

        vars_of: Any = requests.Session
        vars_of.send = send  # every SDK request goes through it


def run(payload: Mapping[str, Any], clock: RemoteClock) -> dict[str, Any]:
    """Run once, and return time, memory and values of the report."""
    listings = Listings()
    started, real, cpu = clock.monotonic(), time.perf_counter(), time.process_time()
    finished = run_once(parse_request(payload), os.environ, logging_sink, clock, None, seed=1)
    report = finished.report
    return {
        "makespan_s": clock.monotonic() - started,
        "real_s": time.perf_counter() - real,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": peak_mb_of(os.getpid()),
        "list_calls": listings.count,
        "status": report["status"],
        "complete": report["run_complete"],
        "scopes": report["scopes"],
        "calls": report["calls"],
        "outcomes": report["outcomes"],
    }


def load_and_save(clock: RemoteClock) -> dict[str, Any]:
    """Load and save the state several times; return the median in seconds."""
    settings = read_settings(os.environ)
    clients = warm_clients(settings, os.environ)
    taken = []
    for _ in range(ROUNDS):
        context = RunContext("azure", settings.engine, logging_sink, clock, 600, RATES, translate, 1)
        session = StateSession(BlobStore(settings, clients, context), context)
        real = time.perf_counter()
        session.open()
        session.lock(session.document.owner)
        session.save(release=True)
        taken.append(time.perf_counter() - real)
    # One load and two saves, because acquiring the lock also saves.
    return {"load_save_s": sorted(taken)[ROUNDS // 2]}


def main() -> None:
    """Print the measured values of a run with the given request, or of loading and saving, as one line of JSON."""
    sys.stdout, stdout = sys.stderr, sys.stdout  # keep the function's log lines out of the output
    clock = RemoteClock(os.environ["ARM_ENDPOINT"])
    figures = load_and_save(clock) if sys.argv[1] == "state" else run(json.loads(sys.argv[1]), clock)
    stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
