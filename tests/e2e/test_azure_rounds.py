"""Rounds over tenants with the deployed function: Azure's worker runtime, the local durable host, and the operator."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.azure.operator import AzureOperator
from cli.deployment.model import OperatorError
from cli.local.azure import APP
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.runtime.durable_host import DurableHost
from localcloud.azure.runtime.durable_task import TaskHub, Work
from localcloud.azure.runtime.worker import AzureWorker
from shared.runtime.clock import VirtualClock
from tests.cli.support.azure import sign_in
from tests.limits import HANG_S

pytestmark = pytest.mark.slow
# A round of a minute, in real time; the function itself runs in the local Azure's virtual time.
SCHEDULE = {"ROUND_SCHEDULE": "0 47 * * * *", "ROUND_TENANTS": "2", "ROUND_SECONDS": "60"}
WRITE = "Microsoft.CostManagement/exports/write"
TENANTS = 4


@pytest.fixture
def fleet() -> Iterator[LocalAzure]:
    """Return a provider's tenant with four customers' tenants in its registry."""
    with LocalAzure(subscriptions=1, customers=TENANTS, clock=VirtualClock()) as cloud:
        cloud.put_registry(json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode())
        yield cloud


def created(cloud: LocalAzure) -> list[int]:
    """Return how many exports were created in each tenant."""
    return [len(one.world.calls.select(WRITE, status=201)) for one in cloud.customers]


def played(cloud: LocalAzure, repository: Path, kills: int = 0, copies: int = 1) -> dict[str, Any]:
    """Run a round through the worker; kill its process some times meanwhile. Return the round's report."""
    hub = TaskHub(lambda: datetime.now(UTC))
    environment = {**cloud.environment(), **SCHEDULE}
    with (
        AzureWorker(APP, environment, task_root=repository) as worker,
        DurableHost(worker, hub, copies=lambda work: copies if _runs_a_tenant(work) else 1) as host,
    ):
        answer = worker.invoke_http("POST", "/api/rounds")
        assert answer.status == 202, (answer.error, answer.logs)

        def kill() -> None:
            for _ in range(kills):
                time.sleep(0.7)
                worker.crash()

        killer = threading.Thread(target=kill)
        killer.start()
        status = host.wait("tenants-round", HANG_S)
        killer.join()
        assert status["runtimeStatus"] == "Completed", status
        answer = worker.invoke_http("GET", "/api/rounds")
        document = answer.json()
        assert (answer.status, document["state"]) == (200, "completed")
        report: dict[str, Any] = document["report"]
        return report


def _runs_a_tenant(work: Work) -> bool:
    return work.function == "tenant_run"


def counts(report: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of tenants by status that are not 0."""
    return {name: number for name, number in report["tenants"].items() if number}


def test_round_through_the_worker_covers_every_tenant(fleet: LocalAzure, repository: Path) -> None:
    """A tenant whose consent is revoked is a row; the others get their exports once."""
    fleet.revoke_consent(fleet.customers[1].name)
    report = played(fleet, repository)
    assert counts(report) == {"total": TENANTS, "ok": TENANTS - 1, "unreachable": 1}
    assert created(fleet) == [2, 0, 2, 2]


def test_round_whose_worker_is_killed_writes_nothing_twice(fleet: LocalAzure, repository: Path) -> None:
    """Killed runs are delivered again; a tenant whose lock a killed run still holds is left to the next round."""
    report = played(fleet, repository, kills=3)
    assert report["tenants"]["total"] == TENANTS
    assert all(number <= 2 for number in created(fleet))
    fleet.advance(7_200)
    fleet.sync()
    report = played(fleet, repository)
    assert counts(report) == {"total": TENANTS, "ok": TENANTS}
    assert created(fleet) == [2] * TENANTS


def test_calls_delivered_twice_write_nothing_twice(fleet: LocalAzure, repository: Path) -> None:
    """The second one finds the tenant's row."""
    report = played(fleet, repository, copies=2)
    assert counts(report) == {"total": TENANTS, "ok": TENANTS}
    assert created(fleet) == [2] * TENANTS


def test_operator_begins_a_round_and_returns_its_report(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the setting the operator is told how to deploy; with it, the round's report is returned."""

    def start(environment: Mapping[str, str]) -> AzureWorker:
        return AzureWorker(APP, environment, task_root=repository)

    with LocalAzure(subscriptions=1, customers=2, start=start, limits=UNLIMITED) as cloud:
        cloud.put_registry(json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode())
        sign_in(cloud, monkeypatch)
        with pytest.raises(OperatorError, match="serves no tenants"):
            AzureOperator.open({}).round(lambda _: None)
        cloud.site.settings = {**cloud.site.settings, **SCHEDULE}
        told: list[str] = []
        report = AzureOperator.open({}).round(told.append)
        assert counts(report) == {"total": 2, "ok": 2}
        assert "a round has begun" in told[0]
