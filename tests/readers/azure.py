"""Tailpipe's reader on Azure: reads data and metrics as its enterprise application."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from azure.core.pipeline.policies import ContentDecodePolicy, SansIOHTTPPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.resource.subscriptions import SubscriptionClient
from azure.storage.blob import BlobServiceClient, ContainerClient

MANAGEMENT, STORAGE = "https://management.azure.com", "https://storage.azure.com"
METRICS_API = "2024-02-01"
# Returns a token of Tailpipe's application for an audience, issued by the customer's tenant.
Tokens = Callable[[str], str]


class Reader:
    """Reads as Tailpipe, with only the values of an onboarding document.

    Raises azure-core's errors if Azure refuses a call, and the errors of the connection. The caller closes it.
    """

    def __init__(self, endpoint: str, tokens: Tokens, onboarding: Mapping[str, Any]) -> None:
        storage = onboarding["storage"]
        self._endpoint, self._account = endpoint, str(storage["accountResourceId"])
        self.subscriptions_client = subscriptions(endpoint, tokens)
        self.arm = resource_manager(endpoint, tokens)
        self.storage = blob_service(str(storage["blobEndpoint"]), tokens)
        self.container: ContainerClient = self.storage.get_container_client(str(storage["container"]))

    def close(self) -> None:
        """Close the connections."""
        for one in (self.subscriptions_client, self.arm, self.storage):
            one.close()

    def subscriptions(self) -> list[str]:
        """Return the ids of the subscriptions whose metrics can be read."""
        return [str(one.subscription_id) for one in self.subscriptions_client.subscriptions.list()]

    def manifests(self, prefix: str = "tailpipe/") -> list[str]:
        """Return the names of all manifests below a folder."""
        return [
            name for name in self.container.list_blob_names(name_starts_with=prefix) if name.endswith("/manifest.json")
        ]

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield the rows of every file in the manifests."""
        for manifest in self.manifests():
            for file in json.loads(self.read(manifest))["blobs"]:
                yield from csv.DictReader(
                    io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(self.read(file["blobName"]))), "utf-8-sig")
                )

    def read(self, name: str) -> bytes:
        """Return one blob."""
        return bytes(self.container.get_blob_client(name).download_blob().readall())

    def metrics(self, name: str = "UsedCapacity") -> list[str]:
        """Return the names of the storage account's metrics in the response."""
        path = f"{self._account}/providers/Microsoft.Insights/metrics"
        answer = self.call("GET", path, METRICS_API, query=f"&metricnames={name}")
        return [str(one["name"]["value"]) for one in answer["value"]]

    def call(self, method: str, path: str, version: str, body: Any = None, query: str = "") -> Any:
        """Call Resource Manager; return the JSON document of the response."""
        answer = self.arm.send_request(
            HttpRequest(method, f"{self._endpoint}{path}?api-version={version}{query}", json=body)
        )
        answer.raise_for_status()
        return answer.json()


class _Token(SansIOHTTPPolicy[Any, Any]):
    """Policy that sends a token over plain HTTP, which the SDK's policy refuses."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {self._tokens(MANAGEMENT)}"


class _NoCredential:
    """Credential without a token, because a policy sends it."""

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        raise AssertionError("nothing asks for a token over plain HTTP")


def resource_manager(endpoint: str, tokens: Tokens) -> Any:
    """Return a client of Resource Manager without retries."""
    return ARMPipelineClient(base_url=endpoint, policies=[ContentDecodePolicy(), _Token(tokens)])


def subscriptions(endpoint: str, tokens: Tokens) -> Any:
    """Return the SDK's client of subscriptions, without retries."""
    made: Any = SubscriptionClient
    return made(_NoCredential(), base_url=endpoint, policies=[ContentDecodePolicy(), _Token(tokens)])


def blob_service(url: str, tokens: Tokens) -> BlobServiceClient:
    """Return a client of a storage account without retries."""

    def send(request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {tokens(STORAGE)}"

    return BlobServiceClient(url, raw_request_hook=send, retry_total=0)
