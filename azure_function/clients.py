"""Azure clients: one connection pool, one credential, kept warm between invocations; the SDKs' own retries off."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests
from azure.core import PipelineClient
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, TokenCredential
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import (
    BearerTokenCredentialPolicy,
    RequestIdPolicy,
    UserAgentPolicy,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient
from azure.mgmt.resource.subscriptions import SubscriptionClient
from azure.storage.blob import BlobServiceClient, ContainerClient
from requests.adapters import HTTPAdapter

from azure_function.answers import (
    CLIENT_TYPE,
    ClientType,
    LoopbackToken,
    OwnHost,
    Pipe,
    Understood,
    prove_storage,
    retry_passing,
)
from azure_function.settings import AzureSettings
from shared.redaction import remember_secret
from shared.runtime.rate_limit import Rate
from shared.runtime.warm_clients import WarmClients

if TYPE_CHECKING:
    from azure.mgmt.billing import BillingManagementClient
    from azure.mgmt.managementgroups import ManagementGroupsMgmtClient
    from azure.mgmt.resource.resources import ResourceManagementClient

COST, ARM_READ, ARM_WRITE, BILLING, STORAGE = "costmanagement", "arm-read", "arm-write", "billing", "storage"
VAULT = "key-vault"

# Cost Management: 200 calls a minute for a tenant and client type, seen in the headers of its 429. Nobody documents how
# it is counted, so no span of a minute may hold more than 200: 193 in a steady stream, and room for calls that arrive
# closer together than they left. Its second limit, 30 a minute for a scope, is out of reach of the few calls that one
# scope ever gets. Resource Manager: reads 250, refilled 25 a second, writes 200, refilled 10 a second, for a
# subscription ("Understand how Azure Resource Manager throttles requests"); most of it is left to others. Billing
# publishes no figure. Storage: 20,000 requests a second for an account ("Scalability and performance targets for
# standard storage accounts"). Key Vault: 4,000 reads of secrets in 10 seconds for a vault ("Key Vault service limits").
RATES = {
    COST: Rate(193 / 60, 2),
    ARM_READ: Rate(15, 50),
    ARM_WRITE: Rate(5, 20),
    BILLING: Rate(2, 5),
    STORAGE: Rate(100, 100),
    VAULT: Rate(10, 10),
}

CONNECT_S, READ_S = 5, 30
STORAGE_SCOPE = "https://storage.azure.com/.default"
NEVER = 2**33  # seconds of the epoch
FIRST_READ = 16 * 1024 * 1024  # bytes; more than the state of 20,000 subscriptions
LISTING_S = 60  # a page of 5,000 blobs is several megabytes


class StaticToken:
    """The credential of a loopback endpoint whose token is given."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, NEVER)


class Clients:
    """Builds each client once, on first use, from any thread."""

    def __init__(self, settings: AzureSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._built: dict[str, Any] = {}
        self.read_secrets: dict[str, str] = {}  # by their URIs
        self._in_functions = bool(environment.get("IDENTITY_ENDPOINT") or environment.get("MSI_ENDPOINT"))
        remember_secret(settings.client_secret, settings.arm_token, settings.blob_key)
        self._session = requests.Session()
        # Reading proxy settings anew for each request costs as much as the request; loopback has no proxy.
        self._session.trust_env = not settings.arm_endpoint
        adapter = HTTPAdapter(
            pool_connections=8,
            pool_maxsize=max(10, settings.engine.workers),
            max_retries=0,
        )
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    @property
    def credential(self) -> TokenCredential:
        """The identity of every call: service principal if one is configured, managed identity, else the default."""
        return cast("TokenCredential", self._once("credential", self._credential))

    @property
    def cost(self) -> CostManagementClient:
        return cast("CostManagementClient", self._once("cost", lambda: CostManagementClient(**self._arm())))

    @property
    def subscriptions(self) -> SubscriptionClient:
        return cast("SubscriptionClient", self._once("subscriptions", lambda: SubscriptionClient(**self._arm())))

    @property
    def groups(self) -> ManagementGroupsMgmtClient:
        from azure.mgmt.managementgroups import ManagementGroupsMgmtClient

        return cast(
            "ManagementGroupsMgmtClient", self._once("groups", lambda: ManagementGroupsMgmtClient(**self._arm()))
        )

    @property
    def billing(self) -> BillingManagementClient:
        from azure.mgmt.billing import BillingManagementClient

        # The client wants a subscription although nothing under billing accounts has one.
        any_one = self._settings.destination[0].subscription
        build = lambda: BillingManagementClient(subscription_id=any_one, **self._arm())  # noqa: E731 - built once
        return cast("BillingManagementClient", self._once("billing", build))

    def resources(self, subscription: str) -> ResourceManagementClient:
        """Return the client of providers and generic resources in a subscription."""
        from azure.mgmt.resource.resources import ResourceManagementClient

        build = lambda: ResourceManagementClient(subscription_id=subscription, **self._arm())  # noqa: E731 - built once
        return cast("ResourceManagementClient", self._once(f"resources {subscription}", build))

    def arm_get(self, path: str, api_version: str) -> Any:
        """Return the JSON at an absolute path of Resource Manager that no client of ours covers. Raises SDK errors."""
        answer = self.cost.send_request(HttpRequest("GET", f"{path}?api-version={api_version}"))
        answer.raise_for_status()
        return answer.json()

    def container(self, account: str, container: str) -> ContainerClient:
        """Return the client of a container in one of our storage accounts."""
        return self._blobs(self._settings.blob_url(account), account).get_container_client(container)

    def state(self, container: str) -> ContainerClient:
        """Return the client of a container in the host storage."""
        url = self._settings.state_url
        account = url.rsplit("/", 1)[1] if url.startswith("http://") else url.split("/")[2].split(".")[0]
        return self._blobs(url, account).get_container_client(container)

    def vault_url(self, reference: str) -> str:
        """Return where a secret is read: its own URI, or the same path at the loopback address in its vault's place."""
        override = self._settings.vault_endpoint.rstrip("/")
        return f"{override}{urlsplit(reference).path}" if override else reference.rstrip("/")

    def vault(self, reference: str) -> PipelineClient[Any, Any]:
        """Return the client of the vault that holds a secret.

        It is Azure's own pipeline: the function ships no SDK of Key Vault for one kind of read.
        """
        url, settings = self.vault_url(reference), self._settings
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        loopback = parts.scheme == "http"
        bearer: type[Pipe] = LoopbackToken if loopback else BearerTokenCredentialPolicy
        policies: list[Pipe] = [
            RequestIdPolicy(),
            UserAgentPolicy(CLIENT_TYPE),
            OwnHost(origin),
            Understood(),
            bearer(self.credential, f"https://{settings.cloud.vault_suffix}/.default"),
        ]

        def build() -> PipelineClient[Any, Any]:
            return PipelineClient(origin, policies=policies, transport=self._transport(READ_S))

        return cast("PipelineClient[Any, Any]", self._once(f"vault {origin}", build))

    def claims(self) -> dict[str, str]:
        """Return what the access token says of its bearer (``tid``, ``oid``, ``appid``); {} where it is opaque.

        Raises the credential's errors.
        """
        token = self.credential.get_token(self._scope).token
        try:
            body = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, ValueError, binascii.Error):
            return {}
        return {name: str(claims[name]) for name in ("tid", "oid", "appid") if name in claims}

    @property
    def _scope(self) -> str:
        # The token's audience is not the endpoint's host in every cloud: azure.mgmt.core.tools.get_arm_endpoints.
        if "usgovcloudapi" in self._settings.cloud.resource_manager:
            return "https://management.core.usgovcloudapi.net/.default"
        return f"{self._settings.cloud.resource_manager}/.default"

    def _arm(self) -> dict[str, Any]:
        """Return what every client of Resource Manager is built with.

        The policies are listed one by one: by default the SDK would register providers and wait for them without end,
        and try again for minutes by itself.
        """
        settings = self._settings
        loopback = settings.arm_endpoint.startswith("http://")
        bearer: type[Pipe] = LoopbackToken if loopback else BearerTokenCredentialPolicy
        authentication = bearer(self.credential, self._scope)
        return {
            "credential": self.credential,
            "base_url": settings.arm_endpoint or settings.cloud.resource_manager,
            "credential_scopes": [self._scope],
            "policies": [
                RequestIdPolicy(),
                UserAgentPolicy(CLIENT_TYPE),
                ClientType(),
                OwnHost(settings.arm_endpoint or settings.cloud.resource_manager),
                Understood(),
                authentication,
            ],
            "transport": self._transport(READ_S),
        }

    def _transport(self, read_s: int) -> RequestsTransport:
        return RequestsTransport(
            session=self._session, session_owner=False, connection_timeout=CONNECT_S, read_timeout=read_s
        )

    def _blobs(self, url: str, account: str) -> BlobServiceClient:
        def build() -> BlobServiceClient:
            loopback = url.startswith("http://")
            key = self._settings.blob_key if loopback else ""
            by_token = None if loopback else self.credential
            return BlobServiceClient(
                url,
                credential=AzureNamedKeyCredential(account, key) if key else by_token,
                raw_request_hook=self._send_token if loopback and not key else None,
                transport=self._transport(LISTING_S),
                retry_total=0,
                permit_redirects=False,
                raw_response_hook=prove_storage,
                # A state of megabytes goes up in one request: one write is one version.
                max_single_put_size=64 * 1024 * 1024,
                max_single_get_size=FIRST_READ,
                max_chunk_get_size=FIRST_READ,
            )

        return cast("BlobServiceClient", self._once(f"blobs {url}", build))

    def _send_token(self, request: PipelineRequest[Any]) -> None:
        """Send the token over plain HTTP, which the SDK rightly refuses: for loopback endpoints only."""
        token = self.credential.get_token(STORAGE_SCOPE).token
        request.http_request.headers["Authorization"] = f"Bearer {token}"

    def _credential(self) -> TokenCredential:
        settings = self._settings
        if settings.arm_token:
            return cast("TokenCredential", StaticToken(settings.arm_token))
        from azure.identity import ClientSecretCredential, DefaultAzureCredential, ManagedIdentityCredential

        authority = settings.cloud.authority
        own_retries: dict[str, Any] = {"retry_total": 0, "raw_response_hook": retry_passing}
        if settings.client_secret:
            return ClientSecretCredential(
                settings.tenant, settings.client, settings.client_secret, authority=authority, **own_retries
            )
        if self._in_functions:
            return ManagedIdentityCredential(client_id=settings.client or None, **own_retries)
        return DefaultAzureCredential(
            authority=authority,
            managed_identity_client_id=settings.client or None,
            exclude_environment_credential=True,  # the settings alone say what is used
        )

    def close(self) -> None:
        """Close the pooled connections; a client that is used again opens new ones."""
        self._session.close()

    def _once(self, name: str, build: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._built:
                self._built[name] = build()
            return self._built[name]


_warm = WarmClients[Clients]()


def warm_clients(settings: AzureSettings, environment: Mapping[str, str]) -> Clients:
    """Return the clients of the last invocation if endpoints and credentials are the same, else new ones."""
    key = (
        settings.cloud.resource_manager,
        settings.arm_endpoint,
        settings.blob_endpoint,
        settings.arm_token,
        settings.blob_key,
        settings.tenant,
        settings.client,
        settings.client_secret,
        settings.state_url,
        settings.engine.workers,
        settings.destination[0].subscription,
        settings.vault_endpoint,
        environment.get("IDENTITY_ENDPOINT", ""),
    )
    return _warm.get(key, lambda: Clients(settings, environment))


def drop_clients() -> None:
    """Close and forget the warm clients."""
    _warm.drop()
