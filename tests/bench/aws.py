"""The AWS function against an organization of 5,000 accounts."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from localcloud.aws.cloud import LocalAws
from tests.bench.aws_events import measures as events
from tests.bench.calibration import Timing
from tests.bench.imports import import_ratio
from tests.bench.measure import ROOT, Measure, cpu_measure
from tests.limits import HANG_S

ACCOUNTS = 5000
MONTHS, FILES = 36, 20
OBJECTS_PAGE = 1000
EXPORT = "tailpipe-dataexport"
PACKAGES = (
    "import boto3.session, msgspec; from aws_lambda_powertools import Logger, Metrics; "
    "boto3.session.Session().client('s3', region_name='eu-west-1')"
)


def run_function(cloud: LocalAws) -> dict[str, Any]:
    """Run the function in its own process against the local cloud, and return its measured values.

    Raises RuntimeError if the run failed or did not serve every account, because its values would be meaningless.
    """
    environment = {**os.environ, **cloud.environment(), "BENCH_ACCOUNT": cloud.account, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.aws_function"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the function's process failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if not figures["ok"] or figures["served"] != figures["active"]:
        raise RuntimeError(f"the run failed: {figures}; {done.stderr[-2000:]}")
    return figures


def add_history(cloud: LocalAws) -> int:
    """Add the files of past months to the export; return the number of objects that a run has to list."""
    s3, now = cloud.client("s3"), cloud.clock.now()
    root, expected = f"{cloud.environment().get('EXPORT_PREFIX', 'dataexport')}/{EXPORT}", 0
    for back in range(1, MONTHS + 1):
        number = now.year * 12 + now.month - 1 - back
        folder = f"BILLING_PERIOD={number // 12:04d}-{number % 12 + 1:02d}"
        names = [f"{root}/data/{folder}/{EXPORT}-{file:05d}.csv.gz" for file in range(FILES)]
        for name in names:
            s3.put_object(Bucket=cloud.deployment.bucket, Key=name, Body=b"1")
        files = [f"s3://{cloud.deployment.bucket}/{name}" for name in names]
        manifest = f"{root}/metadata/{folder}/{EXPORT}-Manifest.json"
        s3.put_object(Bucket=cloud.deployment.bucket, Key=manifest, Body=json.dumps({"dataFiles": files}).encode())
        expected += 1 + (FILES if back <= 2 else 0)
    return expected


def measures() -> Iterator[Measure]:
    """Yield the measurements of the AWS function."""
    with LocalAws(accounts=ACCOUNTS) as cloud:
        cold = run_function(cloud)
        run_function(cloud)  # observes what later runs remember for a day
        steady = run_function(cloud)
        recent = add_history(cloud)
        run_function(cloud)
        old = run_function(cloud)
    setting = f"{ACCOUNTS} accounts in a local organization over HTTP, the function in its own process"
    operations = ", ".join(f"{name} {number}" for name, number in sorted(steady["operations"].items()))
    yield Measure(
        "aws.steady_5k.calls_beyond_pages", steady["beyond_pages"], "calls", 12, f"third run; {setting}; {operations}"
    )
    yield Measure(
        "aws.steady_5k_36m.list_calls",
        old["operations"]["ListObjectsV2"],
        "calls",
        math.ceil(recent / OBJECTS_PAGE),
        f"listings of the export's files with {MONTHS} months of {FILES} files each, after the day's check of an "
        f"earlier period; target: the pages of the {recent} objects that are recent files or manifests; {setting}",
    )
    yield Measure(
        "aws.cold_5k.calls_per_account",
        cold["calls"] / ACCOUNTS,
        "calls",
        None,
        f"first run, without an export or member roles, including pages: {cold['calls']} calls; {setting}",
    )
    yield cpu_measure(
        "aws.steady_5k.engine_cpu_s",
        [Timing.of(steady)],
        None,
        f"CPU of the run minus the CPU of the SDK's calls; {setting}",
    )
    yield from events()
    peak = max(cold["peak_mb"], steady["peak_mb"])
    yield Measure("aws.peak_mb", peak, "MB", 256, f"largest peak resident memory of first and second run; {setting}")
    yield import_ratio("aws", "import aws_lambda.handler", PACKAGES)
