"""The contract suites against the Azure adapter, over HTTP to the local Azure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from azure_function.clients import RATES, drop_clients, warm_clients
from azure_function.errors import translate
from azure_function.provider import AzureCloud
from azure_function.settings import STATE_CONTAINER, read_settings
from azure_function.state_store import NAME, BlobStore
from localcloud.azure.cloud import LocalAzure
from shared.model import Key
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.contracts.cloud_contract import CloudContract
from tests.contracts.store_contract import StoreContract


class AzureHarness:
    """A tenant after a deployment, without an export."""

    def __init__(self, local: LocalAzure) -> None:
        self.local = local
        environment = local.environment()
        self.settings = read_settings(environment)
        self.clients = warm_clients(self.settings, environment)
        self.seed = 0

    def run(self) -> RunContext:
        self.seed += 1
        settings = self.settings.engine
        return RunContext("azure", settings, lambda *_: None, self.local.clock, 600, RATES, translate, self.seed)

    def cloud(self, run: RunContext) -> AzureCloud:
        return AzureCloud(self.settings, self.clients, run)

    def store(self, run: RunContext | None = None) -> BlobStore:
        return BlobStore(self.settings, self.clients, run or self.run())

    def delete_state(self) -> None:
        with self.local.blob_client(self.local.host_account.name) as client:
            client.get_blob_client(STATE_CONTAINER, NAME).delete_blob()

    def delete(self, key: Key) -> None:
        self.local.delete_export(key.scope, key.name)

    def export_key(self) -> Key:
        subscription = self.local.subscription_ids[0]
        return Key(subscription, "export", f"TailpipeDataExport-{subscription[-6:]}")

    def exports(self) -> list[str]:
        return [str(one["name"]) for one in self.local.exports(self.export_key().scope)]

    @contextmanager
    def deny_actions(self, *actions: str) -> Iterator[None]:
        for action in actions:
            self.local.faults.add(action, "AuthorizationFailed", "not allowed", status=403, times=None)
        try:
            yield
        finally:
            self.local.faults.clear()

    def enumeration_denied(self) -> AbstractContextManager[None]:
        return self.deny_actions("Microsoft.Resources/subscriptions/read")

    def reads_denied(self) -> AbstractContextManager[None]:
        return self.deny_actions("Microsoft.CostManagement/exports/read")

    def settle(self) -> None:
        self.local.advance(60)
        self.local.deliver()
        self.local.sync()


class AzureStoreHarness(AzureHarness):
    """The same tenant as a store harness."""

    def stored(self, name: str) -> bytes:
        blob = name.partition(f"/{STATE_CONTAINER}/")[2] or name
        with self.local.blob_client(self.local.host_account.name) as client:
            return client.get_blob_client(STATE_CONTAINER, blob).download_blob().readall()

    @contextmanager
    def denied(self) -> Iterator[None]:
        """Make Storage refuse the function's key, as it refuses an identity without its role."""
        signer: Any = self.clients.state(STATE_CONTAINER).credential
        key, signer.account_key = signer.account_key, "bm8ga2V5"
        try:
            yield
        finally:
            signer.account_key = key


@pytest.fixture
def local() -> Iterator[LocalAzure]:
    """Return a fresh tenant of eight subscriptions."""
    with LocalAzure(subscriptions=8, clock=VirtualClock()) as cloud:
        yield cloud
        drop_clients()


class TestAzureCloud(CloudContract):
    """Run the provider contract with the Azure adapter."""

    @pytest.fixture
    def harness(self, local: LocalAzure) -> AzureHarness:
        return AzureHarness(local)


class TestAzureStore(StoreContract):
    """Run the store contract with the blob store."""

    @pytest.fixture
    def store_harness(self, local: LocalAzure) -> AzureStoreHarness:
        return AzureStoreHarness(local)
