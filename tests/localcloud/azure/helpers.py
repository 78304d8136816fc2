"""The Azure SDK's clients for a local Azure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import ContentDecodePolicy, HeadersPolicy, RequestIdPolicy, SansIOHTTPPolicy
from azure.mgmt.billing import BillingManagementClient
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.managementgroups import ManagementGroupsMgmtClient
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.subscriptions import SubscriptionClient
from azure.storage.blob import BlobServiceClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER

NAME = "TailpipeDataExport-tests"
CLIENT_TYPE = "tailpipe-tests"


class _Token(SansIOHTTPPolicy[Any, Any]):
    """Policy that sends a fixed bearer token, also over plain HTTP."""

    def __init__(self, token: str) -> None:
        self._token = token

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {self._token}"


class _NoCredential:
    """Credential without a token, because a policy sends it."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        raise AssertionError("nothing asks for a token over plain HTTP")


class Sdk:
    """All clients that the function uses, without retries, with one token.

    They are declared as Any, because every field of the models may be None to a type checker.
    """

    def __init__(self, cloud: LocalAzure, closing: ExitStack, token: str = "", client_type: str = CLIENT_TYPE) -> None:
        self._cloud, self._closing = cloud, closing
        self._token = token or cloud.token()
        self._headers = {"ClientType": client_type} if client_type else {}

    def client(self, kind: Callable[..., Any], *arguments: str, **options: Any) -> Any:
        """Return a management client of the SDK.

        Its policies are listed explicitly, because by default the SDK registers providers and retries.
        """
        policies = [RequestIdPolicy(), HeadersPolicy(self._headers), ContentDecodePolicy(), _Token(self._token)]
        made = kind(_NoCredential(), *arguments, base_url=self._cloud.endpoint, policies=policies, **options)
        return self._closing.enter_context(made)

    @property
    def exports(self) -> Any:
        return self.client(CostManagementClient).exports

    @property
    def subscriptions(self) -> Any:
        return self.client(SubscriptionClient)

    @property
    def groups(self) -> Any:
        return self.client(ManagementGroupsMgmtClient)

    @property
    def billing(self) -> Any:
        return self.client(BillingManagementClient, self._cloud.subscription_ids[0])

    def resources(self, subscription: str) -> Any:
        return self.client(ResourceManagementClient, subscription)

    @property
    def blobs(self) -> BlobServiceClient:
        return self._closing.enter_context(self._cloud.blob_client())

    def create(self, number: int = 0, name: str = NAME, **changes: Any) -> Any:
        """Create an export in the subscription with that index."""
        return self.exports.create_or_update(scope(self._cloud, number), name, export(self._cloud, number, **changes))

    def names(self) -> list[str]:
        """Return the names of the blobs in the destination."""
        return list(self.blobs.get_container_client(CONTAINER).list_blob_names())


def scope(cloud: LocalAzure, number: int = 0) -> str:
    """Return the scope of the subscription with that index."""
    return f"/subscriptions/{cloud.subscription_ids[number]}"


def export(cloud: LocalAzure, number: int = 0, tag: str = "", identity: bool = False, **changes: Any) -> dict[str, Any]:
    """Return an export's body with changes: `__` in a name stands for a dot, and None removes the field."""
    body: dict[str, Any] = {
        "properties": {
            "schedule": {
                "status": "Active",
                "recurrence": "Daily",
                "recurrencePeriod": {"from": "2026-01-06T00:00:00Z", "to": "2099-12-31T00:00:00Z"},
            },
            "format": "Csv",
            "compressionMode": "gzip",
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "partitionData": True,
            "deliveryInfo": {
                "destination": {
                    "type": "AzureBlob",
                    "resourceId": cloud.destinations[0].id,
                    "container": CONTAINER,
                    "rootFolderPath": f"tailpipe{scope(cloud, number)}",
                }
            },
            "definition": {
                "type": "ActualCost",
                "timeframe": "MonthToDate",
                "dataSet": {"granularity": "Daily"},
            },
        }
    }
    if tag:
        body["eTag"] = tag
    if identity:
        body |= {"identity": {"type": "SystemAssigned"}, "location": "westeurope"}
    for path, value in changes.items():
        *above, last = path.split("__")
        inner = body["properties"]
        for part in above:
            inner = inner[part]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return body


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[int, str, str]:
    """Return status, code and message of the error that a call raises; a paged listing is read completely."""
    error = failure(call, *arguments, **options)
    detail: Any = error.error
    return error.status_code or 0, detail.code, detail.message


def failure(call: Callable[..., Any], *arguments: Any, **options: Any) -> HttpResponseError:
    """Return the SDK's error that a call raises."""
    try:
        answer = call(*arguments, **options)
        if hasattr(answer, "by_page"):
            list(answer)
    except HttpResponseError as error:
        return error
    raise AssertionError("the call was accepted")


def refused_headers(call: Callable[..., Any], *arguments: Any) -> dict[str, str]:
    """Return the headers of the 429 that a call raises."""
    error = failure(call, *arguments)
    response: Any = error.response
    assert error.status_code == 429
    return dict(response.headers)
