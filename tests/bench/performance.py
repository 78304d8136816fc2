"""Writes docs/performance.md from the last measurements of each suite, which it keeps in `measures.json`.

`make bench` measures and writes both. `python -m tests.bench.performance` writes only the page; with `--check`, it is
compared.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from shared.monitor import cost as price_list
from tests.bench import cost, peers
from tests.bench.calibration import REFERENCE_S
from tests.bench.measure import ROOT, Measure
from tools import modules

PAGE = ROOT / "docs" / "performance.md"
KEPT = Path(__file__).parent / "measures.json"
TITLES = {
    "engine": "Engine, without a cloud",
    "aws": "AWS",
    "azure": "Azure",
    "gcp": "Google Cloud",
    "fleet": "Rounds over tenants",
    "load": "The largest organizations",
    "monitor": "Status, page and ledger",
    "setup": "Set-up",
    "peers": "Side by side",
}
BY_SIZE = {"1k": 1_000, "10k": 10_000, "100k": 100_000}

# What a value means for those who operate a deployment, by the measure's name.
MEANINGS = {
    "engine.plan_100k.cpu_s": "CPU to decide about 100,000 targets",
    "engine.plan_100k.peak_mb": "memory to do so",
    "aws.steady_5k.calls_beyond_pages": "calls of a run that finds nothing to do, beyond pages",
    "aws.steady_5k_36m.list_calls": "years of delivered files do not make a run slower",
    "aws.cold_5k.calls_per_account": "calls to set up one more account",
    "aws.steady_5k.engine_cpu_s": "CPU of a run besides the SDK's",
    "aws.heal.event_p95_s": "a damaged export works again",
    "aws.onboard.new_scope_p95_s": "a new account is covered",
    "aws.storm.10k_events.runs": "a storm of events does not become a storm of runs",
    "aws.storm.lost": "no event of a storm is lost",
    "aws.events.extra_steady_calls": "what listening to events adds to a run",
    "aws.delivery.publish_p95_s": "a delivery is published after its manifest was written",
    "aws.peak_mb": "memory of the function; the module gives it 512 MB",
    "aws.import_ratio": "cold start, compared with that of its packages alone",
    "fleet.500x200.round_h.aws": "a round over 500 payers with 100,000 accounts",
    "fleet.500x200.cold_ratio.aws": "the first round takes as long as its calls, and no longer",
    "fleet.dead5pct.p95_ratio.aws": "dead tenants do not delay the others",
    "fleet.actions_per_tenant.aws": "charged state transitions for a tenant and round",
    "fleet.coordinator_cost_usd_month.aws": "what Step Functions cost for hourly rounds",
    "fleet.peak_mb.aws": "memory of the function in a round",
    "azure.delivery.publish_p95_s": "a delivery is published after its manifest was written",
    "azure.new_10k.calls_per_scope": "calls to set up one more subscription",
    "azure.new_10k.makespan_ratio": "set-up takes as long as Microsoft's quota dictates, and no longer",
    "azure.new_10k.real_s": "wall time of the run, without the waiting for the quota",
    "azure.new_10k.peak_mb": "memory of the function",
    "azure.new_10k_lookfirst.calls_per_scope": "the same if exports have to be read before they are written",
    "azure.steady_10k.cost_calls": "share of the tenant's quota that a run uses",
    "azure.steady_10k.list_calls_beyond_floor": "listing of delivered files takes no more calls than pages",
    "azure.steady_10k_36m.list_calls": "years of delivered files do not make a run slower",
    "azure.steady_10k_36m.round_runs": "each folder is listed again within so many hourly runs",
    "azure.state_10k.mb": "size of the state",
    "azure.state_10k.load_save_s": "time to load and save it",
    "azure.adopt_10k.calls_per_scope": "calls to take over one export of the legacy scripts",
    "azure.heal.event_p95_s": "a damaged export works again, with events",
    "azure.heal.event_p50_s": "half of them after",
    "azure.onboard.new_scope_p95_s": "a new subscription is covered, with events",
    "azure.storm.10k_events.runs": "a storm of events does not become a storm of runs",
    "azure.storm.lost": "no event of a storm is lost",
    "azure.events.calls_per_day": "calls of a day to look for changes",
    "azure.events.share_of_schedule": "compared with those of the scheduled runs",
    "azure.import_ratio": "cold start, compared with that of its packages alone",
    "fleet.500x200.round_h.azure": "a round over 500 tenants with 100,000 subscriptions",
    "fleet.500x200.cold_ratio.azure": "the first round takes as long as the tenants' quotas dictate, and no longer",
    "fleet.dead5pct.p95_ratio.azure": "dead tenants do not delay the others",
    "fleet.actions_per_tenant.azure": "messages of the engine for a tenant and round",
    "fleet.coordinator_cost_usd_month.azure": "the task hub for hourly rounds, an estimate",
    "fleet.peak_mb.azure": "memory of an invocation of a round",
    **{
        f"azure.heal_{size}.{name}": meaning
        for size in ("100", "1k", "10k")
        for name, meaning in {
            "p95_hours": f"a deleted export of {size} subscriptions works again, without events",
            "naive_p95_hours": "the same if each run read every export",
        }.items()
    },
    "gcp.steady_36m.list_calls": "years of copies do not make a run slower",
    "gcp.heal.event_p95_s": "a damaged dataset or bucket works again",
    "gcp.onboard.new_scope_p95_s": "a new billing account is covered",
    "gcp.storm.10k_events.runs": "a storm of events does not become a storm of runs",
    "gcp.storm.lost": "no event of a storm is lost",
    "gcp.events.steady_calls": "what listening to events adds to a run",
    "gcp.steady_500.calls_beyond_pages": "calls of a run that finds nothing to do, beyond pages",
    "gcp.plan_copies_17500.cpu_s": "CPU to compare 17,500 partitions with their copies",
    "gcp.copy_1k.jobs_per_partition": "extract jobs for each copied partition, some of which fail",
    "gcp.delivery.publish_p95_s": "a delivery is published after its manifest was written",
    "gcp.peak_mb": "memory of the function; the module gives it 512 MB",
    "gcp.import_ratio": "cold start, compared with that of its packages alone",
    "load.azure_100k.peak_mb": "memory of any run over 100,000 subscriptions",
    "load.azure_100k.makespan_ratio": "hourly runs cover them as fast as the quota allows",
    "load.azure_100k.second_writes": "exports that a later run wrote again",
    "load.azure_100k.state_mb": "size of their state",
    "load.aws_20k.peak_mb": "memory of a run over 20,000 accounts; the module gives it 512 MB",
    "load.gcp_5k.peak_mb": "memory of a run over 5,000 billing accounts; the module gives it 512 MB",
    "fleet.500x200.round_h.gcp": "a round over 500 tenants with 100,000 billing accounts",
    "fleet.500x200.cold_ratio.gcp": "the first round takes as long as the queue's rate dictates, and no longer",
    "fleet.dead5pct.p95_ratio.gcp": "dead tenants do not delay the others",
    "fleet.actions_per_tenant.gcp": "billable operations of Cloud Tasks for a tenant and round",
    "fleet.coordinator_cost_usd_month.gcp": "Cloud Tasks and Cloud Scheduler for hourly rounds, without free tiers",
    "fleet.peak_mb.gcp": "memory of any invocation of a round",
    "fleet.500x200.round_h": "a round over 500 tenants with 100,000 scopes, on the slowest cloud",
    "fleet.500x200.cold_ratio": "the first round takes as long as the quotas dictate, and no longer",
    "fleet.dead5pct.p95_ratio": "dead tenants do not delay the others",
    "fleet.actions_per_tenant": "actions of the engine for a tenant and round",
    "fleet.coordinator_cost_usd_month": "the engine for hourly rounds over 500 tenants",
    "fleet.peak_mb": "memory of an invocation of a round",
    "status.10k_s": "CPU of `status` for 10,000 subscriptions",
    "state.months_10k_mb": "size of the ledger of deliveries",
    "state.months_10k_merge_s": "CPU to record a run's deliveries in it",
    "state.months_10k_memory_mb": "memory to do so",
    "page.10k_mb": "size of the status page of 10,000 subscriptions",
    "page.10k_filter_ms": "a search in it responds",
    "setup.demo_cold_s": "from `git clone` to the end of the demo, with empty caches",
    "setup.demo_warm_s": "the same with filled caches",
    "setup.packages_demo": "Python packages that the demo installs",
    "setup.mb_demo": "size of all that the demo installs",
}

HEAD = f"""# Performance

<!-- Made by tests/bench/performance.py; `make bench` measures again and updates it. -->

Every number on this page was measured by `make bench` against the local clouds, which answer over HTTP as the real ones
do, at the documented quotas. Calls, bytes and memory are absolute. Waiting is counted in virtual time. `make bench`
prints how each value is measured, one line of JSON each.

**CPU seconds are calibrated**: a fixed workload runs before and after what is measured, and the result is what the
measured code would take where that workload takes {REFERENCE_S:g} s. Neighbors on the machine slow down both alike, so
the values of a busy and an idle machine compare. The lines of JSON also have the CPU seconds as measured (`cpu_s`) and
those of the workload (`workload_s`).

A target is an upper limit. A value without one is shown for comparison. A plus sign after a commit means that there
were changes to it. Wall time (a search in the page, set-up) depends on what else the machine does.
"""


def origin() -> dict[str, Any]:
    """Return what a value depends on: the commit, Python's version, the number of cores, and the day."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return {
        "commit": described.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def record(suite: str, measures: Sequence[Measure]) -> None:
    """Keep the measurements of a whole suite, replacing its former ones, and write the page."""
    kept = _kept()
    kept[suite] = {**origin(), "measures": [msgspec.to_builtins(one) for one in measures]}
    if suite == "engine":
        counts = json.loads(cost.COUNTS.read_text(encoding="utf-8"))
        kept[suite]["dollars"] = {
            cloud: [round(_dollars(counts, cloud, scopes), 2) for scopes in BY_SIZE.values()] for cloud in cost.TITLES
        }
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(kept), encoding="utf-8")


def _kept() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}
    return found


def page(kept: Mapping[str, Any]) -> str:
    """Return docs/performance.md."""
    return "\n".join(_lines(kept)).rstrip("\n") + "\n"


def _lines(kept: Mapping[str, Any]) -> Iterator[str]:
    yield HEAD
    for suite, title in TITLES.items():
        if suite not in kept:
            continue
        ran = kept[suite]
        measures = [msgspec.convert(one, Measure) for one in ran["measures"]]
        yield f"## {title}\n"
        yield f"Commit `{ran['commit']}`, {ran['day']}, Python {ran['python']}, {ran['machine']}.\n"
        if suite == "peers":
            yield from peers.page(measures)
            continue
        yield from _table(one for one in measures if not one.measure.startswith("engine.run_"))
        if suite == "engine":
            yield from _by_size({one.measure: one.value for one in measures}, ran["dollars"])


def _table(measures: Iterable[Measure]) -> Iterator[str]:
    yield "| measure | value | target | met | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for one in measures:
        target = "" if one.at_most is None else f"≤ {_shown(one.at_most)} {one.unit}"
        met = "" if one.at_most is None else "yes" if one.met else "**no**"
        meaning = MEANINGS.get(one.measure, "")
        yield f"| `{one.measure}` | {_shown(one.value)} {one.unit} | {target} | {met} | {meaning} |"
    yield ""


def _by_size(values: Mapping[str, float], dollars: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield what a run costs by the number of scopes; `dollars` are those of a month by cloud and size."""
    yield "### Cost by size\n"
    yield "A run over so many scopes with two targets each, in a cloud in memory, when nothing has changed. Its"
    yield "budget is 1,000 reads, and the memory includes that cloud's own. Dollars are what a deployment costs a month"
    yield "([costs](cost.md)); sizes that were not counted there are extrapolated.\n"
    yield "| scopes | CPU | memory | state | report | calls | " + " | ".join(cost.TITLES.values()) + " |"
    yield "| --- " * (6 + len(cost.TITLES)) + "|"
    for place, (size, scopes) in enumerate(BY_SIZE.items()):
        cpu, peak, state, report, calls = (values[f"engine.run_{size}.{name}"] for name in RUN_FIGURES)
        prices = " | ".join(f"${dollars[cloud][place]:,.2f}" for cloud in cost.TITLES)
        yield (
            f"| {scopes:,} | {_shown(cpu)} s | {_shown(peak)} MB | {_shown(state)} MB | {_shown(report)} MB | "
            f"{calls:,.0f} | {prices} |"
        )
    yield "\nThe CPU for each 1,000 scopes would rise if anything grew faster than the number of scopes.\n"
    cpu_ms = [values[f"engine.run_{size}.cpu_s"] * 1e6 / scopes for size, scopes in BY_SIZE.items()]
    yield from _chart("CPU for each 1,000 scopes", "ms", cpu_ms)
    yield from _chart("Memory", "MB", [values[f"engine.run_{size}.peak_mb"] for size in BY_SIZE])


def _chart(title: str, unit: str, values: Sequence[float]) -> Iterator[str]:
    sizes = ", ".join(f'"{scopes:,}"' for scopes in BY_SIZE.values())
    yield "```mermaid\nxychart-beta"
    yield f'    title "{title}"'
    yield f'    x-axis "scopes" [{sizes}]'
    yield f'    y-axis "{unit}" 0 --> {max(values) * 1.1:.0f}'
    yield f"    bar [{', '.join(f'{one:.1f}' for one in values)}]"
    yield "```\n"


RUN_FIGURES = ("cpu_s", "peak_mb", "state_mb", "report_mb", "calls")


def _dollars(counts: Mapping[str, Any], cloud: str, scopes: int) -> float:
    """Return what a deployment costs a month by the counts and prices of docs/cost.md."""
    found = cost.at(counts, cloud, scopes)
    deployment = cost.deployment_of(found, modules.read(ROOT / "infra" / cloud))
    return sum(price_list.costs(cloud, cost.run_of(found), deployment, cost.RUNS).values())


def _shown(value: float) -> str:
    """Return a number with three significant digits, and a whole one in full."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def main(arguments: Sequence[str]) -> int:
    """Write or check the page, and return the exit code."""
    text = page(_kept())
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/performance.md does not match the measurements; run make bench to update it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
