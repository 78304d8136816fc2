"""Microsoft's SDK as a script uses it, with its own retries, against the local Azure in virtual time."""

from __future__ import annotations

import os
from typing import Any

from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.subscriptions import SubscriptionClient
from azure.storage.blob import ContainerClient

from localcloud.common.remote_clock import RemoteClock


class _Token(SansIOHTTPPolicy[Any, Any]):
    """Sends a token of the tenant's owner, as scripts run today; the SDK's own policy refuses addresses without TLS."""

    def on_request(self, request: PipelineRequest[HttpRequest]) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {os.environ['ARM_OPERATOR_TOKEN']}"


class _Transport(RequestsTransport):  # type: ignore[misc]  # the package exports it without a type
    """Lets the SDK's waits pass on the local cloud's clock."""

    def __init__(self, clock: RemoteClock) -> None:
        super().__init__()
        self._clock = clock

    def sleep(self, duration: float) -> None:
        self._clock.wait_until(self._clock.monotonic() + duration)


class Sdk:
    """The clients of a script. `sleep` waits in virtual time."""

    def __init__(self, clock: RemoteClock) -> None:
        self._clock = clock
        self._options: dict[str, Any] = {
            "base_url": os.environ["ARM_ENDPOINT"],
            "authentication_policy": _Token(),
            "transport": _Transport(clock),
        }
        none: Any = object()
        self.costs = CostManagementClient(none, **self._options)
        self.subscriptions = SubscriptionClient(none, **self._options)

    def resources(self, subscription: str) -> ResourceManagementClient:
        """Return the client of a subscription's providers."""
        none: Any = object()
        return ResourceManagementClient(none, subscription, **self._options)

    def container(self, name: str) -> ContainerClient:
        """Return the client of a container in the function's account."""
        account = os.environ["DESTINATION"].rsplit("/", 1)[1]
        key: Any = {"account_name": account, "account_key": os.environ["BLOB_KEY"]}
        return ContainerClient(f"{os.environ['BLOB_ENDPOINT']}/{account}", name, credential=key)

    def sleep(self, seconds: float) -> None:
        """Wait in virtual time."""
        self._clock.wait_until(self._clock.monotonic() + seconds)
