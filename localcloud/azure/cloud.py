"""`LocalAzure`: an Azure tenant on this machine, for demos and tests.

The module is over 350 lines because it documents and wires every option of the local Azure.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from azure.storage.blob import BlobServiceClient

from localcloud.azure.calls import CallLog
from localcloud.azure.control_api import AzureActions
from localcloud.azure.customers import (
    APPLICATION,
    CustomerGate,
    Customers,
    CustomerTenant,
    Ground,
    customer_account,
)
from localcloud.azure.errors import ArmError
from localcloud.azure.faults import Faults
from localcloud.azure.gateway import Gateway
from localcloud.azure.iam.caller import token_for
from localcloud.azure.iam.entra import LOGIN, Application, FederatedCredential
from localcloud.azure.iam.grants import RIGHTS
from localcloud.azure.iam.identity import OPERATOR, PATH, Identity, function_principal
from localcloud.azure.iam.rights import OWNER
from localcloud.azure.platform.deployment import (
    CONTAINER,
    REGISTRY_CONTAINER,
    deploy,
    fleet_settings,
    serve_tenants,
)
from localcloud.azure.platform.publishing import Publishing
from localcloud.azure.platform.sites import Site
from localcloud.azure.quotas import Limits
from localcloud.azure.resource_manager import ResourceManager
from localcloud.azure.runtime.function_app import FunctionApp, Start
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.azure.services.agreements import AGREEMENTS
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.services.blob_gate import MAX_BLOB_BODY, BlobGate
from localcloud.azure.services.blobs import Blobs, Connections
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.event_grid import PATH as TOPIC
from localcloud.azure.services.event_grid import Topic
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.graph import GLOBAL_ADMINISTRATOR, Graph
from localcloud.azure.services.graph import PREFIX as GRAPH
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.services.token_endpoint import PREFIX as ENTRA
from localcloud.azure.services.token_endpoint import TokenEndpoint
from localcloud.azure.services.vault import PREFIX as VAULT
from localcloud.azure.services.vault import Vault
from localcloud.azure.state import Behavior, World
from localcloud.azure.wire import Answer, Request, served
from localcloud.common.control_api import ControlApi
from localcloud.common.foreground import uninterrupted
from localcloud.common.http_server import LoopbackServer
from localcloud.common.local_cloud import LocalCloud
from shared.runtime.clock import Clock, SystemClock

TENANT = made_up_id("tenant")
GROUP = "tailpipe-dataexport"  # the deployment's resource group, and the only one in the tenant
LOCATION = "westeurope"
SCHEDULE = "0 17 * * * *"  # hourly, in the timer trigger's six fields
ROUND_SCHEDULE = "0 47 * * * *"  # with a fleet, as in the module
EVENT_SCHEDULE = "0 4-59/5 * * * *"  # the event check's timer, as in the module
# One key for all accounts, as long as a real one; it is valid only for this Azurite.
KEY = base64.b64encode(hashlib.sha512(b"the local Azure's storage").digest()).decode()
_MANAGEMENT = "https://management.azure.com"
HOST = "tailpipehost"
PARTNER = "partner"  # the billing account of the customers
MAX_BODY = 4 * 1024 * 1024  # Resource Manager's own limit


def account_names(count: int) -> list[str]:
    """Return the names of the first `count` storage accounts for exports."""
    return [f"tailpipedataexport{number:02d}" for number in range(count)]


def start_azurite(storage_accounts: int = 1, clock: Clock | None = None, customers: int = 0) -> Azurite:
    """Start an emulator that several local Azures can share, one at a time; the caller stops it.

    It also has the accounts of `customers` tenants. With no `clock` or a SystemClock, the emulator uses the machine's
    clock; otherwise it follows `clock`.
    """
    virtual = clock is not None and not isinstance(clock, SystemClock)
    names = [*account_names(storage_accounts), HOST, *map(customer_account, range(customers))]
    return Azurite(dict.fromkeys(names, KEY), clock.now() if clock and virtual else None)


class LocalAzure(LocalCloud):
    """A context manager that serves a local Azure on 127.0.0.1 while it is open.

    `subscriptions` are distributed over the management groups `production` and `sandbox`. `agreements` sets the mix of
    their offers as weights (`{"ea": 8, "webdirect": 1}`, see `agreements.AGREEMENTS`). The `storage_accounts`
    destinations are in the first subscriptions, one in each; the host's storage account is in the first subscription.
    With `identity_exports`, key access to the destinations is off and the function can assign roles on them. `group`
    is the management group that the function covers (default: the root group). `listed` are the indexes of the
    subscriptions that it covers instead of a group. `rights` is the file with the function's and Tailpipe's rights.

    With `activity_log`, the function reads the activity logs of all subscriptions in the central workspace. With
    `deliveries`, it announces deliveries: Event Grid has a topic, and events of the manifests in the destinations.
    With `bare`, the tenant has no resources and the function has no rights. `customers` are the other Entra tenants,
    each with `customer_subscriptions` and a storage account of its own, that the function enters by the multi-tenant
    application `APPLICATION`, which trusts the function's user-assigned identity TENANTS_IDENTITY (see `Customers`).
    With `fleet`, the deployment serves tenants: it has that identity, an empty registry, and rounds; the customers are
    also those of the partner billing account `PARTNER`, which operators can read.
    `clock` drives everything, including Azurite's Last-Modified; a VirtualClock can be shared with the function.
    `azurite` is an existing emulator to use (see `start_azurite`): it is emptied first and left running. `start` runs
    the function app's code on first use (see `function_app`). By default, `behavior` has no delays and `limits` are
    the documented quotas.

    The actions (`cloud.join_subscription("new")`, see `AzureActions`) change the live state, as does
    `POST {endpoint}/_local/<action>`. Raises AzuriteError if Node or Azurite is missing, OSError if the port is in
    use, ValueError for inconsistent settings.
    """

    ACTIONS = AzureActions

    def __init__(
        self,
        subscriptions: int = 3,
        port: int = 0,
        bare: bool = False,
        clock: Clock | None = None,
        agreements: Mapping[str, int] | None = None,
        storage_accounts: int = 1,
        identity_exports: bool = False,
        behavior: Behavior | None = None,
        limits: Limits | None = None,
        azurite: Azurite | None = None,
        start: Start | None = None,
        group: str = "",
        listed: Sequence[int] = (),
        rights: Path = RIGHTS,
        activity_log: bool = False,
        deliveries: bool = False,
        customers: int = 0,
        customer_subscriptions: int = 2,
        fleet: bool = False,
    ) -> None:
        super().__init__()
        mix = [name for name, weight in (agreements or {"ea": 1}).items() for _ in range(weight)]
        unknown = sorted(set(mix) - set(AGREEMENTS))
        if unknown or not mix:
            raise ValueError(f"agreements {', '.join(unknown) or '(none)'} are not among {', '.join(AGREEMENTS)}")
        if not 1 <= storage_accounts <= subscriptions:
            raise ValueError(f"{subscriptions} subscriptions cannot hold {storage_accounts} storage accounts, one each")
        self._subscriptions, self._port, self._bare, self._mix = subscriptions, port, bare, mix
        self._storage_accounts, self._identity_exports = storage_accounts, identity_exports
        self._behavior, self._limits = behavior or Behavior(), limits or Limits()
        self.clock: Clock = clock or SystemClock()
        self._names = [*account_names(storage_accounts), HOST]
        self._customers, self._customer_subscriptions = customers, customer_subscriptions
        self._fleet = fleet
        self._customer_names = [customer_account(number) for number in range(customers)]
        if azurite and (
            {*self._names, *self._customer_names} - set(azurite.accounts) or azurite.manual != self._virtual
        ):
            raise ValueError("This Azurite has different accounts or a different type of clock.")
        self._shared_azurite = azurite
        self.tenant = TENANT
        self._azurite: Azurite | None = None
        self._app_server: LoopbackServer | None = None
        self._accounts: dict[str, StorageAccount] = {}
        self._start, self._group, self._listed, self._rights = start, group, listed, rights
        self._activity_log = activity_log
        self._announces = deliveries
        self._gate: LoopbackServer | None = None
        self._answer_app: Callable[[Request], Answer] = lambda _request: Answer(status=404)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        self._app_server = self._gate = None

    @property
    def actions(self) -> AzureActions:
        return self._actions

    @property
    def blob_endpoint(self) -> str:
        """Azurite's endpoint, `http://127.0.0.1:PORT`; the account is the first part of the path."""
        if self._azurite is None:
            raise RuntimeError("the local Azure is not open")
        return self._azurite.endpoint

    @property
    def faults(self) -> Faults:
        return self.world.faults

    @property
    def calls(self) -> CallLog:
        return self.world.calls

    @property
    def principal(self) -> str:
        """The object id of the function's identity."""
        return self.identity.principal

    @property
    def subscription_ids(self) -> list[str]:
        return list(self.world.directory.subscriptions)

    @property
    def destinations(self) -> list[StorageAccount]:
        """The storage accounts for exports, without the host's."""
        return [self._accounts[name] for name in self._names if name != HOST]

    def token(self, user: bool = False) -> str:
        """Return a bearer token of the function's identity, or of a user with the same roles."""
        return token_for(self.tenant, self.identity.principal, _MANAGEMENT, user)

    def operator_token(self) -> str:
        """Return a bearer token of the operator who deploys and owns the tenant, except for denied actions."""
        return token_for(self.tenant, OPERATOR, _MANAGEMENT, user=True)

    def app_token(self, app: str, audience: str = _MANAGEMENT, tenant: str = "") -> str:
        """Return a bearer token for an enterprise application, as Entra ID issues it; `app` is its application ID.

        `tenant` sets a different issuer, whose token this tenant rejects. Raises KeyError if the application is not in
        the tenant.
        """
        return token_for(tenant or self.tenant, self.world.service_principals[app], audience)

    def keyless(self) -> dict[str, str]:
        """Return the overrides of `environment` for a function that uses only its identity, also for storage.

        Its tokens come from the identity endpoint, and blob storage checks its roles. Raises RuntimeError if the cloud
        is not open.
        """
        if self._gate is None:
            raise RuntimeError("the local Azure is not open")
        endpoint = self._gate.endpoint
        state = f"{endpoint}/{self.host_account.name}"
        return {"ARM_TOKEN": "", "BLOB_KEY": "", "BLOB_ENDPOINT": endpoint, "STATE_ACCOUNT": state}

    def connection_string(self, account: str = "") -> str:
        """Return a connection string for azure-storage-blob, by default for the first destination."""
        found = self._accounts[account] if account else self.destinations[0]
        return (
            f"DefaultEndpointsProtocol=http;AccountName={found.name};AccountKey={found.key};"
            f"BlobEndpoint={self.blob_endpoint}/{found.name};"
        )

    def blob_client(self, account: str = "") -> BlobServiceClient:
        """Return a client for a storage account (default: the first destination); the caller closes it."""
        return BlobServiceClient.from_connection_string(self.connection_string(account))

    def environment(self) -> dict[str, str]:
        """Return endpoints, credentials and, unless the tenant is bare, the settings of a deployed function.

        `ARM_ENDPOINT` is Resource Manager and `ARM_TOKEN` a token of the function's identity. `BLOB_ENDPOINT` is
        Azurite (`{BLOB_ENDPOINT}/{account}`) and `BLOB_KEY` the key of all its accounts, because Azurite accepts bearer
        tokens only over TLS. `ARM_OPERATOR_TOKEN` is a token of a user who owns the tenant, `GRAPH_ENDPOINT` is
        Microsoft Graph and `FUNCTION_ENDPOINT` is the function app's URL. azure-identity uses `IDENTITY_ENDPOINT` and
        `IDENTITY_HEADER` to find a managed identity.
        """
        variables = self._platform() | {
            "ARM_OPERATOR_TOKEN": self.operator_token(),
            "GRAPH_ENDPOINT": f"{self.endpoint}{GRAPH}",
        }
        if self._app_server is not None:
            variables["FUNCTION_ENDPOINT"] = self._app_server.endpoint
        return variables if self._bare else variables | self._settings()

    @property
    def _virtual(self) -> bool:
        return not isinstance(self.clock, SystemClock)

    def put_registry(self, data: bytes) -> None:
        """Store a tenant registry where the function reads it: in the first destination, as an operator does."""
        account = self.destinations[0].name
        self.world.blobs.make_container(account, REGISTRY_CONTAINER)
        self.world.blobs.put([(account, REGISTRY_CONTAINER, "tenants.json", data)])

    def sync(self) -> None:
        """Set Azurite's clock to the local time; needed only for a virtual clock. Every ARM call does it."""
        if self._azurite is not None and self._virtual:
            self._azurite.set_time(self.clock.now())

    def settle(self) -> int:
        """Deliver the data of all runs that are due and return their number. Every ARM call does this too."""
        settled = 0
        for world, deliveries in [
            (self.world, self._deliveries),
            *((one.world, one.deliveries) for one in self.customers),
        ]:
            with world.lock:
                settled += deliveries.settle()
        return settled

    def _open(self) -> None:
        azurite = self._shared_azurite
        if azurite is None:
            with uninterrupted():
                azurite = start_azurite(self._storage_accounts, self.clock, self._customers)
                self._stack.callback(azurite.stop)
        self._azurite = azurite
        self.sync()
        blobs = Blobs(azurite.port, dict.fromkeys([*self._names, *self._customer_names], KEY))
        self._stack.callback(blobs.close)
        if self._shared_azurite:
            blobs.empty()
        self.world = World(self.clock, self.tenant, self._behavior, blobs, self.sync)
        self.world.quotas.limits = self._limits
        self.world.emulated = dict.fromkeys(self._names, KEY)
        self.world.host_site = self._created
        self.identity = Identity(self.tenant, function_principal(), self.world.entra, self.world.assigned_identities)
        deliveries = self._deliveries = Deliveries(self.world)
        self._actions = AzureActions(self.world, deliveries, self.identity)
        self._fill()
        arm = ResourceManager(self.world, deliveries, self.identity, azurite.endpoint)
        control = ControlApi(self._actions, ArmError)
        connections = Connections(azurite.port)
        self._stack.callback(connections.close)
        self.customers = self._admit_customers(blobs, azurite, connections)
        self._actions.customers.update({one.name: one for one in self.customers})
        if self._fleet:
            names = {one.id: one.name for one in self.customers}
            self._actions.add_billing_account(PARTNER, "MicrosoftPartnerAgreement", customers=names)
            self._actions.grant_billing(OPERATOR)
        graph, vault, topic = Graph(self.world), Vault(self.world), Topic(self.world)
        tokens = TokenEndpoint(self.world)
        gateway = Gateway(arm, graph, vault, topic, self.identity, control, self.sync, tokens, self.customers)
        server = LoopbackServer(self.faults.wire.around(gateway), self._port, MAX_BODY)
        self._server = server
        self._stack.callback(server.stop)
        gate = BlobGate(self.world, self.identity, azurite.port, self.sync, connections)
        self._gate = LoopbackServer(
            self.faults.wire.around(served(CustomerGate(gate, self.customers))), max_body=MAX_BLOB_BODY
        )
        self._stack.callback(self._gate.stop)
        if self._activity_log:
            self._actions.send_activity_log()
        self._serve_apps()
        if not self._bare:
            self._deploy()
        self._gate.start()
        server.start()

    @property
    def tenants_identity(self) -> str:
        """The client id of the user-assigned identity that the tenants' applications trust."""
        return self._tenants_ids[0]

    @property
    def _tenants_ids(self) -> tuple[str, str]:
        return made_up_id("the identity for tenants"), made_up_id("the identity for tenants", "object")

    def _admit_customers(self, blobs: Blobs, azurite: Azurite, connections: Connections) -> Customers:
        """Register the multi-tenant application, which trusts a second identity of the function, in every customer."""
        entra = self.world.entra
        entra.add(self.tenant, "provider")
        client, principal = self._tenants_ids
        self.identity.assigned[client] = principal
        application = entra.applications[APPLICATION] = Application(APPLICATION, self.tenant, "Tailpipe Exports")
        application.trust(FederatedCredential(f"{LOGIN}/{self.tenant}/v2.0", principal))
        ground = Ground(
            self.world,
            blobs,
            azurite.port,
            azurite.endpoint,
            KEY,
            LOCATION,
            self._behavior,
            self._limits,
            self._mix,
            self._customer_subscriptions,
            self._rights,
            self._announces,
            self.sync,
        )
        found = [CustomerTenant(ground, number, connections) for number in range(self._customers)]
        return Customers(self.world, found)

    def _fill(self) -> None:
        directory = self.world.directory
        for group in ("production", "sandbox"):
            directory.add_group(group)
        for number in range(self._subscriptions):
            group = "sandbox" if number % 3 == 2 else "production"
            directory.join(f"subscription-{number:05d}", self._mix[number % len(self._mix)], group)
        ids = self.subscription_ids
        logs = f"/subscriptions/{ids[0]}/resourceGroups/logs/providers/Microsoft.OperationalInsights"
        self.world.activity_workspace = f"{logs}/workspaces/central-activity"
        self.world.rights.assign("/", OPERATOR, OWNER, made_up_id("assignment", "operator"))
        self.world.directory_roles[OPERATOR] = {GLOBAL_ADMINISTRATOR}
        for number, name in enumerate(self._names):
            owner = ids[number if number < self._storage_accounts else 0]
            self._accounts[name] = StorageAccount(name, owner, GROUP, LOCATION, KEY)
            # The emulator always has the accounts; a bare tenant does not.
            if not self._bare:
                self.world.accounts[name] = self._accounts[name]
                self.world.resource_groups[(owner, GROUP)] = LOCATION
        self.host_account = self._accounts[HOST]

    def _deploy(self) -> None:
        """Create the resources of a deployment and start the function app's server."""
        settings = {name: value for name, value in self._settings().items() if name != "AzureWebJobsStorage"}
        site = self.site = deploy(
            self.world,
            self.principal,
            self.destinations,
            self.host_account,
            settings,
            self._identity_exports,
            self._group,
            [self.subscription_ids[number] for number in self._listed],
            self._rights,
        )
        if self._fleet:
            serve_tenants(self.world, site, self.destinations[0], *self._tenants_ids)
        if self._announces:
            self.world.manifest_events.subscribe(self.destinations, CONTAINER)
        self._host(site)

    def _created(self, site: Site) -> None:
        """Give a site that a deployment creates its identity, and run its code."""
        site.principal, site.loads = self.principal, False
        self.site = site
        self._host(site)

    def _host(self, site: Site) -> None:
        """Run the code of a function app behind the tenant's server for apps."""
        app = FunctionApp(site, self._platform(), self._start and self._started)
        site.functions = app.functions
        self._actions.push_event = app.push
        self._actions.tick_timer = app.tick
        publishing = Publishing(self.world, site)
        site.publish = publishing.store
        self._answer_app = lambda request: publishing.answer(request) or app.answer(request)
        # Stop the functions first: the server waits for requests that they are still handling.
        self._stack.callback(app.close)

    def _started(self, environment: Mapping[str, str]) -> AzureWorker:
        """Start the function's code. An account that a deployment names lies in the emulator, not in Azure."""
        account = environment.get("STATE_ACCOUNT", "")
        own = {} if "://" in account else {"STATE_ACCOUNT": f"{self.blob_endpoint}/{account}"}
        if self._start is None:
            raise RuntimeError("this local Azure runs no code")
        return self._start({**environment, **own})

    def _app(self, request: Request) -> Answer:
        return self._answer_app(request)

    def _serve_apps(self) -> None:
        """Start the server for function apps, which answers 404 until there is one."""
        server = LoopbackServer(served(self._app), max_body=MAX_BLOB_BODY)
        self._stack.callback(server.stop)
        server.start()
        self._app_server = server

    def _settings(self) -> dict[str, str]:
        """Return the function's app settings for this cloud."""
        return {
            "DESTINATION": ",".join(one.id for one in self.destinations),
            "DESTINATION_CONTAINER": CONTAINER,
            "EXPORT_IDENTITY": "system" if self._identity_exports else "none",
            "EXPORT_LOCATION": LOCATION,
            "STATE_ACCOUNT": f"{self.blob_endpoint}/{self.host_account.name}",
            # Backfill is off by default, because each month costs one call per export.
            "BACKFILL_MONTHS": "0",
            "AzureWebJobsStorage": self.connection_string(self.host_account.name),
            "SCHEDULE": SCHEDULE,
            "EVENT_SCHEDULE": EVENT_SCHEDULE,
            **({"ACTIVITY_LOG_WORKSPACE": self.world.activity_workspace} if self._activity_log else {}),
            **({"DELTAS": "1", "DELIVERY_TOPIC": f"{self.endpoint}{TOPIC}"} if self._announces else {}),
            **({"MANAGEMENT_GROUP": self._group} if self._group and not self._listed else {}),
            **({"INCLUDE_SUBSCRIPTIONS": self._included()} if self._listed else {}),
            **(fleet_settings(self.tenants_identity, ROUND_SCHEDULE) if self._fleet else {}),
        }

    def _included(self) -> str:
        return ",".join(self.subscription_ids[number] for number in self._listed)

    def _platform(self) -> dict[str, str]:
        """Return the platform's environment variables: this cloud's endpoints and the function's identity."""
        token = self.token()
        self.world.static_tokens.add(token)
        return {
            "ARM_ENDPOINT": self.endpoint,
            "ARM_TOKEN": token,
            "BLOB_ENDPOINT": self.blob_endpoint,
            "BLOB_KEY": KEY,
            "VAULT_ENDPOINT": f"{self.endpoint}{VAULT}",
            "AZURE_TENANT_ID": self.tenant,
            "IDENTITY_ENDPOINT": f"{self.endpoint}{PATH}",
            "IDENTITY_HEADER": self.identity.header,
            **(self._platform_of_tenants() if self._customers or self._fleet else {}),
        }

    def _platform_of_tenants(self) -> dict[str, str]:
        """Return where tokens of other tenants come from, and storage that checks the tokens of callers."""
        if self._gate is None:
            raise RuntimeError("the local Azure is not open")
        return {
            "BLOB_ENDPOINT": self._gate.endpoint,
            "AUTHORITY_ENDPOINT": f"{self.endpoint}{ENTRA}",
            "TENANTS_IDENTITY": self.tenants_identity,
        }
