"""Four Entra tenants that a deployment on the local Azure serves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import azure.functions as func

from azure_function.clients import drop_clients
from azure_function.coordinator.activities import Activities
from azure_function.coordinator.functions import coordinator
from azure_function.coordinator.orchestrations import INSTANCE, ROUND
from azure_function.invocation import open_fleet
from cli.demo.fleet import TENANTS
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.customers import CustomerTenant
from localcloud.azure.runtime.durable_loop import DurableLoop, LaneClock
from shared.runtime.clock import SystemClock
from shared.tenants.registry import MAX_BYTES, encode_registry
from shared.tenants.rows import ROUNDS

HOUR_S = 3600.0
_IDENTITY = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")  # which azure-identity reads in the process's environment


class AzureGround:
    """The provider's tenant with the deployment, and its customers' tenants."""

    title, scopes = "Azure", "subscriptions"

    def __init__(self, azure: LocalAzure, clock: LaneClock) -> None:
        self._azure = azure
        app = func.FunctionApp()
        app.register_functions(coordinator(Activities(azure.environment(), _discard, lambda: clock)))
        self._functions = DurableLoop(app, clock)
        self._customers: Mapping[str, CustomerTenant] = {one.name: one for one in azure.customers}
        self.tenants: Sequence[str] = list(self._customers)
        azure.put_registry(encode_registry(azure.tenant_entries()))

    def round(self) -> Mapping[str, Any]:
        """Run the orchestrations of the function app on the local task hub, with its activities."""
        self._azure.advance(HOUR_S)
        self._azure.sync()
        drop_clients()  # with their tokens, which would have expired: the SDK caches them by the machine's clock
        ended = self._functions.run(ROUND, INSTANCE)
        if ended["runtimeStatus"] != "Completed":
            raise RuntimeError(f"the round ended as {ended['runtimeStatus']}: {ended['output']}")
        documents, _ = open_fleet(self._azure.environment(), _discard, self._azure.clock)
        stored = documents.load(MAX_BYTES, f"{ROUNDS}{ended['output']['round']}.json")
        report: Mapping[str, Any] = json.loads(stored.data)
        return report

    def withdraw(self, tenant: str) -> None:
        self._customers[tenant].revoke_consent()

    def throttle(self, tenant: str, seconds: float) -> None:
        self._customers[tenant].actions.throttle(HOUR_S + seconds)

    def exports(self, tenant: str) -> int:
        return len(self._customers[tenant].actions.exports())

    def writes(self, tenant: str) -> int:
        calls = self._customers[tenant].world.calls
        return sum(one.method not in ("GET", "HEAD") and not one.action.endswith("/read") for one in calls)

    def forget_calls(self) -> None:
        for customer in self._customers.values():
            customer.world.calls.clear()

    def strangers(self, tenant: str) -> int:
        others = {one.principal for one in self._customers.values() if one.name != tenant} - {""}
        return sum(one.app in others for one in self._customers[tenant].world.calls)


@contextmanager
def azure_ground() -> Iterator[AzureGround]:
    """Open the local Azure. Raises Unavailable."""
    clock = LaneClock(SystemClock().now())
    with LocalAzure(subscriptions=1, customers=TENANTS, clock=clock, fleet=True) as azure:
        environment = azure.environment()
        before = {name: os.environ.get(name) for name in _IDENTITY}
        os.environ.update({name: environment[name] for name in _IDENTITY})
        try:
            yield AzureGround(azure, clock)
        finally:
            drop_clients()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _discard(_level: str, _event: str, _fields: Mapping[str, object]) -> None:
    """Drop a log line: the rows say what became of each tenant."""
