"""The GCP function with 500 billing accounts, and with 1,000 partitions without a copy."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from gcp_function.settings import read_settings
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework, Response
from tests.bench import gcp_events
from tests.bench.calibration import Timing
from tests.bench.gcp_copies import add_history, fill
from tests.bench.imports import import_ratio
from tests.bench.measure import ROOT, Measure, cpu_measure
from tests.limits import HANG_S

FUNCTION = "gcp_function.handler:reconcile"
LIMIT_S = 900
ACCOUNTS, DAYS, ROWS = 500, 35, 5
PLANS = 5
ACCOUNTS_PAGE, OBJECTS_PAGE = 100, 1000
TABLE_QUERIES = 3  # for 500 tables each: standard, detailed, pricing; no account exports FOCUS data
COPYING_ACCOUNTS, COPYING_DAYS, PARTITIONS = 25, 20, 1000
OLD_ACCOUNTS, OLD_DAYS = 25, 1060  # three years, including the window
FAILED_JOBS = LOST_ANSWERS = 10

# From a cold start to the first call: the handler imports the SDKs on first use, so its import alone is too short.
COLD_START = (
    "import gcp_function.handler; from gcp_function.clients import Clients; "
    "from gcp_function.settings import read_settings; "
    "made = Clients(read_settings({'GOOGLE_CLOUD_PROJECT': 'bench-project', "
    "'BIGQUERY_EMULATOR_HOST': 'http://127.0.0.1:9', 'STORAGE_EMULATOR_HOST': 'http://127.0.0.1:9'})); "
    "made.bigquery; made.storage"
)
PACKAGES = (
    "import functions_framework, msgspec, google.auth; from google.auth.credentials import AnonymousCredentials; "
    "from google.auth.transport.requests import AuthorizedSession; from google.cloud import bigquery, storage; "
    "made = AuthorizedSession(AnonymousCredentials()); "
    "bigquery.Client('bench-project', AnonymousCredentials(), made); "
    "storage.Client('bench-project', AnonymousCredentials(), made)"
)


def call(function: FunctionsFramework) -> Response:
    """Run the function and return its response.

    Raises RuntimeError if the run failed or did not cover every account, because its values would be meaningless.
    """
    response = function.invoke()
    report = response.payload
    if not isinstance(report, dict) or response.status != 200:
        raise RuntimeError(f"HTTP {response.status}: {response.error or response.body[:2000]!r}")
    scopes = report["scopes"]
    if report["status"] != "ok" or not report["run_complete"] or scopes["covered"] != scopes["active"]:
        raise RuntimeError(f"the run failed: {json.dumps(report)[:2000]}")
    return response


def serve(cloud: LocalGcp) -> FunctionsFramework:
    """Return the function, served as on Cloud Run."""
    return FunctionsFramework(FUNCTION, cloud.environment(), source=ROOT, timeout_s=LIMIT_S)


def plan(cloud: LocalGcp) -> dict[str, Any]:
    """Plan the copies of one kind in a fresh process, and return its measured values; raise RuntimeError on failure."""
    environment = {**os.environ, **cloud.environment(), "COPY": "standard", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.gcp_function"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the planning process failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not figures["ok"] or figures["keeps"] != ACCOUNTS * DAYS:
        raise RuntimeError(f"the plan is not in the steady state: {figures}; {done.stderr[-2000:]}")
    return figures


def steady() -> Iterator[Measure | float]:
    """Yield the measurements of the steady state, and the peak memory of its runs in MB."""
    with LocalGcp(accounts=ACCOUNTS, done=ACCOUNTS, history_days=DAYS, rows=ROWS) as cloud:
        copies = fill(cloud, read_settings(cloud.environment()))
        objects = len(cloud.copies())
        with serve(cloud) as function:
            first = call(function)
            cloud.clear_calls()
            second = call(function)
        methods = cloud.calls.by_method()
        jobs = sum(one.kind == "extract" for one in cloud.world.jobs.of(cloud.project))
        if jobs:
            raise RuntimeError(f"{jobs} copies were created although the cloud should be in the steady state")
        plans = [plan(cloud) for _ in range(PLANS)]
    pages = math.ceil(ACCOUNTS / ACCOUNTS_PAGE) + math.ceil(objects / OBJECTS_PAGE) + TABLE_QUERIES
    by_method = ", ".join(f"{name} {number}" for name, number in methods.items())
    setting = f"{ACCOUNTS} open accounts, {copies} current copies of {DAYS} days, both kinds"
    yield Measure(
        "gcp.steady_500.calls_beyond_pages",
        sum(methods.values()) - pages,
        "calls",
        10,
        f"second run; {setting}; HTTP requests to the local GCP, including the SDKs' own, minus {pages}: the "
        f"minimum of pages of accounts and of {objects} objects, and {TABLE_QUERIES} queries of tables; {by_method}",
    )
    yield cpu_measure(
        "gcp.plan_copies_17500.cpu_s",
        [Timing.of(figures) for figures in plans],
        1,
        f"CPU of a dry run over {ACCOUNTS} accounts × {DAYS} days of one kind in a fresh process, minus imports "
        f"and the CPU of calls to Google's services, including the SDKs; the state has {copies} copies",
    )
    yield max(first.peak_mb or math.inf, second.peak_mb or math.inf)


def history() -> Iterator[Measure]:
    """Yield the measurement of listing the copies of the window when years of older copies exist."""
    with LocalGcp(accounts=OLD_ACCOUNTS, done=OLD_ACCOUNTS, history_days=DAYS, rows=ROWS) as cloud:
        settings = read_settings(cloud.environment())
        fill(cloud, settings)
        window = len(cloud.copies())
        add_history(cloud, settings, OLD_DAYS)
        objects = len(cloud.copies())
        with serve(cloud) as function:
            call(function)
            cloud.clear_calls()
            call(function)
        pages = cloud.calls.by_method()["storage.objects.list"]
    yield Measure(
        "gcp.steady_36m.list_calls",
        pages,
        "calls",
        math.ceil(window / OBJECTS_PAGE) + 1,
        f"listings of the second run over {OLD_ACCOUNTS} accounts with copies of {DAYS + OLD_DAYS} days: {objects:,} "
        f"objects, {window:,} of them from the last {DAYS} days; target: the minimum of pages for these, plus one; the "
        "local Cloud Storage fills every page of a glob listing, the real one may not",
    )


def copying() -> Iterator[Measure | float]:
    """Yield the measurement of copying, and the run's peak memory in MB."""
    with LocalGcp(COPYING_ACCOUNTS, done=COPYING_ACCOUNTS, history_days=COPYING_DAYS, rows=ROWS) as cloud:
        cloud.fail_jobs("extract", "backendError", times=FAILED_JOBS)
        cloud.lose_answer("bigquery.jobs.insert", times=LOST_ANSWERS)
        with serve(cloud) as function:
            response = call(function)
        jobs = sum(one.kind == "extract" for one in cloud.world.jobs.of(cloud.project))
        manifests = sum(name.endswith("/manifest.json") for name in cloud.copies())
    if manifests != PARTITIONS:
        raise RuntimeError(f"{manifests} of {PARTITIONS} partitions were copied")
    yield Measure(
        "gcp.copy_1k.jobs_per_partition",
        jobs / PARTITIONS,
        "jobs",
        1.05,
        f"{jobs} extract jobs for {PARTITIONS} partitions in one run of {response.duration_s:.0f} s, after which each "
        f"has a copy; {FAILED_JOBS} jobs failed on Google's side and {LOST_ANSWERS} responses to accepted jobs were "
        "lost; the minimum is one job each, a failed job costs one more, a lost response none; the target allows for "
        "partitions that change meanwhile, and is about 1 % of BigQuery's daily quota of 100,000 jobs",
    )
    yield response.peak_mb or math.inf


def measures() -> Iterator[Measure]:
    """Yield the measurements of the GCP function."""
    peaks: list[float] = []
    yield from history()
    yield from gcp_events.measures()
    for part in (steady(), copying()):
        for found in part:
            if isinstance(found, Measure):
                yield found
            else:
                peaks.append(found)
    yield Measure(
        "gcp.peak_mb",
        max(peaks),
        "MB",
        250,
        "largest peak resident memory of the server process that runs the function under the functions-framework, in "
        f"the steady state with {ACCOUNTS} accounts ({peaks[0]:.0f} MB) and while copying ({peaks[1]:.0f} MB); the "
        "local GCP is a separate process",
    )
    yield import_ratio("gcp", COLD_START, PACKAGES)
