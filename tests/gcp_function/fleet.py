"""Rounds of tenants in this process: the local Cloud Tasks calls the function's own handling of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from gcp_function.handler import run_for_tenants
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.task_delivery import Dispatch, TaskDelivery, TaskResponse
from shared.http import answer
from tests.gcp_function.support import Lines, local_gcp

SCHEDULED = "2026-11-23T09:00:00Z"


class Killed(BaseException):
    """The platform ended an instance of the function."""


class FleetFunction:
    """A deployment with tenants, and its queue; `sent` are the dispatched requests with the statuses of the answers."""

    def __init__(self, cloud: LocalGcp, tenants: Mapping[str, Mapping[str, Any]], **settings: Any) -> None:
        self.cloud = cloud
        self.lines = Lines()
        self.entries = {tenant: cloud.add_tenant(tenant, **given) for tenant, given in tenants.items()}
        self.environment = {**cloud.environment(), **cloud.enable_tenants(**settings)}
        self.register()
        self.delivery = TaskDelivery(cloud.world, self.send)
        self.sent: list[tuple[dict[str, Any], int | None]] = []
        self.answers: list[dict[str, Any]] = []

    def register(self) -> None:
        """Write the registry with the entries as they are now."""
        self.cloud.write_registry(list(self.entries.values()))

    def call(self, payload: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        """Call the function, and return the status and the document of its answer."""
        body = json.dumps(payload).encode()
        found = answer(
            lambda: run_for_tenants(body, headers or {}, self.environment, self.lines, self.cloud.clock), self.lines
        )
        return found.status, json.loads(found.body())

    def begin(self, scheduled: str = SCHEDULED, late: float = 0) -> dict[str, Any]:
        """Begin a round as the schedule does, and return the answer; its tasks are dispatched so many seconds late."""
        self.cloud.task_faults(delay_s=late, copies=self.cloud.faults.tasks.faults.copies if not late else 1)
        headers = {"X-CloudScheduler": "true", "X-CloudScheduler-ScheduleTime": scheduled}
        status, document = self.call({"round": {"step": "begin"}}, headers)
        assert status == 200, document
        return document

    def send(self, request: Dispatch) -> TaskResponse:
        payload = json.loads(request.body)
        try:
            status, document = self.call(payload, request.headers)
        except Killed:
            self.sent.append((payload, None))
            return TaskResponse(None)
        self.sent.append((payload, status))
        self.answers.append(document)
        return TaskResponse(status)

    def drain(self, seconds: float = 7200) -> None:
        """Dispatch tasks until none is left, or for so many seconds."""
        end = self.cloud.clock.now() + timedelta(seconds=seconds)
        while self.cloud.clock.now() < end and any(one.tasks for one in self.cloud.world.tasks.queues.values()):
            if not self.delivery.deliver():
                self.cloud.advance(5)

    def round(self) -> dict[str, Any]:
        """Run one round to its end and return its stored report."""
        round_id = self.begin(f"{self.cloud.clock.now():%Y-%m-%dT%H:%M:%SZ}")["round"]
        self.drain()
        return self.report(round_id)

    def report(self, round_id: str) -> dict[str, Any]:
        """Return the stored report of a round."""
        text = self.cloud.read_object(f"runs/rounds/{round_id}.json", self.cloud.deployment.state_bucket)
        found: dict[str, Any] = json.loads(text)
        return found

    def statuses(self) -> dict[str, str]:
        """Return the status of each tenant's row."""
        return {tenant: row["status"] for tenant, row in self.cloud.rows().items()}

    def newest_report(self, tenant: str) -> dict[str, Any]:
        """Return the stored report of a tenant's newest run."""
        bucket = self.cloud.deployment.state_bucket
        newest = self.cloud.objects(bucket, f"runs/tenants/{tenant}/")[-1]
        found: dict[str, Any] = json.loads(self.cloud.read_object(newest, bucket))
        return found

    def served(self, tenant: str) -> set[str]:
        """Return the billing accounts for whose exports a tenant's newest run had a plan."""
        actions = self.newest_report(tenant)["actions"]
        return {one["scope"] for one in actions if one["kind"] == "export" and one["verb"] != "SKIP"}

    def runs(self, tenant: str) -> int:
        """Return the number of stored reports of a tenant."""
        return len(self.cloud.objects(self.cloud.deployment.state_bucket, f"runs/tenants/{tenant}/"))


@dataclass
class Answered:
    """An answer of the function in this process."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    logs: Sequence[str] = ()


class InProcess:
    """A runtime of the local cloud that handles requests for tenants in this process, with the deployed settings."""

    def __init__(self) -> None:
        self.cloud: LocalGcp | None = None
        self.lines = Lines()

    @contextmanager
    def __call__(self, environment: Mapping[str, str]) -> Iterator[InProcess]:
        self.environment = environment
        yield self

    def invoke(self, body: object = None, headers: Mapping[str, str] | None = None) -> Answered:
        """Handle one request."""
        assert self.cloud is not None
        assert isinstance(body, bytes)
        clock = self.cloud.clock
        found = answer(lambda: run_for_tenants(body, headers or {}, self.environment, self.lines, clock), self.lines)
        return Answered(found.status, found.body().encode(), {"content-type": "application/json"})


@contextmanager
def deployed(tenants: Mapping[str, Mapping[str, Any]], **settings: Any) -> Iterator[LocalGcp]:
    """Yield a local cloud with a deployment for tenants, whose function runs in this process when it is called."""
    runtime = InProcess()
    with fleet(runtime=runtime) as cloud:
        runtime.cloud = cloud
        entries = [cloud.add_tenant(tenant, **given) for tenant, given in tenants.items()]
        cloud.enable_tenants(**settings)
        cloud.write_registry(entries)
        yield cloud


def fleet(**options: Any) -> LocalGcp:
    """Return a local cloud for a fleet: the deployment itself has no billing accounts."""
    return local_gcp(accounts=0, done=0, history_days=0, **options)
