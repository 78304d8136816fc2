"""Rounds over 500 Entra tenants of 200 subscriptions each, with Durable Functions, in virtual time.

All tenants exist in a local Azure, and the real orchestrations, activities and handler serve them on the local task
hub: what a Functions host does at the same time is done one after the other, each activity at the virtual time at which
it begins. The first round runs all 500 tenants. The steady one runs every twenty-fifth, and those after it take its
time: tenants share no quota, and the storage emulator does not bear the delivered data of more of them. With the blobs
of 100,000 exports its answers time out, and with those of one tenant after another, removed after its run, its garbage
collection stops it for minutes. In the third round only the dead tenants run again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import azure.functions as func

from azure_function import rounds
from azure_function.clients import READ_S, drop_clients
from azure_function.coordinator.activities import Activities
from azure_function.coordinator.functions import coordinator
from azure_function.coordinator.orchestrations import INSTANCE, ROUND
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.durable_loop import DurableLoop, LaneClock
from localcloud.common.child_process import peak_mb_of
from localcloud.common.remote_clock import RemoteClock
from shared.runtime.clock import VirtualClock
from tests.bench.azure_healing import quantile
from tests.bench.measure import ROOT, Measure, fresh_process
from tests.limits import HANG_S

TENANTS, SUBSCRIPTIONS, AT_ONCE = 500, 200, 20
EVERY = 25  # so many-th tenant runs in the steady round
DEAD_PERCENT = 5
QUOTA_PER_S = 200 / 60
START_S = 2.0  # of an activity's invocation: dispatch by the host, and the queue that it polls
COST = "Microsoft.CostManagement/*"
HOURS_A_MONTH = 730
# Prices of docs/cost.md, looked up 2026-11-29: executions, and blob writes in place of queue and table operations,
# whose prices were not found. An action is put, read and deleted as a message, and recorded in the history.
USD_PER_EXECUTION, USD_PER_OPERATION, OPERATIONS = 0.40 / 1e6, 0.05 / 1e4, 6


class Fleet:
    """A deployment with its tenants; after a round, `ends` has the seconds until each tenant was done.

    `took` are the seconds of each tenant's last call, `calls` the calls of Cost Management of each one that ran.
    """

    def __init__(self, cloud: LocalAzure, clock: LaneClock, **settings: str) -> None:
        self.cloud, self.clock = cloud, clock
        self.customers = {one.name: one for one in cloud.customers}
        cloud.put_registry(json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode())
        environment = {**cloud.environment(), **settings}
        os.environ.update({name: environment[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")})
        self._steps = Activities(environment, lambda *_: None, lambda: clock)
        app = func.FunctionApp()
        replaced = {"begin": self._steps.begin, "run": self._run, "end": self._steps.end}
        app.register_functions(coordinator(SimpleNamespace(**replaced, sink=self._steps.sink, clock=self._steps.clock)))
        self._functions = DurableLoop(app, clock)
        self._known: Mapping[str, float] = {}
        self._every, self._delivers, self._began = 1, False, 0.0
        self.ends: dict[str, float] = {}
        self.took: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.statuses: dict[str, str] = {}

    def round(self, known: Mapping[str, float] | None = None, every: int = 1, *, delivers: bool = False) -> float:
        """Run a round, and return how many engine actions it took.

        Tenants in `known` only take so long; of the others, `every` so many one runs, and those after it take its time.
        With `delivers`, the exports of a tenant have delivered when it runs.
        """
        self._known, self._began, before = known or {}, self.clock.monotonic(), self._functions.hub.actions
        self._every, self._delivers = every, delivers
        self.ends, self.took, self.calls, self.statuses = {}, {}, {}, {}
        ended = self._functions.run(ROUND, INSTANCE)
        if ended["runtimeStatus"] != "Completed" or len(self.ends) != len(self.customers):
            raise RuntimeError(f"the round served {len(self.ends)} tenants: {ended}")
        return float(self._functions.hub.actions - before)

    def _run(self, given: Mapping[str, Any]) -> dict[str, Any]:
        began, name = self.clock.monotonic(), given["tenant"]
        known = self._known.get(name)
        if known is None and len(self.ends) % self._every:
            known = next(reversed(self.took.values()))
        if known is not None:
            self.clock.advance(known)
            answer: dict[str, Any] = {"status": "ok", "again": False}
        else:
            self.clock.advance(START_S)
            answer = self._real(given)
        now = self.clock.monotonic()
        self.statuses[name] = answer["status"]
        self.took[name] = now - began
        # A later call for the same tenant is made when its lane has served all others.
        self.ends.setdefault(name, now - self._began)
        return answer

    def _real(self, given: Mapping[str, Any]) -> dict[str, Any]:
        name = given["tenant"]
        customer = self.customers[name]
        if self._delivers:
            customer.actions.deliver()
        customer.world.calls.clear()
        answer = self._steps.run(given)
        self.calls[name] = self.calls.get(name, 0) + customer.world.calls.count(COST)
        if self._delivers:
            blobs, account, container = customer.world.blobs, customer.account.name, customer.destination()["container"]
            blobs.delete_container(account, container)
            blobs.make_container(account, container)
        return answer

    def require_ok(self) -> None:
        """Raise RuntimeError unless every tenant is ok."""
        wrong = {name: status for name, status in self.statuses.items() if status != "ok"}
        if wrong:
            raise RuntimeError(f"the round failed for {len(wrong)} tenants: {dict(list(wrong.items())[:3])}")

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.cloud.advance(seconds)
        self.cloud.sync()
        drop_clients()  # with their tokens: the SDK caches them by the machine's clock


def figures(tenants: int, subscriptions: int) -> dict[str, float]:
    """Run a first round, a steady one, and one with dead tenants; return the measured values."""
    clock = LaneClock()
    with LocalAzure(
        subscriptions=1, clock=clock, customers=tenants, customer_subscriptions=subscriptions, fleet=True
    ) as cloud:
        fleet = Fleet(cloud, clock)
        fleet.round()
        fleet.require_ok()
        found = {
            "cold_s": max(fleet.ends.values()),
            "floor_s": sum(fleet.calls.values()) / QUOTA_PER_S / AT_ONCE,
            "cold_run_s": max(fleet.took.values()),
        }
        fleet.pass_time(86_400 - 7_200)
        actions = fleet.round(every=EVERY, delivers=True)
        fleet.require_ok()
        healthy, took = fleet.ends, fleet.took
        found |= {
            "steady_s": max(healthy.values()),
            "run_s": max(took.values()),
            "actions": actions / tenants,
            "ran": float(len(fleet.calls)),
        }
        dead = random.Random(1).sample(sorted(fleet.customers), tenants * DEAD_PERCENT // 100)
        for number, name in enumerate(dead):
            # Every second one is refused at once; the others do not answer, and use up their part of the round.
            if number % 2:
                cloud.refuse_tokens(name, 90002)
            else:
                fleet.customers[name].actions.latency(READ_S)  # after which the function gives up a call
                fleet.customers[name].actions.fault("*", "GatewayTimeout", "no answer", status=504, times=None)
        fleet.pass_time(3600)
        fleet.round({name: seconds for name, seconds in took.items() if name not in dead})
        wrong = {name: status for name, status in fleet.statuses.items() if (name in dead) == (status == "ok")}
        if wrong:
            raise RuntimeError(f"the dead tenants are not dead: {wrong}")
        p95, beside = (
            quantile(sorted(ends[name] for name in ends if name not in dead), 0.95) for ends in (healthy, fleet.ends)
        )
        drop_clients()
    return {**found, "dead": float(len(dead)), "p95_ratio": beside / p95}


def peak() -> float:
    """Return the peak memory in MB of a process that begins a round of all tenants, runs one, and ends the round."""
    with LocalAzure(subscriptions=1, clock=VirtualClock(), customers=1, customer_subscriptions=SUBSCRIPTIONS) as cloud:
        (entry,) = cloud.tenant_entries()
        more = [
            {
                **entry,
                "id": f"tenant-{number:03d}",
                "entry": {**entry["entry"], "tenant_id": f"{number:08x}-0000-4000-8000-000000000000"},
                "destination": {
                    "storage_account": f"/subscriptions/{number:08x}-0000-4000-8000-000000000001/resourceGroups/g"
                    f"/providers/Microsoft.Storage/storageAccounts/exports{number:03d}"
                },
            }
            for number in range(1, TENANTS)
        ]
        cloud.put_registry(json.dumps({"version": 1, "tenants": [entry, *more]}).encode())
        environment = {**os.environ, **cloud.environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.bench.azure_fleet", "child", entry["id"]]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=HANG_S, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if (found["begun"], found["total"], found["status"]) != (TENANTS, TENANTS, "ok"):
        raise RuntimeError(f"the round did not serve everyone: {found}")
    return float(found["peak_mb"])


def child(tenant: str) -> dict[str, Any]:
    """Begin a round, run one tenant and end the round in this process."""
    import azure_function.coordinator.functions  # noqa: F401 - as in the deployed app

    clock = RemoteClock(os.environ["ARM_ENDPOINT"])
    sink = lambda *_: None  # noqa: E731 - a name reads better
    begun = rounds.begin(os.environ, sink, clock)
    row = rounds.run_tenant(tenant, begun["round"], os.environ, sink, clock, 3000, seed=1)
    report = rounds.end(begun["round"], os.environ, sink, clock)
    return {
        "begun": len(begun["tenants"]),
        "total": report["tenants"]["total"],
        "status": row["status"],
        "peak_mb": peak_mb_of(os.getpid()),
    }


def measures() -> Iterator[Measure]:
    """Yield the measurements of a fleet on Azure."""
    run = fresh_process("tests.bench.azure_fleet", str(TENANTS), str(SUBSCRIPTIONS), limit_s=7200)
    setting = (
        f"{TENANTS} tenants of {SUBSCRIPTIONS} subscriptions each, {AT_ONCE} at once, virtual time, real handler in a "
        f"local Azure, real orchestrations on the local task hub; an invocation takes {START_S:g} s to start, modeled"
    )
    yield Measure(
        "fleet.500x200.round_h.azure",
        run["steady_s"] / 3600,
        "h",
        1,
        f"a steady round; {run['ran']:.0f} tenants run, the others take the same times; {setting}",
    )
    yield Measure(
        "fleet.500x200.cold_ratio.azure",
        run["cold_s"] / run["floor_s"],
        "ratio",
        1.1,
        f"the first round, which creates every export, relative to the {run['floor_s']:.0f} s that its calls take at "
        f"the tenants' quotas, all lanes busy; {setting}",
    )
    yield Measure(
        "fleet.dead5pct.p95_ratio.azure",
        run["p95_ratio"],
        "ratio",
        1.05,
        f"p95 of the other tenants' end in a round with {run['dead']:.0f} dead ones, half of which never answer, "
        f"relative to none; the others take the time that they took in the steady round; {setting}",
    )
    yield Measure(
        "fleet.actions_per_tenant.azure",
        run["actions"],
        "actions",
        3,
        "as the Durable Task Scheduler counts: each message that makes a function run, the round's own included",
    )
    actions = HOURS_A_MONTH * TENANTS * run["actions"]
    yield Measure(
        "fleet.coordinator_cost_usd_month.azure",
        actions * (USD_PER_EXECUTION + OPERATIONS * USD_PER_OPERATION),
        "USD",
        None,
        f"{TENANTS} tenants each hour: {actions:,.0f} actions, each one execution ($0.40 per million) and {OPERATIONS} "
        "operations of the task hub, an estimate, at the price of blob writes ($0.05 per ten thousand), because that "
        "of queues and tables was not found; prices looked up 2026-11-29; without the function's own cost",
    )
    yield Measure(
        "fleet.peak_mb.azure",
        peak(),
        "MB",
        256,
        f"peak resident memory of a process that begins a round of {TENANTS} tenants, runs one of {SUBSCRIPTIONS} "
        "subscriptions, and ends the round",
    )


def main() -> None:
    """Print the figures as one line of JSON."""
    sys.stdout, stdout = sys.stderr, sys.stdout  # keep the function's log lines out of the output
    found = child(sys.argv[2]) if sys.argv[1] == "child" else figures(int(sys.argv[1]), int(sys.argv[2]))
    stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
