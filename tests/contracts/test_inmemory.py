"""The contract suites against the in-memory cloud and store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from shared.errors import Denied, Permanent
from shared.model import Key
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.settings import EngineSettings
from shared.state.store import report_name
from tests.contracts.cloud_contract import CloudContract
from tests.contracts.store_contract import StoreContract
from tests.inmemory import RATES, InMemoryCloud, InMemoryStore, World


class InMemoryHarness:
    """Twelve scopes whose roles become visible after one minute."""

    def __init__(self) -> None:
        self.world = World(12)
        self.world.delay = timedelta(minutes=1)
        self.clock = VirtualClock()
        self.blob = InMemoryStore(VirtualClock())
        self.seed = 0

    def run(self) -> RunContext:
        self.seed += 1
        return RunContext(
            "memory", EngineSettings(), lambda *_: None, self.clock, 600, RATES,
            lambda error: Permanent("unexpected", str(error)), self.seed,
        )  # fmt: skip

    def cloud(self, run: RunContext) -> InMemoryCloud:
        return InMemoryCloud(self.world, run)

    def store(self, run: RunContext) -> InMemoryStore:
        return self.blob

    def delete_state(self) -> None:
        self.blob.documents.clear()

    def delete(self, key: Key) -> None:
        del self.world.things[key]

    def export_key(self) -> Key:
        return Key("s00003", "export", "daily")

    def exports(self) -> list[str]:
        return [key.name for key in self.world.things if key[:2] == ("s00003", "export")]

    @contextmanager
    def enumeration_denied(self) -> Iterator[None]:
        self.world.faults["enumerate", "*"] = Denied("access-denied", "listing scopes is not allowed")
        yield
        self.world.faults.clear()

    @contextmanager
    def reads_denied(self) -> Iterator[None]:
        for operation in ("list", "read"):
            self.world.faults[operation, "*"] = Denied("access-denied", "reading is not allowed")
        yield
        self.world.faults.clear()

    def settle(self) -> None:
        self.clock.advance(120)


class InMemoryStoreHarness:
    """One store in a dictionary."""

    def __init__(self) -> None:
        self.blob = InMemoryStore(VirtualClock())

    def store(self) -> InMemoryStore:
        return self.blob

    def stored(self, name: str) -> bytes:
        reports = {report_name(run_id): data for run_id, data in self.blob.reports.items()}
        return {**self.blob.documents, **self.blob.aside, **reports}[name]

    @contextmanager
    def denied(self) -> Iterator[None]:
        error = Denied("access-denied", "not allowed")
        self.blob.faults = {"load": error, "save": error}
        yield
        self.blob.faults = {}


class TestInMemoryCloud(CloudContract):
    """Run the provider contract with the in-memory cloud."""

    @pytest.fixture
    def harness(self) -> InMemoryHarness:
        return InMemoryHarness()


class TestInMemoryStore(StoreContract):
    """Run the store contract with the in-memory store."""

    @pytest.fixture
    def store_harness(self) -> InMemoryStoreHarness:
        return InMemoryStoreHarness()
