"""Rounds over 500 tenants on AWS: the real handler, the local Step Functions, and virtual time."""

from __future__ import annotations

import heapq
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aws_lambda.settings import read_settings
from localcloud.aws.calls import CallLog
from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import Invocation
from localcloud.aws.services.states_language import DATA_BYTES
from shared.runtime.clock import VirtualClock
from tests.aws_lambda.rounds import Rounds
from tests.aws_lambda.tenants import Provider
from tests.bench.measure import ROOT, Measure, fresh_process
from tests.limits import HANG_S

TENANTS, ACCOUNTS, AT_ONCE = 500, 200, 40
DEAD_PERCENT = 5
# Looked up on 2026-11-30: "AWS Step Functions Pricing", US East (N. Virginia), without the free 4,000 a month.
USD_PER_TRANSITION = 0.025 / 1000
HOURS_A_MONTH = 730
# Seconds of a call, and of the start of an invocation; both are modeled.
CALL_S, START_S = 0.2, 2.0


class SlotClock(VirtualClock):
    """A virtual clock for work in parallel: each job begins at the time at which its slot is free."""

    def begin_at(self, moment: float) -> None:
        """Set the time; only the local cloud's own state of other tenants would see it go back."""
        with self._lock:
            self._elapsed = moment


class Slots:
    """Runs the child workflows of a Map Run one after the other, in the virtual time of `at_once` parallel ones.

    `finished` are the seconds from the start of the Map Run to the end of each job, and `floors` the seconds that each
    job takes if it never waits: the start of its invocation, and its calls one after the other.
    """

    def __init__(self, clock: SlotClock, calls: CallLog) -> None:
        self._clock = clock
        self._calls = calls
        self.finished: list[float] = []
        self.floors: list[float] = []

    def __call__(self, jobs: Sequence[Callable[[], None]], at_once: int) -> None:
        begin = self._clock.monotonic()
        free = [begin] * at_once
        for job in jobs:
            self._clock.begin_at(heapq.heappop(free))
            made = len(self._calls.select())
            job()
            end = self._clock.monotonic()
            heapq.heappush(free, end)
            self.finished.append(end - begin)
            self.floors.append(START_S + CALL_S * (len(self._calls.select()) - made))
        self._clock.begin_at(max(free))


class Paced(Rounds):
    """Rounds whose calls and invocations take time.

    One clock would count the calls of threads one after the other, so the calls of a round's two steps take none
    themselves: `steps_s` are the seconds of each step. A step waits for its quotas meanwhile, not in addition.
    """

    steps_s: Mapping[str, float]

    def _invoke(self, event: Any, request_id: str) -> Invocation:
        began, tenant = self.cloud.clock.monotonic(), "tenant" in event
        self.cloud.latency(seconds=CALL_S if tenant else 0)
        self.cloud.clock.wait_until(began + START_S)
        done = super()._invoke(event, request_id)
        if not tenant:
            self.cloud.clock.wait_until(began + self.steps_s[event["round"]["step"]])
        return done


class Fleet:
    """A deployment with tenants of `accounts` each, on the clock of the slots."""

    def __init__(self, tenants: int, accounts: int, patch: pytest.MonkeyPatch) -> None:
        self.clock = SlotClock(datetime(2026, 3, 15, 12, tzinfo=UTC))
        self.cloud = LocalAws(accounts=1, clock=self.clock, fleet=True)
        self.cloud.__enter__()
        self.rounds = Paced(self.cloud, patch, AT_ONCE)
        self.rounds.limit_s = 3600
        self.names = [f"tenant-{number:04d}" for number in range(tenants)]
        entries, self.rounds.entries = [], []
        for name in self.names:
            # The registry is written once, not with each payer.
            self.rounds.entries = []
            self.rounds.add(name, shared=True, accounts=accounts)
            entries += self.rounds.entries
        self.rounds.entries = entries
        self.rounds.write()
        workers = read_settings(self.cloud.environment()).engine.workers
        # The last step reads all rows, several at once.
        self.rounds.steps_s = {"begin": START_S, "end": START_S + CALL_S * math.ceil(tenants / workers)}

    def close(self) -> None:
        self.cloud.clear_faults()
        self.cloud.__exit__(None, None, None)

    def round(self) -> tuple[dict[str, Any], Slots, float]:
        """Run a round; return its execution, the slots and its seconds."""
        self.cloud.world.state_machines.parallel = slots = Slots(self.clock, self.cloud.calls)
        began = self.clock.monotonic()
        done = self.rounds.round()
        if done["status"] != "SUCCEEDED":
            raise RuntimeError(f"the round ended as {done}")
        return done, slots, self.clock.monotonic() - began

    def actions(self, done: dict[str, Any]) -> tuple[float, int]:
        """Return the state transitions for each tenant, and those of the round itself."""
        execution = self.cloud.world.state_machines.executions[done["executionArn"]]
        children = [child for run in execution.map_runs.values() for child in run.children]
        return sum(child.transitions for child in children) / len(children), execution.transitions

    def floor_s(self, slots: Slots) -> float:
        """Return the shortest time of a round: its two steps, and the tenants' calls with all slots busy."""
        return sum(self.rounds.steps_s.values()) + max(sum(slots.floors) / AT_ONCE, *slots.floors)


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 % do not exceed."""
    return statistics.quantiles(values, n=20)[18]


def figures(tenants: int, accounts: int) -> dict[str, float]:
    """Run a cold round, a steady one, and one with dead tenants; return the measured values."""
    found: dict[str, float] = {}
    with pytest.MonkeyPatch.context() as patch:
        fleet = Fleet(tenants, accounts, patch)
        try:
            _, slots, cold = fleet.round()
            found["cold_s"], found["floor_s"] = cold, fleet.floor_s(slots)
            fleet.clock.advance(3600)
            fleet.cloud.clear_calls()
            done, healthy, found["round_s"] = fleet.round()
            found["ok"] = float(set(fleet.rounds.statuses(done).values()) == {"ok"})
            found["actions"], found["own"] = fleet.actions(done)
            found["output_share"] = len(done["output"]) / DATA_BYTES
            dead = fleet.names[:: 100 // DEAD_PERCENT]
            for name in dead:
                payer = next(one for one in fleet.rounds.entries if one["id"] == name)["entry"]["role_arn"].split(":")[
                    4
                ]
                fleet.cloud.delete_stack(account=payer)
            fleet.clock.advance(3600)
            done, sick, _ = fleet.round()
            statuses = fleet.rounds.statuses(done)
            found["dead"] = sum(status == "unreachable" for status in statuses.values())
            order = [event["tenant"] for event in fleet.rounds.events if "tenant" in event][-tenants:]
            others = [at for name, at in zip(order, sick.finished, strict=True) if name not in dead]
            found["p95_ratio"] = p95(others) / p95(healthy.finished)
        finally:
            fleet.close()
    return found


def peak_mb() -> float:
    """Return the peak memory of a process that begins a round, runs a tenant, and ends the round."""
    with LocalAws(accounts=1, fleet=True) as cloud:
        provider = Provider(cloud)
        provider.add("tenant-0000", shared=True, accounts=ACCOUNTS)
        (first,) = provider.entries
        role, secret = first["entry"]["role_arn"].split(":"), first["entry"]["external_id"]
        for number in range(1, TENANTS):
            account = f"{number:012d}"
            entry = {"role_arn": ":".join([*role[:4], account, role[5]]), "external_id": f"{secret[:-6]}{number:06d}"}
            provider.entries.append({**first, "id": f"tenant-{number:04d}", "entry": entry})
        provider.write()
        environment = {**os.environ, **cloud.environment(), "BENCH_ACCOUNT": cloud.account}
        command = [sys.executable, "-m", "tests.bench.aws_fleet_peak", "tenant-0000"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=HANG_S
        )
    found = json.loads(done.stdout.splitlines()[-1])
    if not found["ok"] or found["total"] != TENANTS or found["tenants"] != TENANTS:
        raise RuntimeError(f"the round did not serve everyone: {found}")
    return float(found["peak_mb"])


def measures() -> Iterator[Measure]:
    """Yield the measurements of a fleet on AWS."""
    run = fresh_process("tests.bench.aws_fleet", str(TENANTS), str(ACCOUNTS), limit_s=3600)
    if not run["ok"] or run["dead"] != TENANTS * DEAD_PERCENT // 100:
        raise RuntimeError(f"the rounds did not serve everyone: {run}")
    setting = (
        f"{TENANTS} payers of {ACCOUNTS} accounts each, {AT_ONCE} at once, real handler and roles, local Step "
        f"Functions, virtual time; a call takes {CALL_S:g} s and an invocation {START_S:g} s to start, both modeled"
    )
    yield Measure("fleet.500x200.round_h.aws", run["round_s"] / 3600, "h", 1, f"a steady round; {setting}")
    yield Measure(
        "fleet.500x200.cold_ratio.aws",
        run["cold_s"] / run["floor_s"],
        "ratio",
        1.1,
        f"the first round, which creates every export, relative to the {run['floor_s']:.0f} s of its two steps and of "
        f"the tenants' calls if none waits, with all slots busy; {setting}",
    )
    yield Measure(
        "fleet.dead5pct.p95_ratio.aws",
        run["p95_ratio"],
        "ratio",
        1.05,
        f"p95 of the other tenants' end in a round with {run['dead']:.0f} dead ones, relative to none; {setting}",
    )
    yield Measure(
        "fleet.actions_per_tenant.aws",
        run["actions"],
        "transitions",
        3,
        f"state transitions that AWS charges for a steady tenant; {run['own']:.0f} more for the round itself",
    )
    transitions = HOURS_A_MONTH * (TENANTS * run["actions"] + run["own"])
    yield Measure(
        "fleet.coordinator_cost_usd_month.aws",
        transitions * USD_PER_TRANSITION,
        "USD",
        None,
        f"{TENANTS} tenants each hour: {transitions:,.0f} state transitions at $0.025 per 1,000 (AWS Step Functions "
        "Pricing, looked up 2026-11-30), without the function's own cost",
    )
    yield Measure(
        "fleet.peak_mb.aws",
        peak_mb(),
        "MB",
        256,
        f"peak resident memory of a process that begins a round of {TENANTS} tenants, runs one of {ACCOUNTS} accounts, "
        "and ends the round",
    )


def main() -> None:
    """Print the figures as one line of JSON."""
    tenants, accounts = int(sys.argv[1]), int(sys.argv[2])
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout, stdout = nowhere, sys.stdout  # the function's log lines and metrics are not part of the output
        found = figures(tenants, accounts)
        sys.stdout = stdout
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
