"""Rounds over 500 tenants of 200 billing accounts each, in virtual time: real handler, local Cloud Tasks and IAM.

Tenants run at the same time on Google Cloud. Here each run gets a clock of its own that starts when the queue
dispatches it, and the queue's clock moves to the next end or dispatch: a discrete-event simulation in one thread. Every
call takes LATENCY_S. The accounts have not switched their exports on, so that no table has to exist: the calls of a run
are the same, but for their size.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from gcp_function.clients import RATES
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.platform.task_delivery import Dispatch, request_of
from localcloud.gcp.runtime.framework import FunctionsFramework
from shared.runtime.clock import VirtualClock
from tests.bench.azure_healing import quantile
from tests.bench.measure import ROOT, Measure
from tests.gcp_function.fleet import InProcess

TENANTS, SCOPES = 500, 200
DEAD = 20  # one of so many tenants is dead
LATENCY_S, TIMEOUT_S = 0.15, 10.0
PER_SECOND, PARALLEL = 1.0, 50  # the module's defaults
HOURS = 24 * 365 / 12
# Prices of Cloud Tasks and Cloud Scheduler without their free tiers, read on 2026-11-30: USD for a million operations
# (https://cloud.google.com/tasks/pricing) and for a job a month (https://cloud.google.com/scheduler/pricing).
PER_MILLION, PER_JOB = 0.40, 0.10
FUNCTION = "gcp_function.handler:reconcile"


class LaneClock(VirtualClock):
    """A virtual clock that the simulation sets to the time of the lane that runs."""

    def set_to(self, moment: float) -> None:
        """Show a moment, which may be earlier than the present one."""
        with self._lock:
            self._elapsed = moment


class Simulation:
    """A deployment with its queue; `ends` are the seconds from a round's begin to the end of each tenant's last run."""

    def __init__(self, cloud: LocalGcp, clock: LaneClock) -> None:
        self.cloud, self.clock = cloud, clock
        self.ends: dict[str, float] = {}
        self.longest = 0.0
        self.operations = 0

    def round(self, dead: Collection[str] = ()) -> dict[str, Any]:
        """Run one round to its end, and return its report.

        Raises RuntimeError unless all tenants ran and all but the `dead` ones are ok or degraded.
        """
        self.ends, self.longest = {}, 0.0
        began, created = self.clock.monotonic(), self._created()
        dispatched = self.cloud.world.tasks.dispatched
        round_id = self._begin()
        self._drain(began)
        name = f"runs/rounds/{round_id}.json"
        report: dict[str, Any] = json.loads(self.cloud.read_object(name, self.cloud.deployment.state_bucket))
        created = self._created() - created
        self.operations = created + self.cloud.world.tasks.dispatched - dispatched
        failed = {row["tenant"] for row in report["rows"] if row["status"] not in ("ok", "degraded")}
        if report["tenants"]["not_run"] or failed - set(dead):
            raise RuntimeError(f"the round failed: {json.dumps(report['tenants'])}")
        return report

    def _created(self) -> int:
        return self.cloud.calls.count("cloudtasks.projects.locations.queues.tasks.create")

    def _begin(self) -> str:
        names = self.cloud.deployment
        uri = self.cloud.world.function_uri
        headers = {
            "x-cloudscheduler": "true",
            "x-cloudscheduler-scheduletime": f"{self.clock.now():%Y-%m-%dT%H:%M:%SZ}",
        }
        body = b'{"round": {"step": "begin"}}'
        asked = Dispatch("begin", uri, names.tenants_caller, uri, headers, body, timedelta(minutes=30))
        if self.cloud.task_delivery.send(asked).status != 200:
            raise RuntimeError("the round could not begin")
        (queue,) = self.cloud.world.tasks.queues.values()
        return next(name.partition("/tasks/")[2][9:34] for name in queue.tasks)

    def _drain(self, began: float) -> None:
        """Dispatch what is due, then move to the next end of a run or the next dispatch, until no task is left."""
        tasks, running = self.cloud.world.tasks, list[tuple[float, int, Any, int | None, float]]()
        (queue,) = tasks.queues.values()
        # The queue dispatches the first tasks while the begin of the round enqueues the later ones.
        count, now = itertools.count(), began
        while queue.tasks:
            self.clock.set_to(now)
            for task in list(tasks.take()):
                self.clock.set_to(now)
                response = self.cloud.task_delivery.send(request_of(task))
                end = self.clock.monotonic()
                payload = json.loads(request_of(task).body)
                if "tenant" in payload:
                    self.ends[payload["tenant"]] = end - began
                    self.longest = max(self.longest, end - now)
                heapq.heappush(running, (end, next(count), task, response.status, response.retry_after))
            self.clock.set_to(now)
            moments = [running[0][0]] if running else []
            due = tasks.next_due()
            if due is not None and queue.running < queue.limits["maxConcurrentDispatches"]:
                ready = max(now, now + (due - self.clock.now()).total_seconds())
                moments.append(max(ready, now + (1 - min(1.0, queue.tokens)) / queue.rate + 1e-6))
            now = max(now, min(moments))
            while running and running[0][0] <= now:
                self.clock.set_to(now)
                _, _, task, status, retry_after = heapq.heappop(running)
                tasks.finish(task, status, retry_after)
        self.clock.set_to(max(now, self.clock.monotonic()))


@contextmanager
def opened(tenants: int, scopes: int) -> Iterator[Simulation]:
    """Yield a deployment with so many tenants of so many billing accounts each."""
    clock, runtime = LaneClock(), InProcess()
    with LocalGcp(0, clock=clock, done=0, runtime=runtime) as cloud:
        runtime.cloud = cloud
        names = (f"tenant-{number:03d}" for number in range(tenants))
        entries = [cloud.add_tenant(name, accounts=scopes, kinds=()) for name in names]
        cloud.enable_tenants(rate=PER_SECOND, parallel=PARALLEL)
        for entry in entries:
            entry["settings"] = {"EXPORTS": "standard", "COPY": "off"}
        cloud.write_registry(entries)
        cloud.faults.latency_all(LATENCY_S)
        yield Simulation(cloud, clock)


def measures(tenants: int = TENANTS, scopes: int = SCOPES) -> Iterator[Measure]:
    """Yield the measurements of rounds on GCP."""
    how = (
        f"{tenants} tenants of {scopes} billing accounts, whose exports a person has yet to switch on, virtual time, "
        f"real handler, local Cloud Tasks and IAM, {PER_SECOND:g} tenant begun a second, {PARALLEL} at once, "
        f"{LATENCY_S} s a call"
    )
    with opened(tenants, scopes) as simulation:
        cloud = simulation.cloud
        floor = tenants / PER_SECOND
        simulation.round()
        cold, longest = max(simulation.ends.values()), simulation.longest
        cloud.advance(3600)
        cloud.clear_calls()
        report = simulation.round()
        steady, operations = dict(simulation.ends), simulation.operations
        quotas = sum(
            max(number / RATES[name].per_second for name, number in row["calls"].items()) for row in report["rows"]
        )
        cloud.advance(3600)
        dead = [f"tenant-{number:03d}" for number in range(0, tenants, DEAD)]
        for place, one in enumerate(dead):
            if place % 2:
                cloud.faults.before(
                    "iamcredentials.*", lambda: _time_out(cloud), times=None, path=f"*@{one}-exports.iam*"
                )
            else:
                cloud.faults.add("bigquery.*", 429, "rateLimitExceeded", times=None, path=f"*/{one}-exports/*")
        simulation.round(dead)
        slowed = {name: end for name, end in simulation.ends.items() if name not in dead}
    yield Measure(
        "fleet.500x200.round_h.gcp",
        report["duration_s"] / 3600,
        "h",
        1,
        f"from the begin of a steady round to its report; the last tenant was done after {max(steady.values()):.0f} s, "
        f"and the quotas of all tenants would take {quotas:.0f} s one after another; {how}",
    )
    yield Measure(
        "fleet.500x200.cold_ratio.gcp",
        cold / floor,
        "ratio",
        1.1,
        f"end of the last run of a first round, without state, over {floor:.0f} s, which the queue's rate takes; the "
        f"longest run took {longest:.0f} s; {how}",
    )
    yield Measure(
        "fleet.dead5pct.p95_ratio.gcp",
        quantile(sorted(slowed.values()), 0.95)
        / quantile(sorted(end for name, end in steady.items() if name not in dead), 0.95),
        "ratio",
        1.05,
        f"95th percentile of the time from a round's begin to a tenant's end, of the others, with {len(dead)} dead "
        f"tenants over the same without them; to enter one half of these hangs until it times out, and BigQuery "
        f"answers 429 to each call of the other half; {how}",
    )
    yield Measure(
        "fleet.actions_per_tenant.gcp",
        operations / tenants,
        "operations",
        3,
        f"billable operations of Cloud Tasks in a steady round: {operations} for {tenants} tenants, the looks for its "
        f"end included; {how}",
    )
    yield Measure(
        "fleet.coordinator_cost_usd_month.gcp",
        operations * HOURS / 1e6 * PER_MILLION + PER_JOB,
        "USD",
        None,
        f"{tenants} tenants hourly: {operations} operations a round at {PER_MILLION} USD a million and one schedule at "
        f"{PER_JOB} USD, prices read on 2026-11-30 without the free tiers, which cover all of it",
    )
    yield from memory(tenants, scopes)


def _time_out(cloud: LocalGcp) -> None:
    cloud.clock.wait_until(cloud.clock.monotonic() + TIMEOUT_S)
    raise GoogleError(503, "backendError", "no answer in time")


def memory(tenants: int, scopes: int) -> Iterator[Measure]:
    """Yield the peak memory of the function's process over a begin, one tenant, and the end of a round."""
    with LocalGcp(0, done=0) as cloud:
        entries = [cloud.add_tenant(f"tenant-{number:03d}", accounts=0, kinds=()) for number in range(tenants - 1)]
        entries.append(cloud.add_tenant("large", accounts=scopes, kinds=("standard",), history_days=1, rows=1))
        settings = cloud.enable_tenants()
        cloud.world.tasks.queue(cloud.deployment.tenants_queue).state = "PAUSED"
        cloud.write_registry(entries)
        environment = {**cloud.function_environment(), **settings, "EXPORTS": "standard", "COPY": "off"}
        with FunctionsFramework(FUNCTION, environment, source=ROOT, timeout_s=900) as function:
            begun = function.invoke({"round": {"step": "begin"}})
            round_id = begun.payload["round"] if isinstance(begun.payload, dict) else ""
            run = function.invoke({"tenant": "large", "round": round_id})
            ended = function.invoke({"round": {"step": "end", "id": round_id}})
    statuses = [one.status for one in (begun, run, ended)]
    if statuses != [200, 200, 200]:
        raise RuntimeError(f"the function answered {statuses}: {run.body[:500]!r}")
    yield Measure(
        "fleet.peak_mb.gcp",
        max(one.peak_mb or float("inf") for one in (begun, run, ended)),
        "MB",
        256,
        f"peak resident memory of one process of the function over the begin of a round of {tenants} tenants, the run "
        f"of one with {scopes} billing accounts, and a look for the round's end; over HTTP",
    )
