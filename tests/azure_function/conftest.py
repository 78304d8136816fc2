"""Fixtures with local tenants: one per module, in which each test adds its own subscriptions, or a fresh one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.state import Behavior
from tests.azure_function.support import BILLED, HOUR, advance, local_azure, run


@pytest.fixture(scope="module")
def tenant() -> Iterator[LocalAzure]:
    """Return a deployed tenant for a whole module: each test adds subscriptions and runs only those."""
    with local_azure(Behavior(stale_etag=409), subscriptions=2) as cloud:
        yield cloud
        drop_clients()


@pytest.fixture
def shared(tenant: LocalAzure) -> Iterator[LocalAzure]:
    """Return the tenant of the module, with an empty call log and without injected faults."""
    tenant.calls.clear()
    yield tenant
    tenant.clear_faults()


@pytest.fixture
def azure(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a fresh tenant with six subscriptions, deployed, before its first run."""
    with local_azure(subscriptions=6, azurite=azurite) as cloud:
        yield cloud
        drop_clients()


@pytest.fixture
def keyless(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return settings with which the function uses only its managed identity, for storage as well."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, azure.environment()[name])
    return azure.keyless()


@pytest.fixture
def covered(azure: LocalAzure) -> LocalAzure:
    """Return a fresh tenant whose exports exist, have delivered, and are recorded in the state."""
    run(azure)
    azure.deliver()
    advance(azure, HOUR)
    assert run(azure).report["status"] == "ok"
    azure.calls.clear()
    return azure


@pytest.fixture
def billed() -> Iterator[LocalAzure]:
    """Return a tenant whose subscriptions are covered by the only export, that of a billing scope."""
    with local_azure(subscriptions=3) as cloud:
        cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": cloud.subscription_ids})
        cloud.grant_billing()
        run(cloud, **BILLED)
        cloud.deliver()
        advance(cloud, HOUR)
        assert run(cloud, **BILLED).report["status"] == "ok"
        assert len(cloud.exports()) == 1
        yield cloud
