"""Rounds over 500 Entra tenants of 200 subscriptions each, with Durable Functions, in virtual time.

Three of the tenants exist in a local Azure: the real activities run for them, in virtual time at the documented
quota. Tenants share no quota, so the round of all 500 then runs on the local task hub, with the real orchestrations and
the SDK of Durable Functions, and each call takes the time that one of the three took.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from azure_function import rounds
from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.common.child_process import peak_mb_of
from localcloud.common.remote_clock import RemoteClock
from shared.runtime.clock import VirtualClock
from tests.azure_function.coordinator.engines import Tenants, VirtualHost
from tests.bench.azure_healing import quantile
from tests.bench.measure import ROOT, Measure, fresh_process
from tests.limits import HANG_S

TENANTS, SUBSCRIPTIONS, SAMPLE, AT_ONCE = 500, 200, 3, 20
DEAD_PERCENT = 5
QUOTA_PER_S = 200 / 60
START_S = 2.0  # of an activity's invocation: dispatch by the host, and the queue that it polls
COST = "Microsoft.CostManagement/*"
HOURS_A_MONTH = 730
# Prices of docs/cost.md, looked up 2026-11-29: executions, and blob writes in place of queue and table operations,
# whose prices were not found. An action is put, read and deleted as a message, and recorded in the history.
USD_PER_EXECUTION, USD_PER_OPERATION, OPERATIONS = 0.40 / 1e6, 0.05 / 1e4, 6


def sample() -> dict[str, Any]:
    """Return the seconds of a first and a steady run of each existing tenant, of its calls, and of a dead tenant."""
    found: dict[str, Any] = {"cold": [], "steady": [], "floor": []}
    clock = VirtualClock()
    with LocalAzure(subscriptions=1, clock=clock, customers=SAMPLE + 1, customer_subscriptions=SUBSCRIPTIONS) as cloud:
        cloud.put_registry(json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode())
        environment = cloud.environment()
        os.environ.update({name: environment[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")})
        *living, dead = cloud.customers

        def run(name: str, round_id: str) -> tuple[float, dict[str, Any]]:
            began = clock.monotonic()
            row = rounds.run_tenant(name, round_id, environment, lambda *_: None, clock, 3000, seed=1)
            return clock.monotonic() - began, row

        for kind, hour in (("cold", 9), ("settled", 10), ("steady", 11)):
            for customer in living:
                customer.world.calls.clear()
                seconds, row = run(customer.name, f"20261102T{hour:02d}0000Z-0000002a")
                if row["status"] != "ok" or row["again"] or row["scopes"]["covered"] != SUBSCRIPTIONS:
                    raise RuntimeError(f"the run failed: {row}")
                found.setdefault(kind, []).append(seconds)
                if kind == "cold":
                    found["floor"].append(customer.world.calls.count(COST) / QUOTA_PER_S)
            cloud.advance(86_400 - 7_200 if kind == "cold" else 3_600)
            for customer in living:
                customer.actions.deliver()
        cloud.refuse_tokens(dead.name, 90002)
        found["dead"], row = run(dead.name, "20261102T120000Z-0000002a")
        if row["status"] != "unreachable":
            raise RuntimeError(f"the dead tenant is {row['status']}")
        drop_clients()
    return found


def whole_round(call_s: Callable[[int], float]) -> tuple[VirtualHost, float, dict[int, float]]:
    """Run a round of all tenants; return its host, its seconds, and when each tenant was done."""
    ends: dict[int, float] = {}
    tenants = Tenants([f"tenant-{number:03d}" for number in range(TENANTS)], parallel=AT_ONCE, round_s=86_400.0)

    def seconds(tenant: str) -> float:
        number = int(tenant[-3:])
        taken = START_S + call_s(number)
        ends[number] = (host.now - began).total_seconds() + taken
        return taken

    host = VirtualHost(tenants, seconds)
    began = host.now
    host.start()
    host.run()
    if len(ends) != TENANTS:
        raise RuntimeError(f"the round served {len(ends)} of {TENANTS} tenants")
    return host, max(ends.values()), ends


def figures() -> dict[str, float]:
    """Return the figures of the rounds."""
    known = sample()

    def of(kind: str) -> Callable[[int], float]:
        return lambda number: float(known[kind][number % SAMPLE])

    host, steady_s, ends = whole_round(of("steady"))
    _, cold_s, _ = whole_round(of("cold"))
    floor_s = sum(known["floor"][number % SAMPLE] for number in range(TENANTS)) / AT_ONCE
    dead = random.Random(1).sample(range(TENANTS), TENANTS * DEAD_PERCENT // 100)
    # Every second one is refused at once; the others never answer, and use up their part of the round.
    hanging = dead[::2]
    part_s = 3000 * AT_ONCE / TENANTS
    taken = dict.fromkeys(dead, known["dead"]) | dict.fromkeys(hanging, part_s)
    _, _, beside = whole_round(lambda number: taken[number] if number in taken else of("steady")(number))
    others = [number for number in range(TENANTS) if number not in dead]
    p95, p95_beside = (quantile([one[number] for number in others], 0.95) for one in (ends, beside))
    return {
        "steady_s": steady_s,
        "cold_s": cold_s,
        "floor_s": floor_s,
        "run_s": max(known["steady"]),
        "cold_run_s": max(known["cold"]),
        "dead": len(dead),
        "p95_ratio": p95_beside / p95,
        "actions": host.hub.actions / TENANTS,
    }


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
    run = fresh_process("tests.bench.azure_fleet", limit_s=3600)
    setting = (
        f"{TENANTS} tenants of {SUBSCRIPTIONS} subscriptions each, {AT_ONCE} at once, virtual time; the real function "
        f"ran for {SAMPLE} of them in a local Azure, the others take the same times; real orchestrations on the local "
        f"task hub; an invocation takes {START_S:g} s to start, modeled"
    )
    yield Measure("fleet.500x200.round_h.azure", run["steady_s"] / 3600, "h", 1, f"a steady round; {setting}")
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
        f"relative to none; {setting}",
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
    found = child(sys.argv[2]) if sys.argv[1:2] == ["child"] else figures()
    stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
