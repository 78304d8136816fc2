"""The Azure function against a tenant of 10,000 subscriptions, in virtual time at the documented quota."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER, STATE_CONTAINER
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tests.bench import azure_listing
from tests.bench.azure_healing import naive, over_http, quantile, simulated
from tests.bench.imports import import_ratio
from tests.bench.measure import ROOT, Measure
from tests.limits import HANG_S

SUBSCRIPTIONS = 10_000
BUDGET = 1_000  # the function's default, in calls per run
QUOTA_PER_S = 200 / 60
PAGE = 5_000  # blobs
COST = "Microsoft.CostManagement/*"
STATE = "known_subscriptions.json"
DAY_S = 86_400
VERIFY_ALL = {"verify_all": True}
PACKAGES = (
    "import azure.functions, msgspec, requests; from azure.mgmt.costmanagement import CostManagementClient; "
    "from azure.mgmt.resource.subscriptions import SubscriptionClient; "
    "from azure.storage.blob import BlobServiceClient; from azure.core.pipeline.policies import SansIOHTTPPolicy; "
    "CostManagementClient(object(), base_url='http://127.0.0.1:1', authentication_policy=SansIOHTTPPolicy())"
)
WHOLE = (
    f"{SUBSCRIPTIONS:,} subscriptions in a local Azure, real SDK calls over HTTP, virtual time; the function in "
    "its own process, advancing the local Azure's clock whenever it waits"
)
# Subscriptions, hours in which exports are deleted, and deletions per hour.
HEALING = {"100": (100, 240, 1.0), "1k": (1_000, 96, 4.0), "10k": (10_000, 24, 20.0)}
CROSS = (200, 20, 24, 2.0)  # the same ratio of exports to budget as 10,000 to 1,000


def figures_of(azure: LocalAzure, argument: str) -> dict[str, Any]:
    """Run `azure_function` in its own process with a request or "state", and return its measured values.

    Raises RuntimeError if it fails.
    """
    environment = {**os.environ, **azure.environment(), "CALL_BUDGET": str(BUDGET), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.azure_function", argument]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the function's process failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def run_function(azure: LocalAzure, request: dict[str, Any]) -> dict[str, Any]:
    """Run the function once; `cost_calls` is the number of Cost Management calls, `refused` of them with 429.

    Raises RuntimeError if the run failed or did not cover every subscription, because its values would be meaningless.
    """
    azure.calls.clear()
    figures = figures_of(azure, json.dumps(request))
    scopes = figures["scopes"]
    all_covered = scopes["covered"] == scopes["active"] == SUBSCRIPTIONS
    if figures["status"] != "ok" or not figures["complete"] or not all_covered:
        raise RuntimeError(f"the run failed: {figures}")
    figures["cost_calls"] = azure.calls.count(COST)
    figures["refused"] = azure.calls.count(COST, status=429)
    return figures


def measures() -> Iterator[Measure]:
    """Yield the measurements of the Azure function."""
    with LocalAzure(subscriptions=SUBSCRIPTIONS, clock=VirtualClock()) as azure:
        yield from new(run_function(azure, {}))
        # Just under a day, so that the deliveries are fresh and the next ones are not yet due.
        azure.advance(DAY_S - 7_200)
        azure.deliver()
        run_function(azure, {})
        yield from steady(azure, run_function(azure, {}))
        yield from state(azure)
        yield from adopt(azure)
    with LocalAzure(
        subscriptions=SUBSCRIPTIONS, clock=VirtualClock(), behavior=Behavior(blind_updates="accepted")
    ) as azure:
        first = run_function(azure, {})
    yield Measure(
        "azure.new_10k_lookfirst.calls_per_scope",
        first["cost_calls"] / SUBSCRIPTIONS,
        "calls",
        2.05,
        f"as azure.new_10k, but Azure accepts updates without an eTag: {first['cost_calls']:,} calls, "
        f"{first['refused']} refused, {first['makespan_s']:,.0f} s; {WHOLE}",
    )
    yield from azure_listing.measures()
    yield from healing()
    yield import_ratio("azure", "import azure_function.handler", PACKAGES)


def new(first: dict[str, Any]) -> Iterator[Measure]:
    """Yield the measurements of the first run over subscriptions without exports."""
    calls = first["cost_calls"]
    method = f"first run, no exports, Azure refuses updates without an eTag; {WHOLE}"
    yield Measure(
        "azure.new_10k.calls_per_scope",
        calls / SUBSCRIPTIONS,
        "calls",
        1.05,
        f"{calls:,} Cost Management calls received by the local Azure, {first['refused']} refused; {method}",
    )
    yield Measure(
        "azure.new_10k.makespan_ratio",
        first["makespan_s"] / (calls / QUOTA_PER_S),
        "ratio",
        1.05,
        f"{first['makespan_s']:,.0f} s of virtual time for {calls:,} calls at 200 a minute; {method}",
    )
    yield Measure(
        "azure.new_10k.real_s",
        first["real_s"],
        "s",
        180,
        f"wall time of the run, including {first['cpu_s']:.1f} s of CPU in the function's process; {method}",
    )
    yield Measure(
        "azure.new_10k.peak_mb",
        first["peak_mb"],
        "MB",
        250,
        f"peak resident memory of the function's process, without the local Azure and Azurite; {method}",
    )


def steady(azure: LocalAzure, run: dict[str, Any]) -> Iterator[Measure]:
    """Yield the measurements of a run over healthy exports with fresh deliveries."""
    blobs = 0
    for account in azure.destinations:
        with azure.blob_client(account.name) as storage:
            blobs += sum(1 for _ in storage.get_container_client(CONTAINER).list_blob_names(results_per_page=PAGE))
    method = f"third run, a day after the first, all exports have delivered, budget {BUDGET:,}; {WHOLE}"
    yield Measure(
        "azure.steady_10k.cost_calls",
        run["cost_calls"],
        "calls",
        BUDGET,
        f"Cost Management calls received by the local Azure; {run['makespan_s']:,.0f} s of virtual time, "
        f"{run['real_s']:.1f} s real, peak {run['peak_mb']:.0f} MB; {method}",
    )
    floor = math.ceil(blobs / PAGE)
    yield Measure(
        "azure.steady_10k.list_calls_beyond_floor",
        run["list_calls"] - floor,
        "calls",
        1,
        f"{run['list_calls']} requests that list blobs, counted in the process, minus {floor} for "
        f"{blobs:,} blobs at {PAGE:,} per page; {method}",
    )


def state(azure: LocalAzure) -> Iterator[Measure]:
    """Yield the measurements of the state blob."""
    with azure.blob_client(azure.host_account.name) as storage:
        size = storage.get_blob_client(STATE_CONTAINER, STATE).get_blob_properties().size
    method = f"the state after three runs over {SUBSCRIPTIONS:,} subscriptions, in Azurite"
    yield Measure("azure.state_10k.mb", size / 1e6, "MB", None, f"size of the blob; {method}")
    yield Measure(
        "azure.state_10k.load_save_s",
        figures_of(azure, "state")["load_save_s"],
        "s",
        None,
        f"one load, a save that acquires the lock, and a save that releases it; median of 5; {method}",
    )


def adopt(azure: LocalAzure) -> Iterator[Measure]:
    """Yield the measurement of a first run that adopts delivering exports of the legacy scripts."""
    for subscription in azure.subscription_ids:
        azure.delete_export(subscription)
    azure.create_exports()
    with azure.blob_client(azure.host_account.name) as storage:
        storage.get_blob_client(STATE_CONTAINER, STATE).delete_blob()
    run = run_function(azure, VERIFY_ALL)
    writes = azure.calls.count("Microsoft.CostManagement/exports/write")
    yield Measure(
        "azure.adopt_10k.calls_per_scope",
        run["cost_calls"] / SUBSCRIPTIONS,
        "calls",
        2.05,
        "every export created by the legacy scripts, with data; empty state; one run that verifies all of them and "
        "adds the partitioning that the scripts do not set: one read and one write each "
        f"(verify_all; a scheduled run spends its budget of {BUDGET:,} and the next continues): "
        f"{run['cost_calls']:,} calls, including {writes} writes, {run['refused']} refused; {WHOLE}",
    )


def healing() -> Iterator[Measure]:
    """Yield how long it takes until deleted exports are recreated."""
    scopes, budget, hours, each_hour = CROSS
    crossed = [quantile(found(*CROSS).until_run, 0.95) for found in (over_http, simulated)]
    check = (
        f"cross-check with {scopes} subscriptions, a budget of {budget} and a day of {each_hour:g} deletions per hour: "
        f"p95 {crossed[0]:.2f} h over HTTP against the local Azure, {crossed[1]:.2f} h in memory"
    )
    for name, (scopes, hours, each_hour) in HEALING.items():
        found, plain = simulated(scopes, BUDGET, hours, each_hour), naive(scopes, hours, each_hour)
        yield Measure(
            f"azure.heal_{name}.p95_hours",
            quantile(found.until_run, 0.95),
            "h",
            math.ceil(scopes / BUDGET),
            f"from deletion to the hourly run that recreates it; {len(found.until_run)} random deletions in "
            f"{hours} h, at most {BUDGET:,} reads per run; p50 {quantile(found.until_run, 0.5):.2f} h; until the "
            f"export exists p50 {quantile(found.until_created, 0.5):.2f} h, p95 "
            f"{quantile(found.until_created, 0.95):.2f} h, including the run's wait for the quota; in-memory cloud; "
            f"{check}",
        )
        yield Measure(
            f"azure.heal_{name}.naive_p95_hours",
            quantile(plain, 0.95),
            "h",
            None,
            f"from deletion to recreation if every run reads every export: p50 {quantile(plain, 0.5):.2f} h, with "
            f"{scopes:,} reads per hour instead of at most {BUDGET:,} ({scopes / (QUOTA_PER_S * 3600):.0%} of the "
            "tenant's quota); computed from the order of the reads",
        )
