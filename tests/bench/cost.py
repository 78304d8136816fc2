"""The monthly cost of a deployment: resource use counted in runs against the local clouds, and list prices.

`python -m tests.bench.cost --count` writes `cost_counts.json` next to this file, and docs/cost.md from it. Without
`--count`, only docs/cost.md is written; with `--check`, it is compared. Runs are counted in the steady state:
everything exists and nothing changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.monitor import cost
from tests.bench.measure import ROOT
from tests.limits import HANG_S
from tools import modules

PAGE = ROOT / "docs" / "cost.md"
COUNTS = Path(__file__).parent / "cost_counts.json"
TITLES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}
SIZES = (300, 2_000, 10_000)
# Real organizations have few billing accounts; larger numbers are extrapolated from these.
COUNTED = {"aws": SIZES, "azure": SIZES, "gcp": (30, 300)}
RUNS = cost.MONTH_H  # hourly
LATENCY_S = 0.125  # of one call from inside the cloud; the local clouds are faster


def counted(environment: Mapping[str, str], cloud: str) -> dict[str, Any]:
    """Run the function in its own process and return its measured values; raise RuntimeError if the run failed."""
    command = [sys.executable, "-m", "tests.bench.cost_run", cloud]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the function's process failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if figures["status"] != "ok":
        raise RuntimeError(f"the run failed: {figures}")
    return figures


def count_aws(scopes: int) -> dict[str, Any]:
    """Count a steady run over an organization with `scopes` accounts."""
    from localcloud.aws.cloud import LocalAws

    with LocalAws(accounts=scopes) as cloud:
        environment = {**cloud.environment(), "BENCH_ACCOUNT": cloud.account}
        counted(environment, "aws")
        cloud.deliver()
        found = counted(environment, "aws")
        bucket, s3 = cloud.deployment.bucket, cloud.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        sizes = {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", ())}
    return _with_sizes(found, sizes, "state/", "runs/")


def count_azure(scopes: int) -> dict[str, Any]:
    """Count a steady run over a tenant with `scopes` subscriptions, in virtual time at the documented quota."""
    from localcloud.azure.cloud import LocalAzure
    from localcloud.azure.platform.deployment import STATE_CONTAINER
    from shared.runtime.clock import VirtualClock

    with LocalAzure(subscriptions=scopes, clock=VirtualClock()) as cloud:
        counted(cloud.environment(), "azure")
        # Just under a day, so that the deliveries are fresh and the next ones are not yet due.
        cloud.advance(86_400 - 7_200)
        cloud.deliver()
        counted(cloud.environment(), "azure")
        found = counted(cloud.environment(), "azure")
        with cloud.blob_client(cloud.host_account.name) as storage:
            listed = storage.get_container_client(STATE_CONTAINER).list_blobs()
            sizes = {str(one.name): int(one.size) for one in listed}
    return _with_sizes(found, sizes, "known_subscriptions.json", "runs/")


def count_gcp(scopes: int) -> dict[str, Any]:
    """Count a steady run over `scopes` billing accounts and their copies."""
    from gcp_function.settings import read_settings
    from localcloud.gcp.cloud import LocalGcp
    from tests.bench.gcp_copies import fill

    with LocalGcp(accounts=scopes, done=scopes, history_days=35, rows=2) as cloud:
        fill(cloud, read_settings(cloud.environment()))
        counted(cloud.environment(), "gcp")
        found = counted(cloud.environment(), "gcp")
        bucket = cloud.deployment.state_bucket
        kept = cloud.world.buckets.find(bucket).objects
        sizes = {name: kept.get(bucket, name).size for name in cloud.objects(bucket)}
    return _with_sizes(found, sizes, "known_billing_accounts.json", "runs/")


def _with_sizes(figures: Mapping[str, Any], sizes: Mapping[str, int], state: str, reports: str) -> dict[str, Any]:
    newest = max(name for name in sizes if name.startswith(reports))
    stated = max(size for name, size in sizes.items() if name.startswith(state))
    return {**figures, "state_bytes": stated, "report_bytes": sizes[newest]}


COUNTERS: dict[str, Callable[[int], dict[str, Any]]] = {"aws": count_aws, "azure": count_azure, "gcp": count_gcp}


def at(counts: Mapping[str, Any], cloud: str, scopes: int) -> dict[str, Any]:
    """Return the values of a run at a size: counted, or extrapolated linearly from the two largest counted sizes."""
    known = {int(size): figures for size, figures in counts[cloud].items()}
    if scopes in known:
        return dict(known[scopes])
    smaller, larger = sorted(known)[-2:]
    share = (scopes - larger) / (larger - smaller)

    def extrapolated(name: str) -> Any:
        low, high = known[smaller][name], known[larger][name]
        if isinstance(high, dict):
            return {key: high[key] + (high[key] - low.get(key, 0)) * share for key in high}
        return high + (high - low) * share if isinstance(high, int | float) else high

    return {name: extrapolated(name) for name in known[larger]}


def seconds(run: Mapping[str, Any]) -> float:
    """Return the duration of a run: CPU time plus sequential calls, or the wait for a quota if that is longer."""
    return float(max(run["waited_s"], run["cpu_s"] + LATENCY_S * sum(run["calls"].values())))


def run_of(found: Mapping[str, Any]) -> cost.Run:
    """Return a counted run in the form that the prices apply to."""
    return cost.Run(seconds(found), found["calls"], found["log_bytes"], found["report_bytes"], found["state_bytes"])


def deployment_of(found: Mapping[str, Any], module: modules.Module) -> cost.Deployment:
    """Return the resources of a module with its default values."""
    gb = float(module.variables["memory_mb"]["default"]) / 1024
    return cost.Deployment(gb, len(module.locals["alarms"]), found["metrics"])


LOOKED_UP = cost.LOOKED_UP
HEAD = f"""# What a deployment costs

<!-- Made by tests/bench/cost.py; `make cost` counts again and updates it. -->

This page estimates what the cloud charges a month for one deployment with the module's defaults, an hourly schedule and
nothing to change. Amounts are US dollars at list prices looked up on {LOOKED_UP}, without free tiers, discounts and
taxes. A † marks a last known price that was not found again that day. Check the prices of your region before you rely
on them. All amounts are *counted* in runs against the local clouds; only the prices are from outside.

**Not counted**:

- the delivered cost data and its use: storage, Google's Parquet copies, Tailpipe's reads. They depend on your usage,
  and are the larger part in most organizations;
- first runs, backfill and repairs, which take longer once;
- a CloudTrail trail, KMS keys, private endpoints and a virtual network, if you choose them; Terraform's state;
- the few cents of queues, topics, mails and failed events;
- data transfer: calls stay in the region or go to public endpoints of the same cloud.

The management APIs that a run reads (Organizations, CloudFormation, Data Exports, Cost Management, Cloud Billing) are
free.

The length of a run is estimated as its CPU seconds on the machine that counted, a cold start included, plus
{LATENCY_S:g} s for each call, one after another; or as the time that it waits for a quota, if that is longer. Functions
call in parallel, so the real length is shorter. All calls to storage are priced as the most expensive kind.
"""


def page(counts: Mapping[str, Any]) -> str:
    """Return docs/cost.md."""
    return "\n".join(_lines(counts)).rstrip("\n") + "\n"


def _lines(counts: Mapping[str, Any]) -> Iterator[str]:
    yield HEAD
    yield "## A month\n"
    yield "| scopes | " + " | ".join(TITLES.values()) + " |"
    yield "| --- |" + " --- |" * len(TITLES)
    declared = {cloud: modules.read(ROOT / "infra" / cloud) for cloud in TITLES}
    for scopes in SIZES:
        sums = [sum(_costs(counts, cloud, scopes, declared[cloud]).values()) for cloud in TITLES]
        yield f"| {scopes:,} | " + " | ".join(f"${total:,.2f}" for total in sums) + " |"
    yield ""
    for cloud, title in TITLES.items():
        yield from _cloud(counts, cloud, title, declared[cloud])


def _costs(counts: Mapping[str, Any], cloud: str, scopes: int, module: modules.Module) -> dict[str, float]:
    found = at(counts, cloud, scopes)
    return cost.costs(cloud, run_of(found), deployment_of(found, module), RUNS)


def _cloud(counts: Mapping[str, Any], cloud: str, title: str, module: modules.Module) -> Iterator[str]:
    largest = max(int(size) for size in counts[cloud])
    yield f"## {title}\n"
    if largest < SIZES[-1]:
        sizes = " and ".join(str(one) for one in COUNTED[cloud])
        yield f"Counted at {sizes} billing accounts; larger numbers are extrapolated. No run was made at"
        yield "those sizes: with so many copies a run needs more memory than the module's default.\n"
    yield "| one run | " + " | ".join(f"{scopes:,}" for scopes in SIZES) + " |"
    yield "| --- |" + " --- |" * len(SIZES)
    runs = [at(counts, cloud, scopes) for scopes in SIZES]
    rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "seconds": lambda run: f"{seconds(run):,.0f}",
        "of these CPU": lambda run: f"{run['cpu_s']:,.1f}",
        "calls": lambda run: f"{sum(run['calls'].values()):,.0f}",
        "of these to storage": lambda run: f"{sum(run['calls'].get(one, 0) for one in cost.STORAGE_CALLS[cloud]):,.0f}",
        "log lines": lambda run: f"{run['log_lines']:,.0f}",
        "bytes of log": lambda run: f"{run['log_bytes']:,.0f}",
        "bytes of its report": lambda run: f"{run['report_bytes']:,.0f}",
        "bytes of state": lambda run: f"{run['state_bytes']:,.0f}",
    }
    for name, shown in rows.items():
        yield f"| {name} | " + " | ".join(shown(run) for run in runs) + " |"
    yield ""
    yield "| a month | price | source | " + " | ".join(f"{scopes:,}" for scopes in SIZES) + " |"
    yield "| --- | --- | --- |" + " --- |" * len(SIZES)
    costs = [_costs(counts, cloud, scopes, module) for scopes in SIZES]
    for name, price in cost.PRICES[cloud].items():
        cells = " | ".join(f"${one[name]:,.2f}" for one in costs)
        yield f"| {name} | {price.text} | {price.source}{'' if price.seen else ' †'} | {cells} |"
    yield "| **sum** | | | " + " | ".join(f"**${sum(one.values()):,.2f}**" for one in costs) + " |"
    yield ""


def main(arguments: list[str]) -> int:
    """Count, write or check, and return the exit code."""
    chosen = [one for one in arguments if one in COUNTERS] or list(COUNTERS)
    if "--count" in arguments:
        counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.is_file() else {}
        for cloud in chosen:
            found = {}
            for scopes in COUNTED[cloud]:
                sys.stderr.write(f"counting {TITLES[cloud]} at {scopes:,} scopes\n")
                found[str(scopes)] = COUNTERS[cloud](scopes)
            counts[cloud] = found
            COUNTS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = page(json.loads(COUNTS.read_text(encoding="utf-8")))
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/cost.md does not match the counts and prices; run make cost to update it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
