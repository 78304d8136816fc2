"""The runbook's story on up to 500 subscriptions, in Azure's own worker runtime and virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.terminal.progress import parse_line
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.worker import AzureWorker, Invocation
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock

HOUR, DAY = 3600.0, 86_400.0
RIGHTS_LAG_S = 1800.0
COST = "Microsoft.CostManagement/*"
WRITE = "Microsoft.CostManagement/exports/write"
DENIED = "The client does not have authorization to perform the action."


@dataclass(frozen=True)
class Size:
    """How many subscriptions there are, how many of them the old scripts serve, the budget, writes until the crash."""

    subscriptions: int
    old: int
    budget: int
    crash_after: int


SMALL, FULL = Size(100, 30, 40, 20), Size(500, 150, 200, 100)


class Tenant:
    """The tenant, the function in it, and what happened to both."""

    def __init__(self, azure: LocalAzure, size: Size) -> None:
        self.azure, self.size = azure, size
        self.writes_seen = 0
        self.crash_at = 0
        self.bursts: list[tuple[float, float]] = []
        self.deleted: Counter[str] = Counter()
        environment = {**azure.environment(), "CALL_BUDGET": str(size.budget)}
        root = Path(__file__).resolve().parents[2]
        self.function = AzureWorker("cli.demo.azure_app", environment, task_root=root, on_line=self.line)

    def line(self, line: str) -> None:
        """Count the writes as they are logged, and let the instance die after so many if that is ordered."""
        parsed = parse_line(line)
        self.writes_seen += parsed is not None and parsed[1] == "write-done"
        if self.crash_at and self.writes_seen >= self.crash_at:
            self.crash_at = 0
            self.function.crash()

    def tick(self) -> Invocation:
        """Let the timer tick; the test fails if the run does."""
        done = self.function.invoke_timer()
        assert done.error is None, done.error
        return done

    def pass_time(self, seconds: float) -> None:
        """Let time pass between two runs."""
        self.azure.advance(seconds)

    def throttle(self, seconds: float) -> None:
        """Let others use up the tenant's quota."""
        now = self.azure.clock.monotonic()
        self.azure.throttle(seconds)
        self.bursts.append((now, now + seconds))

    def delete(self, subscription: str) -> None:
        """Delete a subscription's export."""
        assert self.azure.delete_export(subscription) == 1
        self.deleted[subscription] += 1

    def active(self) -> list[str]:
        """Return the active subscriptions."""
        return [one for one, state in self.azure.subscriptions().items() if state == "Enabled"]

    def uncovered(self) -> dict[str, Any]:
        """Return the active subscriptions without exactly one healthy export of theirs, each with what it has."""
        ours = {one.id for one in self.azure.destinations}
        wrong = {}
        for one in self.active():
            found = self.azure.exports(one)
            good = [
                export
                for export in found
                if export["name"] == f"TailpipeDataExport-{one[-6:]}"
                and export["properties"]["schedule"]["status"] == "Active"
                and export["properties"]["deliveryInfo"]["destination"]["resourceId"] in ours
                and export["properties"]["deliveryInfo"]["destination"]["rootFolderPath"]
                == f"tailpipe/subscriptions/{one}"
            ]
            if len(found) != 1 or len(good) != 1:
                wrong[one] = found
        return wrong

    def status(self) -> Any:
        """Return what GET /api/status answers; the test fails if it calls Resource Manager for it."""
        calls = self.azure.calls.count()
        answer = self.function.invoke_http("GET", "/api/status")
        assert (answer.status, self.azure.calls.count()) == (200, calls)
        return answer.json()["scopes"]


def tenant_of(subscriptions: int) -> LocalAzure:
    """Return a tenant of two storage accounts, in which every tenth subscription is pay-as-you-go."""
    behavior = Behavior(cost_lag_s=RIGHTS_LAG_S, page_size=100, empty_pages_every=3)
    return LocalAzure(
        subscriptions,
        clock=VirtualClock(),
        agreements={"ea": 9, "webdirect": 1},
        storage_accounts=2,
        behavior=behavior,
    )


@pytest.mark.parametrize("size", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["small", "full"])
def test_every_subscription_is_covered_whatever_happens(size: Size) -> None:
    """New ones, deleted exports, rights revoked and given back, throttling, a crash: at the end all are covered.

    No export is made twice, none of another subscription waits for one in trouble, and the only calls that are refused
    for a quota fall into the bursts that somebody else caused.
    """
    with tenant_of(size.subscriptions) as azure:
        tenant = Tenant(azure, size)
        with tenant.function:
            assert tenant.function.worker.startswith("azure-functions-runtime ")
            onboard_with_a_crash(tenant)
            live_through_trouble(tenant)
        ended_well(tenant)


def onboard_with_a_crash(tenant: Tenant) -> None:
    """The old scripts have been at work; the first run dies halfway, and the next one goes on behind its lock."""
    azure, size = tenant.azure, tenant.size
    azure.create_exports(azure.subscription_ids[: size.old])
    azure.deliver()
    tenant.crash_at = size.crash_after
    crashed = tenant.function.invoke_timer()
    assert crashed.error is not None
    assert crashed.error["errorType"] == "WorkerProcessExit"
    # What was on its way when the instance died still arrives; a new one takes longer to start than that.
    assert tenant.function.functions()
    there = len(azure.exports())
    # Some of its writes added partitions to what the old scripts had made.
    assert size.old < there < size.subscriptions

    refused = tenant.function.invoke_http("POST", "/api/reconcile")
    assert refused.status == 409
    assert refused.json()["running"]["run_id"]
    assert len(azure.exports()) == there

    tenant.pass_time(600)
    tenant.tick()
    assert tenant.uncovered() == {}


def live_through_trouble(tenant: Tenant) -> None:
    """A day later things happen from hour to hour; the timer ticks on."""
    azure = tenant.azure
    tenant.pass_time(DAY)
    azure.deliver()
    ids = azure.subscription_ids
    suspended, hidden, denied, lost = ids[10:15], ids[20:25], ids[30:35], ids[50:75]
    for one in suspended:
        azure.suspend_subscription(one)
    for one in hidden:
        azure.revoke_rights(one)
    for one in (*hidden, *denied, *lost):
        tenant.delete(one)
    faults = [
        azure.faults.add(
            "Microsoft.CostManagement/exports/*",
            "RBACAccessDenied",
            DENIED,
            status=401,
            times=None,
            resource=f"/subscriptions/{one}*",
        )
        for one in denied
    ]
    joined = [azure.join_subscription(f"new-{number}", group="sandbox") for number in range(8)]
    tenant.throttle(90)
    tenant.tick()
    assert not any(azure.exports(one) for one in (*hidden, *denied, *joined))

    for hour in range(1, 16):
        tenant.pass_time(HOUR)
        if hour == 3:
            # Whoever is in trouble keeps nobody waiting: three runs of this budget look at everybody else.
            assert set(tenant.uncovered()) == {*hidden, *denied}
            for fault in faults:
                fault.left = 0
            for one in hidden:
                azure.grant_rights(one, delay_s=900)
            tenant.throttle(30)
        if hour == 6:
            azure.resume_subscription(suspended[0])
            answer = tenant.function.invoke_http("POST", "/api/reconcile", {"scopes": [suspended[0], joined[0]]})
            assert (answer.status, answer.json()["scopes"]["active"]) == (200, 2)
        tenant.tick()


def ended_well(tenant: Tenant) -> None:
    """Check the live cloud, the memory, and every call that was made."""
    azure, size = tenant.azure, tenant.size
    assert tenant.uncovered() == {}
    with tenant.function:
        told = tenant.status()
    active = len(tenant.active())
    assert (told["active"], told["covered"]) == (active, active)
    assert active == size.subscriptions + 8 - 4

    made = Counter(call.resource.split("/")[2] for call in azure.calls.select(WRITE, status=201))
    assert set(azure.subscription_ids[size.old :]) <= made.keys()
    for one, times in made.items():
        old = one in azure.subscription_ids[: size.old]
        assert times <= tenant.deleted[one] + (not old), one

    strays = [
        call.at
        for call in azure.calls.select(COST, status=429)
        if not any(begin <= call.at <= end for begin, end in tenant.bursts)
    ]
    assert strays == []
    assert all(
        azure.calls.peak(COST, 60, resource=f"/subscriptions/{one}") <= 30 for one in azure.subscription_ids[:60]
    )
