"""Rounds over the tenants of a local Azure: the real activities and orchestrations, in virtual time and one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from azure_function.answers import LARGEST_BODY
from azure_function.clients import RATES, READ_S, drop_clients, warm_clients
from azure_function.coordinator.activities import Activities
from azure_function.coordinator.functions import coordinator
from azure_function.coordinator.orchestrations import INSTANCE, ROUND
from azure_function.errors import translate
from azure_function.fleet_store import RegistryBlobs
from azure_function.settings import read_settings
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.customers import CustomerTenant
from localcloud.azure.runtime.durable_loop import LaneClock
from localcloud.azure.runtime.durable_task import TaskHub, Work
from shared.errors import Denied
from shared.runtime.context import RunContext
from shared.tenants.registry import MAX_BYTES
from tests.azure_function.support import HOUR, START, Lines, local_azure
from tests.bench.azure_fleet import Fleet

WRITE = "Microsoft.CostManagement/exports/write"
TENANTS = 4


class Host:
    """A Functions host that runs a round over the tenants of a local Azure.

    It dies after any work for which `dies` is true: what the function did is done, and its result is lost.
    """

    def __init__(self, cloud: LocalAzure, dies: Callable[[Work], bool] = lambda _: False, **settings: str) -> None:
        self.cloud, self._dies = cloud, dies
        self.lines = Lines()
        self.hub = TaskHub(cloud.clock.now)
        app = func.FunctionApp()
        environment = {**cloud.environment(), "ROUND_TENANTS": "2", **settings}
        app.register_functions(coordinator(Activities(environment, self.lines, lambda: cloud.clock)))
        self._functions = {one.get_function_name(): one.get_user_function() for one in app.get_functions()}
        self.ran: list[str] = []

    def round(self, before: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
        """Run a round to its end, and return its report; `before` gets the tenant before each call."""
        self.hub.start(ROUND, INSTANCE, "null")
        while True:
            work = self.hub.take()
            if work is not None:
                self._do(work, before)
            elif (timer := self.hub.next_timer()) is not None:
                self.cloud.advance((timer - self.cloud.clock.now()).total_seconds() + 0.001)
                self.cloud.sync()
            else:
                break
        status = self.hub.status(INSTANCE)
        assert status is not None
        assert status["runtimeStatus"] == "Completed", status
        report: dict[str, Any] = status["output"]
        return report

    def _do(self, work: Work, before: Callable[[str], None]) -> None:
        if work.task is None:
            state = self._functions[work.function](context=SimpleNamespace(body=work.input))
            if self._dies(work):
                self.hub.give_back(work)
            else:
                self.hub.episode_done(work, json.loads(state))
            return
        given = json.loads(work.input)
        if "tenant" in given:
            before(given["tenant"])
            self.ran.append(given["tenant"])
        result = json.dumps(self._functions[work.function](given=given))
        if self._dies(work):
            self.hub.give_back(work)
        else:
            self.hub.activity_done(work, result)


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a provider's tenant with four customers' tenants in its registry."""
    with local_azure(subscriptions=1, customers=TENANTS) as cloud:
        environment = cloud.environment()
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, environment[name])
        cloud.put_registry(json.dumps({"version": 1, "tenants": cloud.tenant_entries()}).encode())
        yield cloud
        drop_clients()


def writes(customer: CustomerTenant) -> int:
    """Return how many exports were created in a tenant; an update, or a repeated creation, is answered 200."""
    assert not customer.world.calls.select(WRITE, status=200)
    return len(customer.world.calls.select(WRITE, status=201))


def counts(report: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of tenants by status that are not 0."""
    return {name: number for name, number in report["tenants"].items() if number}


def test_a_round_covers_every_tenant_and_the_next_one_writes_nothing(fleet: LocalAzure) -> None:
    """Each tenant is called once in each round."""
    host = Host(fleet)
    assert counts(host.round()) == {"total": TENANTS, "ok": TENANTS}
    written = [writes(one) for one in fleet.customers]
    assert [len(one.actions.exports()) for one in fleet.customers] == [2] * TENANTS
    fleet.advance(3600)
    fleet.sync()
    assert counts(host.round()) == {"total": TENANTS, "ok": TENANTS}
    assert [writes(one) for one in fleet.customers] == written
    assert sorted(host.ran) == sorted([one.name for one in fleet.customers] * 2)


def test_a_host_that_dies_after_every_step_writes_nothing_twice(fleet: LocalAzure) -> None:
    """All work is done twice, and the second time finds what the first one did."""
    died: set[str] = set()

    def dies(work: Work) -> bool:
        key = f"{work.function}/{work.task}/{work.input if work.task is not None else len(work.input)}"
        first = key not in died
        died.add(key)
        return first

    host = Host(fleet, dies)
    assert counts(host.round()) == {"total": TENANTS, "ok": TENANTS}
    assert [writes(one) for one in fleet.customers] == [2] * TENANTS
    assert len(host.ran) == 2 * TENANTS


def test_dead_throttled_and_revoked_tenants_are_rows_beside_the_others(fleet: LocalAzure) -> None:
    """One is dead, one is throttled, one withdraws its consent during the round; the fourth does not notice."""
    dead, throttled, revoked, healthy = fleet.customers
    fleet.refuse_tokens(dead.name, 90002)
    throttled.actions.throttle(120)

    def before(tenant: str) -> None:
        if tenant == revoked.name:
            fleet.revoke_consent(revoked.name)

    host = Host(fleet)
    report = host.round(before)
    assert counts(report) == {"total": TENANTS, "ok": 2, "unreachable": 2}
    assert {one["tenant"]: one["status"] for one in report["rows"]} == {
        dead.name: "unreachable",
        revoked.name: "unreachable",
    }
    assert len(healthy.actions.exports()) == 2
    assert (len(dead.world.calls), len(revoked.world.calls)) == (0, 0)
    fleet.consent_tenant(revoked.name)
    fleet.advance(3600)
    fleet.sync()
    assert counts(host.round()) == {"total": TENANTS, "ok": 3, "unreachable": 1}
    assert [len(one.actions.exports()) for one in (throttled, revoked, healthy)] == [2, 2, 2]


def test_hostile_tenants_are_rows_and_no_other_tenant_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One answers 429 forever, one never, one with pages that fill the memory; none takes more than its part."""
    clock = LaneClock(START)
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, "")  # the fleet sets them
    with local_azure(clock=clock, subscriptions=1, customers=4, fleet=True) as cloud:
        fleet = Fleet(cloud, clock, ROUND_SECONDS="600", TENANT_INVOCATIONS="2")
        fleet.round()
        fleet.require_ok()
        clock.advance(HOUR)
        drop_clients()
        fleet.round()
        healthy = fleet.ends
        throttled, silent, large, other = cloud.customers
        throttled.actions.throttle(1e9)
        new = throttled.actions.join_subscription("new")
        silent.actions.latency(READ_S)
        silent.actions.fault("*", "GatewayTimeout", "no answer", status=504, times=None)
        huge = b" " * (LARGEST_BODY + 1)
        large.world.faults.corrupt("GET /subscriptions", lambda body: body + huge)
        clock.advance(HOUR)
        drop_clients()
        fleet.round()
        drop_clients()
        assert (fleet.statuses[silent.name], fleet.statuses[large.name]) == ("failed", "failed")
        assert throttled.actions.exports(new) == []
        assert fleet.statuses[other.name] == "ok"
        assert fleet.ends[other.name] == pytest.approx(healthy[other.name], rel=0.05)
        assert max(fleet.took.values()) <= 600


def test_a_tenant_that_needs_more_time_is_continued_in_the_same_round(fleet: LocalAzure) -> None:
    """Its calls are cut short, and the round goes on with it until it is done."""
    slow = fleet.customers[0]
    slow.actions.latency(40, "Microsoft.CostManagement/exports/*")
    host = Host(fleet, RUN_SECONDS="60", TENANT_INVOCATIONS="10", CALLS_AT_ONCE="1")
    assert counts(host.round()) == {"total": TENANTS, "ok": TENANTS}
    assert host.ran.count(slow.name) > 1
    assert host.ran.count(fleet.customers[1].name) == 1


def test_the_function_reads_the_registry_and_cannot_write_it(fleet: LocalAzure) -> None:
    """Its identity may read the blobs of the registry's account, and write none of them."""
    environment = {**fleet.environment(), **fleet.keyless()}
    settings = read_settings(environment)
    run = RunContext("azure", settings.engine, Lines(), fleet.clock, 60, RATES, translate)
    registry = RegistryBlobs(settings, warm_clients(settings, environment), run, "Apply it.")
    blob = registry.load(MAX_BYTES, "tenants.json")
    assert json.loads(blob.data)["version"] == 1
    with pytest.raises(Denied):
        registry.save(blob.data, blob.version, "tenants.json")
