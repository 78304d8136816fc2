"""Four organizations that a deployment on the local Google Cloud serves, in rounds of its Cloud Tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from cli.demo.fleet import TENANTS
from gcp_function.handler import run_for_tenants
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.task_delivery import Dispatch, TaskDelivery, TaskResponse
from shared.http import answer
from shared.runtime.clock import SystemClock, VirtualClock

HOUR_S = 3600.0
POLL_S = 5.0
KINDS = ("standard", "detailed", "pricing", "focus")
WRITING = ("insert", "update", "patch", "delete", "create", "copy", "rewrite", "compose")


class GcpGround:
    """The provider's project with the deployment, and the organizations of its customers."""

    title, scopes = "GCP", "billing accounts"

    def __init__(self, gcp: LocalGcp) -> None:
        self._gcp = gcp
        self.tenants: Sequence[str] = [f"reseller-{number:03d}" for number in range(TENANTS)]
        entries = [gcp.add_tenant(one, kinds=KINDS, history_days=1, rows=1) for one in self.tenants]
        self._environment = {**gcp.environment(), **gcp.enable_tenants()}
        gcp.write_registry(entries)
        self._delivery = TaskDelivery(gcp.world, self._dispatched)

    def round(self) -> Mapping[str, Any]:
        """Begin a round as the schedule does, and let Cloud Tasks dispatch until its queue is empty."""
        self._gcp.advance(HOUR_S)
        scheduled = f"{self._gcp.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        headers = {"X-CloudScheduler": "true", "X-CloudScheduler-ScheduleTime": scheduled}
        begun = self._called(json.dumps({"round": {"step": "begin"}}).encode(), headers)[1]
        end = self._gcp.clock.now() + timedelta(seconds=HOUR_S)
        while self._gcp.clock.now() < end and any(one.tasks for one in self._gcp.world.tasks.queues.values()):
            if not self._delivery.deliver():
                self._gcp.advance(POLL_S)
        text = self._gcp.read_object(f"runs/rounds/{begun['round']}.json", self._gcp.deployment.state_bucket)
        report: Mapping[str, Any] = json.loads(text)
        return report

    def _dispatched(self, request: Dispatch) -> TaskResponse:
        return TaskResponse(self._called(request.body, request.headers)[0])

    def _called(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        environment, clock = self._environment, self._gcp.clock
        found = answer(lambda: run_for_tenants(body, headers, environment, _discard, clock), _discard)
        return found.status, json.loads(found.body())

    def withdraw(self, tenant: str) -> None:
        self._gcp.refuse_entry(tenant)

    def exports(self, tenant: str) -> int:
        """Return how many copies the tenant has: Google's exports are switched on in the console."""
        return len(self._gcp.objects(f"tailpipe-billing-export-{tenant}-exports"))

    def writes(self, tenant: str) -> int:
        return sum(one.method.rpartition(".")[2] in WRITING for one in self._calls(tenant))

    def forget_calls(self) -> None:
        self._gcp.clear_calls()

    def strangers(self, tenant: str) -> int:
        own = f"@{tenant}-exports.iam.gserviceaccount.com"
        return sum(not one.identity.endswith(own) for one in self._calls(tenant))

    def _calls(self, tenant: str) -> list[Any]:
        """Return the calls that required a right in the tenant's project; entering it is the deployment's own call."""
        return [
            one
            for one in self._gcp.calls.select()
            if any(f"{tenant}-exports" in where and "serviceAccounts" not in where for _, where in one.rights)
        ]


@contextmanager
def gcp_ground() -> Iterator[GcpGround]:
    """Open the local Google Cloud."""
    clock = VirtualClock(SystemClock().now())
    with LocalGcp(accounts=0, done=0, history_days=0, clock=clock) as gcp:
        yield GcpGround(gcp)


def _discard(_level: str, _event: str, _fields: Mapping[str, object]) -> None:
    """Drop a log line: the rows say what became of each tenant."""
