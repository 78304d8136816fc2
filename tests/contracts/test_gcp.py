"""The contract suites against the GCP adapter, over HTTP to the local GCP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

import pytest

from gcp_function.clients import RATES, warm_clients
from gcp_function.errors import translate
from gcp_function.provider import GcpCloud
from gcp_function.settings import read_settings
from gcp_function.state_store import KEY, GcsStore
from localcloud.gcp.cloud import LocalGcp
from shared.model import Key
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.contracts.cloud_contract import CloudContract
from tests.contracts.store_contract import StoreContract

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
MANIFEST = "/manifest.json"


class GcpHarness:
    """Three accounts with enabled exports, with data and without a copy."""

    def __init__(self, local: LocalGcp) -> None:
        self.local = local
        self.settings = read_settings(local.environment())
        self.clients = warm_clients(self.settings)
        self.seed = 0

    def run(self) -> RunContext:
        self.seed += 1
        clock = self.local.clock
        return RunContext("gcp", self.settings.engine, lambda *_: None, clock, 600, RATES, translate, self.seed)

    def cloud(self, run: RunContext) -> GcpCloud:
        return GcpCloud(self.settings, self.clients, run)

    def store(self, run: RunContext | None = None) -> GcsStore:
        return GcsStore(self.settings, self.clients, run or self.run())

    def delete_state(self) -> None:
        self.local.delete_objects(self.settings.state_bucket, KEY)

    def delete(self, key: Key) -> None:
        kind, day = key.name.split("/")
        self.local.delete_copy(key.scope, day, kind)

    def export_key(self) -> Key:
        return Key(next(iter(self.local.accounts())), "copy", "standard/2026-01-03")

    def exports(self) -> list[str]:
        names = self.local.copies(f"{self.export_key().scope}/")
        parts = [name.removesuffix(MANIFEST).split("/") for name in names if name.endswith(MANIFEST)]
        return [f"{kind}/{day}" for _, day, kind in parts]

    @contextmanager
    def deny_permissions(self, *permissions: str) -> Iterator[None]:
        for permission in permissions:
            self.local.deny(permission)
        try:
            yield
        finally:
            for permission in permissions:
                self.local.allow(permission)

    def enumeration_denied(self) -> AbstractContextManager[None]:
        return self.deny_permissions("billing.accounts.list", "billing.accounts.get")

    def reads_denied(self) -> AbstractContextManager[None]:
        return self.deny_permissions("storage.objects.list", "storage.objects.get")

    def settle(self) -> None:
        self.local.advance(60)


class GcpStoreHarness(GcpHarness):
    """The same project as a store harness."""

    def stored(self, name: str) -> bytes:
        bucket, key = name.removeprefix("gs://").split("/", 1) if "://" in name else ("", name)
        storage = self.clients.storage
        return bytes(storage.bucket(bucket or self.settings.state_bucket).blob(key).download_as_bytes())

    def denied(self) -> AbstractContextManager[None]:
        return self.deny_permissions("storage.objects.get", "storage.objects.create")


@pytest.fixture
def local() -> Iterator[LocalGcp]:
    """Return a new project with three accounts and four days of data."""
    with LocalGcp(accounts=3, done=3, clock=VirtualClock(START), history_days=4, rows=3) as cloud:
        yield cloud


class TestGcpCloud(CloudContract):
    """Run the provider contract with the GCP adapter."""

    @pytest.fixture
    def harness(self, local: LocalGcp) -> GcpHarness:
        return GcpHarness(local)


class TestGcpStore(StoreContract):
    """Run the store contract with the Cloud Storage store."""

    @pytest.fixture
    def store_harness(self, local: LocalGcp) -> GcpStoreHarness:
        return GcpStoreHarness(local)
