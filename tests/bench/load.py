"""The largest organizations: 100,000 subscriptions, 20,000 accounts, 5,000 billing accounts, in one deployment each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gcp_function.settings import read_settings
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER
from localcloud.gcp.cloud import LocalGcp
from shared.runtime.clock import VirtualClock
from tests.bench import aws, azure, gcp
from tests.bench.gcp_copies import fill
from tests.bench.measure import Measure

SUBSCRIPTIONS, ACCOUNTS, BILLING_ACCOUNTS = 100_000, 20_000, 5_000
LIMIT_MB = 512
HOUR_S = 3600
DAYS, ROWS = 35, 1
WRITES = "Microsoft.CostManagement/exports/write"


def measures() -> Iterator[Measure]:
    """Yield the measurements of the three functions."""
    yield from of_azure()
    yield of_aws()
    yield of_gcp()


def of_azure() -> Iterator[Measure]:
    """Yield those of the Azure function: hourly runs until all subscriptions are covered, and one more.

    A run ends by itself after RUN_SECONDS and the next one goes on. Raises RuntimeError if a run fails.
    """
    with LocalAzure(subscriptions=SUBSCRIPTIONS, clock=VirtualClock()) as cloud:
        begun = cloud.clock.monotonic()
        runs: list[dict[str, Any]] = []
        while not runs or runs[-1]["scopes"]["covered"] < SUBSCRIPTIONS:
            if runs:
                cloud.advance(max(0.0, HOUR_S - runs[-1]["makespan_s"]))
            runs.append(_azure_run(cloud))
        took = cloud.clock.monotonic() - begun
        calls, writes = cloud.calls.count(azure.COST), cloud.calls.count(WRITES, status=201)
        cloud.advance(azure.DAY_S - 7_200)
        cloud.deliver()
        runs.append(_azure_run(cloud))
        with cloud.blob_client(cloud.host_account.name) as storage:
            size = storage.get_blob_client(STATE_CONTAINER, azure.STATE).get_blob_properties().size
    method = (
        f"{SUBSCRIPTIONS:,} subscriptions without exports in a local Azure, real SDK calls over HTTP, virtual time at "
        f"the documented quota; {len(runs) - 1} hourly runs, each in its own process, going on where the last one "
        f"ended, until all are covered: {took / HOUR_S:.1f} h, {calls:,} Cost Management calls; then a run after "
        f"deliveries with a budget of {azure.BUDGET:,}"
    )
    yield Measure("load.azure_100k.peak_mb", max(one["peak_mb"] for one in runs), "MB", LIMIT_MB, f"largest; {method}")
    yield Measure("load.azure_100k.makespan_ratio", took / (calls / azure.QUOTA_PER_S), "ratio", 1.2, method)
    yield Measure("load.azure_100k.second_writes", writes - SUBSCRIPTIONS, "writes", 0, method)
    yield Measure("load.azure_100k.state_mb", size / 1e6, "MB", None, f"size of the state; {method}")


def _azure_run(cloud: LocalAzure) -> dict[str, Any]:
    figures = azure.figures_of(cloud, "{}")
    if figures["status"] == "failed" or figures["scopes"]["active"] != SUBSCRIPTIONS:
        raise RuntimeError(f"the run failed: {figures}")
    return figures


def of_aws() -> Measure:
    """Return that of the AWS function: a first and a later run."""
    with LocalAws(accounts=ACCOUNTS) as cloud:
        peak = max(aws.run_function(cloud)["peak_mb"] for _ in range(2))
    return Measure(
        "load.aws_20k.peak_mb",
        peak,
        "MB",
        LIMIT_MB,
        f"larger of a first and a second run; {ACCOUNTS:,} accounts in a local organization over HTTP, the function in "
        "its own process",
    )


def of_gcp() -> Measure:
    """Return that of the Google Cloud function: a first run, which reads all copies, and a later one."""
    with (
        LocalGcp(BILLING_ACCOUNTS, done=BILLING_ACCOUNTS, history_days=DAYS, rows=ROWS) as cloud,
        gcp.serve(cloud) as function,
    ):
        copies = fill(cloud, read_settings(cloud.environment()))
        peak = max(gcp.call(function).peak_mb or math.inf for _ in range(2))
    return Measure(
        "load.gcp_5k.peak_mb",
        peak,
        "MB",
        LIMIT_MB,
        f"larger of a first run without a state and a second one; {BILLING_ACCOUNTS:,} billing accounts with "
        f"{copies:,} current copies of {DAYS} days in a local Google Cloud, the function under the functions-framework",
    )
