"""What a deployment costs a month: a small table of list prices, and what runs take of each priced thing.

docs/cost.md and the status page are made from it. Nothing here is billed data: amounts are counted, prices are from
outside, and LOOKED_UP is their date.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.state.document import RunNote

KEPT_DAYS = 90  # for which reports are kept, by each module's lifecycle rule
MONTH_H = 730  # hours of 365 / 12 days
GB = 1e9


@dataclass(frozen=True)
class Price:
    """What one `unit`, which holds so `many` of what is counted, costs in US dollars, and where that is said.

    `seen`: the figure was found when prices were looked up; otherwise it is the list price as last known.
    """

    usd: float
    many: float
    unit: str
    source: str
    seen: bool = True

    @property
    def each(self) -> float:
        """Return the price of one of what is counted."""
        return self.usd / self.many

    @property
    def text(self) -> str:
        """Return the price as it is shown, such as ``$0.20 per million invocations``."""
        usd = f"{self.usd:.10f}".rstrip("0")
        return f"${usd}{'0' * (2 - len(usd.partition('.')[2]))} per {self.unit}"


# List prices without free tiers and discounts, in us-east-1, East US and the US multi-region.
LOOKED_UP = "2026-11-29"
GIB, TIB = 2.0**30, 2.0**40
QUERY = 10 * 2.0**20  # bytes that BigQuery charges for a query at the least
PRICES: dict[str, dict[str, Price]] = {
    "aws": {
        "compute": Price(0.0000166667, 1, "GB-second on x86", "AWS Lambda pricing"),
        "runs": Price(0.20, 1e6, "million invocations", "AWS Lambda pricing"),
        "log": Price(0.50, GB, "GB taken in", "Amazon CloudWatch pricing"),
        "metrics": Price(0.30, 1, "metric", "Amazon CloudWatch pricing"),
        "alarms": Price(0.10, 1, "alarm", "Amazon CloudWatch pricing", seen=False),
        "storage calls": Price(0.005, 1e3, "thousand PUT requests", "Amazon S3 pricing", seen=False),
        "stored": Price(0.023, GB, "GB in S3 Standard", "Amazon S3 pricing"),
    },
    "azure": {
        "compute": Price(0.000026, 1, "GB-second, on demand", "Azure Functions pricing, Flex Consumption"),
        "runs": Price(0.40, 1e6, "million executions", "Azure Functions pricing, Flex Consumption", seen=False),
        "log": Price(2.30, GB, "GB taken in", "Azure Monitor pricing"),
        "alarms": Price(0.50, 1, "log alert rule", "Azure Monitor pricing", seen=False),
        "storage calls": Price(0.05, 1e4, "ten thousand writes", "Azure Blob Storage pricing", seen=False),
        "stored": Price(0.0208, GB, "GB in the hot tier, LRS", "Azure Blob Storage pricing", seen=False),
    },
    "gcp": {
        "compute": Price(0.0000025, 1, "GiB-second", "Cloud Run pricing"),
        "cpu": Price(0.000024, 1, "vCPU-second", "Cloud Run pricing"),
        "runs": Price(0.40, 1e6, "million requests", "Cloud Run pricing"),
        "log": Price(0.50, GIB, "GiB stored", "Google Cloud Observability pricing"),
        "alarms": Price(1.50, 1, "condition", "Google Cloud Observability pricing, announced"),
        "storage calls": Price(0.01, 1e3, "thousand operations of class A", "Cloud Storage pricing"),
        "queries": Price(6.25, TIB / QUERY, "TiB, 10 MiB for each query of metadata", "BigQuery pricing", seen=False),
        "schedule": Price(0.10, 1, "job", "Cloud Scheduler pricing", seen=False),
        "stored": Price(0.026, GIB, "GiB in a multi-region", "Cloud Storage pricing"),
    },
}
STORAGE_CALLS = {"aws": ("s3",), "azure": ("storage",), "gcp": ("storage",)}


@dataclass(frozen=True)
class Deployment:
    """What a module makes by its defaults: the function's memory in GB, its alarms, and the metrics of a run."""

    memory_gb: float
    alarms: int
    metrics: int


@dataclass(frozen=True)
class Run:
    """What one run takes: `seconds`, calls by quota, and bytes of its log, its report and the state."""

    seconds: float
    calls: Mapping[str, float]
    log_bytes: float
    report_bytes: float
    state_bytes: float


DEPLOYMENTS = {"aws": Deployment(0.5, 9, 20), "azure": Deployment(2, 6, 0), "gcp": Deployment(0.5, 5, 0)}


def amounts(cloud: str, run: Run, deployment: Deployment, runs: float) -> dict[str, float]:
    """Return how much of each priced thing a month of so many runs takes."""
    every: dict[str, float] = {
        "compute": run.seconds * runs * deployment.memory_gb,
        "cpu": run.seconds * runs,
        "runs": runs,
        "log": run.log_bytes * runs,
        "metrics": deployment.metrics,
        "alarms": deployment.alarms,
        "storage calls": sum(run.calls.get(name, 0) for name in STORAGE_CALLS[cloud]) * runs,
        "queries": run.calls.get("bigquery-query", 0) * runs,
        "schedule": 1,
        "stored": run.state_bytes + run.report_bytes * KEPT_DAYS * runs * 12 / 365,
    }
    return {name: every[name] for name in PRICES[cloud]}


def costs(cloud: str, run: Run, deployment: Deployment, runs: float) -> dict[str, float]:
    """Return what each priced thing of a month costs in US dollars."""
    found = amounts(cloud, run, deployment, runs)
    return {name: found[name] * price.each for name, price in PRICES[cloud].items()}


def estimate(cloud: str, notes: Sequence[RunNote], state_bytes: int) -> dict[str, Any] | None:
    """Return a month's costs by the runs in the state's history; None for fewer than two runs with counts.

    Keys: `usd`, `items` [[thing, US dollars, price]], `runs` a month at their present rhythm, `counted` how many were
    averaged, `prices` the date of the prices. The module's defaults are assumed.
    """
    known = sorted((one for one in notes if one.calls), key=lambda one: one.at)
    if cloud not in PRICES or len(known) < 2:
        return None
    hours = (known[-1].at - known[0].at).total_seconds() / 3600
    if hours <= 0:
        return None
    runs = (len(known) - 1) / hours * MONTH_H
    quotas = {quota for one in known for quota in one.calls}
    average = Run(
        _mean([one.duration_s for one in known]),
        {quota: _mean([one.calls.get(quota, 0) for one in known]) for quota in sorted(quotas)},
        _mean([one.log_bytes for one in known]),
        _mean([one.report_bytes for one in known]),
        state_bytes,
    )
    found = costs(cloud, average, DEPLOYMENTS[cloud], runs)
    shown = [[name, round(usd, 2), PRICES[cloud][name].text] for name, usd in found.items()]
    return {
        "usd": round(sum(found.values()), 2),
        "items": shown,
        "runs": round(runs),
        "counted": len(known),
        "prices": LOOKED_UP,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
