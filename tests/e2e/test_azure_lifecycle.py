"""The runbook's scenario on up to 500 subscriptions, in Azure's own worker runtime and virtual time."""

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
    """The numbers of subscriptions, of old scripts' exports, of calls per run, and of writes until the crash."""

    subscriptions: int
    old: int
    budget: int
    crash_after: int


SMALL, FULL = Size(100, 30, 40, 20), Size(500, 150, 200, 100)


class Tenant:
    """A tenant, the function in it, and the events of both."""

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
        """Count logged writes, and crash the instance after `crash_at` of them."""
        parsed = parse_line(line)
        self.writes_seen += parsed is not None and parsed[1] == "write-done"
        if self.crash_at and self.writes_seen >= self.crash_at:
            self.crash_at = 0
            self.function.crash()

    def tick(self) -> Invocation:
        """Fire the timer; the test fails if the run does."""
        done = self.function.invoke_timer("reconcile_timer")
        assert done.error is None, done.error
        return done

    def pass_time(self, seconds: float) -> None:
        """Advance the clock between two runs."""
        self.azure.advance(seconds)

    def throttle(self, seconds: float) -> None:
        """Let other clients use up the tenant's quota."""
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
        """Return the active subscriptions without exactly one healthy export of ours, each with its exports."""
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
        """Return the scopes of GET /api/status; the test fails if that calls Resource Manager."""
        calls = self.azure.calls.count()
        answer = self.function.invoke_http("GET", "/api/status")
        assert (answer.status, self.azure.calls.count()) == (200, calls)
        return answer.json()["scopes"]


def tenant_of(subscriptions: int) -> LocalAzure:
    """Return a tenant with two storage accounts, in which every tenth subscription is pay-as-you-go."""
    behavior = Behavior(cost_lag_s=RIGHTS_LAG_S, page_size=100, empty_pages_every=3)
    return LocalAzure(
        subscriptions,
        clock=VirtualClock(),
        agreements={"ea": 9, "webdirect": 1},
        storage_accounts=2,
        behavior=behavior,
    )


@pytest.mark.parametrize("size", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["small", "full"])
def test_every_subscription_is_covered_after_failures(size: Size) -> None:
    """New subscriptions, deleted exports, revoked and restored permissions, throttling and a crash are all handled.

    No export is created twice, a failing subscription does not delay others, and calls are throttled only while other
    clients use up the quota.
    """
    with tenant_of(size.subscriptions) as azure:
        tenant = Tenant(azure, size)
        with tenant.function:
            assert tenant.function.worker.startswith("azure-functions-runtime ")
            onboard_with_a_crash(tenant)
            run_with_failures(tenant)
        check_end_state(tenant)


def onboard_with_a_crash(tenant: Tenant) -> None:
    """Crash the first run after some writes, and let the next run take over its expired lock."""
    azure, size = tenant.azure, tenant.size
    azure.create_exports(azure.subscription_ids[: size.old])
    azure.deliver()
    tenant.crash_at = size.crash_after
    crashed = tenant.function.invoke_timer("reconcile_timer")
    assert crashed.error is not None
    assert crashed.error["errorType"] == "WorkerProcessExit"
    # Writes in flight when the instance died still arrive, before a new instance has started.
    assert tenant.function.functions()
    there = len(azure.exports())
    # Some of its writes added partitioning to the old scripts' exports.
    assert size.old < there < size.subscriptions

    refused = tenant.function.invoke_http("POST", "/api/reconcile")
    assert refused.status == 409
    assert refused.json()["running"]["run_id"]
    assert len(azure.exports()) == there

    tenant.pass_time(600)
    tenant.tick()
    assert tenant.uncovered() == {}


def run_with_failures(tenant: Tenant) -> None:
    """From the next day on, cause failures between hourly runs."""
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
            # Failing subscriptions do not delay others: three runs with this call budget check all of them.
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


def check_end_state(tenant: Tenant) -> None:
    """Check the cloud, the state, and every call that was made."""
    azure, size = tenant.azure, tenant.size
    assert tenant.uncovered() == {}
    with tenant.function:
        scopes = tenant.status()
    active = len(tenant.active())
    assert (scopes["active"], scopes["covered"]) == (active, active)
    assert active == size.subscriptions + 8 - 4

    made = Counter(call.resource.split("/")[2] for call in azure.calls.select(WRITE, status=201))
    assert set(azure.subscription_ids[size.old :]) <= made.keys()
    for one, times in made.items():
        old = one in azure.subscription_ids[: size.old]
        assert times <= tenant.deleted[one] + (not old), one

    unexpected = [
        call.at
        for call in azure.calls.select(COST, status=429)
        if not any(begin <= call.at <= end for begin, end in tenant.bursts)
    ]
    assert unexpected == []
    assert all(
        azure.calls.peak(COST, 60, resource=f"/subscriptions/{one}") <= 30 for one in azure.subscription_ids[:60]
    )
