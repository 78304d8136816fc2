"""Tenants: one for a whole module, where each test takes subscriptions of its own, and fresh ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from tests.azure_function.support import HOUR, advance, local_azure, run


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalAzure]:
    """Return a deployed tenant that a module's tests share: each joins subscriptions and runs for these alone."""
    with local_azure(Behavior(stale_etag=409), subscriptions=2) as cloud:
        yield cloud
        drop_clients()


@pytest.fixture
def shared(tenant: LocalAzure) -> Iterator[LocalAzure]:
    """Return the module's tenant without faults, and with an empty call log."""
    tenant.calls.clear()
    yield tenant
    tenant.clear_faults()


@pytest.fixture
def azure(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a fresh tenant of six subscriptions as it is after a deployment, no run done yet."""
    with local_azure(subscriptions=6, azurite=azurite) as cloud:
        yield cloud
        drop_clients()


@pytest.fixture
def keyless(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the settings with which the function works by its identity alone, in storage as well."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, azure.environment()[name])
    return azure.keyless()


@pytest.fixture
def covered(azure: LocalAzure) -> LocalAzure:
    """Return a fresh tenant that two runs have brought to rest: everything is there, delivered and remembered."""
    run(azure)
    azure.deliver()
    advance(azure, HOUR)
    assert run(azure).report["status"] == "ok"
    azure.calls.clear()
    return azure
