"""`invoke gcp --all` through the local cloud: its schedule, its queue, and the function with its own rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cli.deployment.gcp.operator import GcpOperator
from cli.deployment.model import OperatorError
from localcloud.gcp.cloud import LocalGcp
from tests.gcp_function.fleet import deployed, fleet
from tests.gcp_function.test_fleet import FEW
from tests.limits import HANG_S


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a deployment with two tenants; the operator is signed in."""
    with deployed({"acme": FEW, "bolt": FEW}) as found:
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found


def operator(cloud: LocalGcp) -> GcpOperator:
    """Return the operator; while it waits, the queue dispatches its tasks."""

    def sleep(seconds: float) -> None:
        for one in threading.enumerate():
            if one.name == "scheduler":  # the schedule's call of the function
                one.join(HANG_S)
        cloud.task_delivery.deliver()
        cloud.advance(seconds * 10)

    return GcpOperator.open({}, sleep=sleep, now=lambda: cloud.clock.now().timestamp())


def test_a_round_is_started_by_its_schedule_and_followed_to_its_report(cloud: LocalGcp) -> None:
    """The number of tenants with a result is shown as it changes."""
    told: list[str] = []
    report = operator(cloud).round(told.append)
    assert report["tenants"]["total"] == 2
    assert report["tenants"]["not_run"] == 0
    assert {row["run_complete"] for row in report["rows"]} == {True}
    assert told[0].endswith("has begun")
    assert told[-1] == "2 tenants have a result"
    job = cloud.resource(cloud.resources("/jobs/tailpipe-exports-tenants")[0])
    assert job["status"] == {}


def test_one_tenant_is_run_by_the_queue_where_the_function_takes_no_calls_from_outside(cloud: LocalGcp) -> None:
    """The report is the tenant's own; one that cannot be entered, or is unknown, is an error with its remedy."""
    assert cloud.resource(cloud.deployment.function)["serviceConfig"]["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    told: list[str] = []
    report = operator(cloud).invoke({"tenant": "acme", "scopes": []}, told.append)
    assert (report["tenant"], report["run_complete"]) == ("acme", True)
    assert "queue tailpipe-exports-tenants calls it" in told[0]
    assert list(cloud.rows()) == ["acme"]
    cloud.refuse_entry("bolt")
    with pytest.raises(OperatorError, match="tenant bolt is unreachable") as unreachable:
        operator(cloud).invoke({"tenant": "bolt"}, told.append)
    assert "serviceAccountTokenCreator" in unreachable.value.problems[0].remedy
    with pytest.raises(OperatorError, match=r"tenant coal is refused.*not in the registry"):
        operator(cloud).invoke({"tenant": "coal"}, told.append)
    with pytest.raises(OperatorError) as refused:
        operator(cloud).invoke({"tenant": "acme", "dry_run": True}, told.append)
    assert "tailpipe-exports run gcp --tenant acme" in refused.value.problems[0].remedy


def test_a_round_in_progress_is_joined(cloud: LocalGcp) -> None:
    """The second command starts none."""
    first: list[str] = []
    second: list[str] = []
    found: list[dict[str, Any]] = []

    def once(line: str) -> None:
        first.append(line)
        if line.endswith("has begun"):
            found.append(operator(cloud).round(second.append))

    report = operator(cloud).round(once)
    assert "is in progress" in second[0]
    assert found[0]["round"] == report["round"]
    assert len(cloud.objects(cloud.deployment.state_bucket, "runs/rounds/")) == 1


def test_a_deployment_without_tenants_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's variable is named."""
    with fleet() as bare:
        for name, value in bare.environment().items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OperatorError) as caught:
            operator(bare).round(print)
    assert "fleet=true" in caught.value.problems[0].remedy


def test_a_stopped_deployment_begins_no_round_and_dispatches_no_task(cloud: LocalGcp) -> None:
    """Before a removal, the schedule of rounds and their queue are paused."""
    told: list[str] = []
    assert [one.ok for one in operator(cloud).verify() if "rounds" in one.what] == [True, True]
    operator(cloud).stop_schedule(told.append)
    stopped = [one for one in operator(cloud).verify() if "rounds" in one.what]
    assert [(one.ok, one.detail) for one in stopped] == [(False, "PAUSED")] * 2
    assert all("resume tailpipe-exports-tenants" in one.remedy for one in stopped)
    assert "the schedule of rounds is stopped" in told
    assert cloud.resource(cloud.resources("/jobs/tailpipe-exports-tenants")[0])["state"] == "PAUSED"
    assert cloud.world.tasks.queue(cloud.deployment.tenants_queue).state == "PAUSED"
