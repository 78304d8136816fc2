"""Azure SDK clients with one connection pool, reused between invocations, without SDK retries.

State, registry, vault and topic are called with the deployment's own credential, everything else in the name of the
tenant whose run it is, with the credential of its entry; without a tenant, both are the same.

The module is over 350 lines because all clients, their pipelines and their quotas are configured in one place.
"""

from __future__ import annotations

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

from azure_function.answers import (
    CLIENT_TYPE,
    BoundedAdapter,
    ClientTypePolicy,
    LoopbackTokenPolicy,
    Pipe,
    ResponseValidationPolicy,
    SameOriginPolicy,
    raise_busy_identity_endpoint,
    validate_storage_response,
)
from azure_function.entry import EntryCredential, LoopbackAuthority, by_certificate, by_identity, claims_of, not_here
from azure_function.settings import AzureSettings, Entry
from shared.redaction import remember_secret
from shared.runtime.rate_limit import Rate
from shared.runtime.warm_clients import WarmClients

if TYPE_CHECKING:
    from azure.mgmt.billing import BillingManagementClient
    from azure.mgmt.managementgroups import ManagementGroupsMgmtClient
    from azure.mgmt.resource.resources import ResourceManagementClient

COST, ARM_READ, ARM_WRITE, BILLING, STORAGE = "costmanagement", "arm-read", "arm-write", "billing", "storage"
VAULT, RESOURCE_GRAPH, LOG_ANALYTICS = "key-vault", "resource-graph", "log-analytics"
EVENT_GRID = "event-grid"

# Cost Management: 200 calls a minute per tenant and client type, as the headers of its 429 responses show. Its window
# is not documented, so no period of a minute may contain more than 200 calls: 193 at a steady rate, and a margin for
# calls that arrive closer together than they were sent. Its second limit, 30 calls a minute per scope, cannot be
# reached with the few calls that each scope gets. Resource Manager, per subscription: reads 250, refilled at 25 a
# second; writes 200, refilled at 10 a second ("Understand how Azure Resource Manager throttles requests"). The rates
# below leave most of that to other clients. Billing: no published limit. Storage: 20,000 requests a second per account
# ("Scalability and performance targets for standard storage accounts"). Key Vault: 4,000 reads of secrets in 10 seconds
# per vault ("Key Vault service limits"). Resource Graph: 15 queries in 5 seconds per identity ("Guidance for throttled
# requests in Azure Resource Graph"). Log Analytics: 200 queries in 30 seconds per identity ("Azure Monitor service
# limits"). Event Grid: 5,000 events or 5 MB a second per topic ("Azure Event Grid quotas and limits").
RATES = {
    COST: Rate(193 / 60, 2),
    ARM_READ: Rate(15, 50),
    ARM_WRITE: Rate(5, 20),
    BILLING: Rate(2, 5),
    STORAGE: Rate(100, 100),
    VAULT: Rate(10, 10),
    RESOURCE_GRAPH: Rate(1, 5),
    LOG_ANALYTICS: Rate(1, 5),
    EVENT_GRID: Rate(50, 50),
}

CONNECT_S, READ_S = 5, 30
SECRETS_API = "7.4"
# Of the clients that request tokens: `shared.runtime.calls` retries.
OWN_RETRIES: dict[str, Any] = {"retry_total": 0, "raw_response_hook": raise_busy_identity_endpoint}
EVENT_GRID_SCOPE = "https://eventgrid.azure.net/.default"
STORAGE_SCOPE = "https://storage.azure.com/.default"
MOST_WARM = 8  # the deployment's own clients, and those of the tenants whose runs overlap in this process
NEVER_EXPIRES = 2**33  # Unix time in seconds, in the year 2242
FIRST_READ = 16 * 1024 * 1024  # bytes; the state of 20,000 subscriptions is smaller
LISTING_S = 60  # a page of 5,000 blobs is several megabytes


class StaticTokenCredential:
    """A credential that always returns the configured token; only for loopback endpoints."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, NEVER_EXPIRES)


class Clients:
    """Creates each client once, on first use. Safe to use from several threads."""

    def __init__(self, settings: AzureSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._built: dict[str, Any] = {}
        self.read_secrets: dict[str, str] = {}  # URI → value
        self._in_functions = bool(environment.get("IDENTITY_ENDPOINT") or environment.get("MSI_ENDPOINT"))
        remember_secret(settings.client_secret, settings.arm_token, settings.blob_key)
        self._session = requests.Session()
        # With trust_env, requests reads the proxy settings for every call, which takes as long as a local call itself.
        # Loopback endpoints need no proxy.
        self._session.trust_env = not settings.arm_endpoint
        adapter = BoundedAdapter(
            pool_connections=8,
            pool_maxsize=max(10, settings.engine.workers),
            max_retries=0,
        )
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    @property
    def credential(self) -> TokenCredential:
        """The credential of the cloud that the run covers: of the tenant's entry, else the deployment's own."""
        entry = self._settings.entry
        if entry is None:
            return self.own_credential
        return cast("TokenCredential", self._once("entry", lambda: self._enter(entry)))

    @property
    def own_credential(self) -> TokenCredential:
        """The deployment's own: the service principal of the settings, the managed identity, or the default."""
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

        # The client requires a subscription, but its calls to billing accounts do not use it.
        unused = self._settings.destination[0].subscription
        build = lambda: BillingManagementClient(subscription_id=unused, **self._arm())  # noqa: E731 - built once
        return cast("BillingManagementClient", self._once("billing", build))

    def resources(self, subscription: str) -> ResourceManagementClient:
        """Return the client for the resource providers and generic resources of a subscription."""
        from azure.mgmt.resource.resources import ResourceManagementClient

        build = lambda: ResourceManagementClient(subscription_id=subscription, **self._arm())  # noqa: E731 - built once
        return cast("ResourceManagementClient", self._once(f"resources {subscription}", build))

    def arm_get(self, path: str, api_version: str) -> Any:
        """Return the JSON at a path of Resource Manager that none of the SDK clients covers. Raises SDK errors."""
        return self._ask(HttpRequest("GET", f"{path}?api-version={api_version}"))

    def arm_post(self, path: str, api_version: str, body: dict[str, Any]) -> Any:
        """Return the JSON response to a query at a path of Resource Manager. Raises SDK errors."""
        return self._ask(HttpRequest("POST", f"{path}?api-version={api_version}", json=body))

    def _ask(self, request: HttpRequest) -> Any:
        response = self.cost.send_request(request)
        response.raise_for_status()
        return response.json()

    def container(self, account: str, container: str) -> ContainerClient:
        """Return the client of a container in one of the destination's storage accounts."""
        return self._blobs(self._settings.blob_url(account)).get_container_client(container)

    def state(self, container: str) -> ContainerClient:
        """Return the client of a container in the storage account of the function app."""
        return self._blobs(self._settings.state_url, own=True).get_container_client(container)

    def registry(self, container: str) -> ContainerClient:
        """Return the client of a container in the storage account of the tenant registry."""
        return self._blobs(self._settings.registry_url, own=True).get_container_client(container)

    def secret(self, reference: str) -> Any:
        """Return the document of a secret in Key Vault, with `value`. Raises SDK errors.

        Source: "Get Secret", Azure Key Vault REST API; a URI without a version returns the newest one.
        """
        response = self.vault(reference).send_request(
            HttpRequest("GET", f"{self.vault_url(reference)}?api-version={SECRETS_API}")
        )
        response.raise_for_status()
        return response.json()

    def vault_url(self, reference: str) -> str:
        """Return the URL to read a secret from: its own URI, or its path at the loopback endpoint if one is set."""
        override = self._settings.vault_endpoint.rstrip("/")
        return f"{override}{urlsplit(reference).path}" if override else reference.rstrip("/")

    def vault(self, reference: str) -> PipelineClient[Any, Any]:
        """Return a client for the vault of a secret.

        It is an azure-core pipeline: reading secrets alone does not justify shipping the Key Vault SDK.
        """
        url, settings = self.vault_url(reference), self._settings
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        loopback = parts.scheme == "http"
        bearer: type[Pipe] = LoopbackTokenPolicy if loopback else BearerTokenCredentialPolicy
        policies: list[Pipe] = [
            RequestIdPolicy(),
            UserAgentPolicy(CLIENT_TYPE),
            SameOriginPolicy(origin),
            ResponseValidationPolicy(),
            bearer(self.own_credential, f"https://{settings.cloud.vault_suffix}/.default"),
        ]

        def build() -> PipelineClient[Any, Any]:
            return PipelineClient(origin, policies=policies, transport=self._transport(READ_S))

        return cast("PipelineClient[Any, Any]", self._once(f"vault {origin}", build))

    @property
    def event_grid(self) -> PipelineClient[Any, Any]:
        """The client of the topic that deliveries are published to: a pipeline, as for the vault."""
        parts = urlsplit(self._settings.delivery_topic)
        origin = f"{parts.scheme}://{parts.netloc}"
        bearer: type[Pipe] = LoopbackTokenPolicy if parts.scheme == "http" else BearerTokenCredentialPolicy
        policies: list[Pipe] = [
            RequestIdPolicy(),
            UserAgentPolicy(CLIENT_TYPE),
            SameOriginPolicy(origin),
            bearer(self.own_credential, EVENT_GRID_SCOPE),
        ]

        def build() -> PipelineClient[Any, Any]:
            return PipelineClient(origin, policies=policies, transport=self._transport(READ_S))

        return cast("PipelineClient[Any, Any]", self._once(f"event grid {origin}", build))

    def claims(self) -> dict[str, str]:
        """Return the claims ``tid``, ``oid`` and ``appid`` of the access token; {} if the token is opaque.

        Raises the credential's errors.
        """
        claims = claims_of(self.credential.get_token(self._scope).token)
        return {name: claims[name] for name in ("tid", "oid", "appid") if name in claims}

    @property
    def _scope(self) -> str:
        # The token's audience is not the endpoint's host in every cloud: azure.mgmt.core.tools.get_arm_endpoints.
        if "usgovcloudapi" in self._settings.cloud.resource_manager:
            return "https://management.core.usgovcloudapi.net/.default"
        return f"{self._settings.cloud.resource_manager}/.default"

    def _arm(self) -> dict[str, Any]:
        """Return the keyword arguments that all clients of Resource Manager share.

        The policies are listed explicitly because the SDK's default pipeline registers resource providers, waits for
        them without a limit, and retries for minutes.
        """
        settings = self._settings
        loopback = settings.arm_endpoint.startswith("http://")
        bearer: type[Pipe] = LoopbackTokenPolicy if loopback else BearerTokenCredentialPolicy
        authentication = bearer(self.credential, self._scope)
        return {
            "credential": self.credential,
            "base_url": settings.arm_endpoint or settings.cloud.resource_manager,
            "credential_scopes": [self._scope],
            "policies": [
                RequestIdPolicy(),
                UserAgentPolicy(CLIENT_TYPE),
                ClientTypePolicy(),
                SameOriginPolicy(settings.arm_endpoint or settings.cloud.resource_manager),
                ResponseValidationPolicy(),
                authentication,
            ],
            "transport": self._transport(READ_S),
        }

    def _transport(self, read_s: int) -> RequestsTransport:
        return RequestsTransport(
            session=self._session, session_owner=False, connection_timeout=CONNECT_S, read_timeout=read_s
        )

    def _blobs(self, url: str, *, own: bool = False) -> BlobServiceClient:
        def build() -> BlobServiceClient:
            loopback = url.startswith("http://")
            # The key of a loopback endpoint stands for the deployment's own credential, never for a tenant's entry.
            key = self._settings.blob_key if loopback and (own or not self._settings.entry) else ""
            credential = self.own_credential if own else self.credential
            account = url.rsplit("/", 1)[1] if loopback else urlsplit(url).netloc.partition(".")[0]

            def send_token(request: PipelineRequest[Any]) -> None:
                """Add the token to a plain HTTP request: the SDK requires HTTPS for tokens."""
                request.http_request.headers["Authorization"] = f"Bearer {credential.get_token(STORAGE_SCOPE).token}"

            return BlobServiceClient(
                url,
                credential=AzureNamedKeyCredential(account, key) if key else None if loopback else credential,
                raw_request_hook=send_token if loopback and not key else None,
                transport=self._transport(LISTING_S),
                retry_total=0,
                permit_redirects=False,
                raw_response_hook=validate_storage_response,
                # Upload a state of several megabytes in one request, so that each save creates one version.
                max_single_put_size=64 * 1024 * 1024,
                max_single_get_size=FIRST_READ,
                max_chunk_get_size=FIRST_READ,
            )

        return cast("BlobServiceClient", self._once(f"blobs {own} {url}", build))

    def enter_by_own_identity(self) -> str:
        """Return a token for the tenant, with the deployment's own identity as the proof of the entry's application.

        Only TENANTS_IDENTITY is to be trusted, so the tenant has to refuse: this is for the check of an entry. Raises
        Unreachable then, and RunStopped without an entry.
        """
        entry = self._settings.entry
        if entry is None or not self._in_functions:
            raise not_here(entry)
        return self._by_identity(entry, self._settings.client).get_token(self._scope).token

    def _enter(self, entry: Entry) -> EntryCredential:
        """Return the credential of a tenant's entry. Raises RunStopped if this deployment cannot prove it."""
        if entry.certificate:
            return by_certificate(entry, self.secret, **self._sign_in())
        if not self._in_functions:
            raise not_here(entry)
        return self._by_identity(entry, self._settings.tenants_identity)

    def _by_identity(self, entry: Entry, client: str) -> EntryCredential:
        from azure.identity import ManagedIdentityCredential

        identity = ManagedIdentityCredential(client_id=client or None, **OWN_RETRIES)
        return by_identity(self._settings, cast("TokenCredential", identity), entry, **self._sign_in())

    def _sign_in(self) -> dict[str, Any]:
        """Return the keyword arguments of the credentials that request tokens of another tenant."""
        authority, endpoint = self._settings.cloud.authority, self._settings.authority_endpoint
        options: dict[str, Any] = {"authority": authority, **OWN_RETRIES, "transport": self._transport(READ_S)}
        if endpoint:
            transport = LoopbackAuthority(authority, endpoint, session=self._session, session_owner=False)
            options |= {"disable_instance_discovery": True, "transport": transport}
        return options

    def _credential(self) -> TokenCredential:
        settings = self._settings
        if settings.arm_token:
            return cast("TokenCredential", StaticTokenCredential(settings.arm_token))
        from azure.identity import ClientSecretCredential, DefaultAzureCredential, ManagedIdentityCredential

        authority = settings.cloud.authority
        if settings.client_secret:
            return ClientSecretCredential(
                settings.entra_tenant, settings.client, settings.client_secret, authority=authority, **OWN_RETRIES
            )
        if self._in_functions:
            return ManagedIdentityCredential(client_id=settings.client or None, **OWN_RETRIES)
        return DefaultAzureCredential(
            authority=authority,
            managed_identity_client_id=settings.client or None,
            exclude_environment_credential=True,  # only the settings choose the credential
        )

    def close(self) -> None:
        """Close the pooled connections. The clients can still be used; they open new ones."""
        self._session.close()

    def _once(self, name: str, build: Callable[[], Any]) -> Any:
        with self._lock:
            if name not in self._built:
                self._built[name] = build()
            return self._built[name]


_warm = WarmClients[Clients](MOST_WARM)


def warm_clients(settings: AzureSettings, environment: Mapping[str, str]) -> Clients:
    """Return the clients of an earlier invocation for the same tenant, endpoints and credentials, else new ones."""
    key = (
        settings.cloud.resource_manager,
        settings.arm_endpoint,
        settings.blob_endpoint,
        settings.arm_token,
        settings.blob_key,
        settings.entra_tenant,
        settings.client,
        settings.client_secret,
        settings.tenant,
        settings.entry,
        settings.tenants_identity,
        settings.authority_endpoint,
        settings.state_url,
        settings.registry_url,
        settings.engine.workers,
        settings.destination[0].subscription,
        settings.vault_endpoint,
        settings.delivery_topic,
        environment.get("IDENTITY_ENDPOINT", ""),
    )
    return _warm.get(key, lambda: Clients(settings, environment))


def drop_clients() -> None:
    """Close the cached clients and remove them from the cache."""
    _warm.drop()
