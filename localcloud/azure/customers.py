"""Other Entra tenants beside the provider's, each with subscriptions, rights and storage of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcloud.azure.control_api import AzureActions
from localcloud.azure.iam.entra import read_claims
from localcloud.azure.iam.identity import OPERATOR, Identity
from localcloud.azure.iam.rights import OWNER
from localcloud.azure.platform.deployment import CONTAINER, onboard
from localcloud.azure.quotas import Limits, Quotas
from localcloud.azure.resource_manager import ResourceManager
from localcloud.azure.services.blob_gate import BlobGate
from localcloud.azure.services.blobs import Connections
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import Behavior, BlobStore, World
from localcloud.azure.wire import Answer, Request

GROUP = "tailpipe-dataexport"
APPLICATION = made_up_id("the multi-tenant application")  # its client ID


def customer_name(number: int) -> str:
    """Return the name of a customer's tenant, which is also a valid tenant ID of a registry."""
    return f"customer-{number:03d}"


def customer_account(number: int) -> str:
    """Return the name of a customer's storage account."""
    return f"customer{number:03d}exports"


@dataclass(frozen=True)
class Ground:
    """What all tenants of a local Azure share: the provider's `world`, storage, and how a customer is set up.

    `deliveries`: the application may store documents of deliveries in the customers' containers.
    """

    world: World
    blobs: BlobStore
    blob_port: int
    blob_endpoint: str
    key: str
    location: str
    behavior: Behavior
    limits: Limits
    agreements: Sequence[str]
    subscriptions: int
    rights: Path
    deliveries: bool
    sync: Callable[[], None]


class CustomerTenant:
    """A tenant whose owner has admitted the multi-tenant application and assigned it the roles of the invitation.

    `cloud.customers[0].actions` are its control actions, over HTTP `POST {endpoint}/_local/tenants/<name>/<action>`.
    Its `world` has a call log, faults and quotas of its own.
    """

    def __init__(self, ground: Ground, number: int, connections: Connections) -> None:
        self.name, self.id = customer_name(number), made_up_id("customer", number)
        self._ground, self._number, self._consents = ground, number, 0
        entra = ground.world.entra
        entra.add(self.id, self.name)
        self.world = World(
            ground.world.clock,
            self.id,
            ground.behavior,
            ground.blobs,
            ground.sync,
            entra=entra,
            quotas=Quotas(ground.limits),
        )
        self.world.rights.assign("/", OPERATOR, OWNER, made_up_id("assignment", self.id, "operator"))
        for index in range(ground.subscriptions):
            agreement = ground.agreements[index % len(ground.agreements)]
            name = f"{self.name}-{index:05d}"
            self.world.directory.join(name, agreement, subscription=made_up_id("subscription", name))
        first = next(iter(self.world.directory.subscriptions))
        self.account = StorageAccount(customer_account(number), first, GROUP, ground.location, ground.key)
        self.world.accounts[self.account.name] = self.account
        self.world.resource_groups[(first, GROUP)] = ground.location
        deliveries = self.deliveries = Deliveries(self.world)
        self._identity = Identity(self.id, "")
        self.actions = AzureActions(self.world, deliveries, self._identity)
        self.arm = ResourceManager(self.world, deliveries, self._identity, ground.blob_endpoint)
        self.gate = BlobGate(self.world, self._identity, ground.blob_port, ground.sync, connections)
        self.consent()

    @property
    def subscription_ids(self) -> list[str]:
        return list(self.world.directory.subscriptions)

    @property
    def principal(self) -> str:
        """The object ID of the application's principal in this tenant; "" after consent was revoked."""
        found = self.world.entra.tenants[self.id].principals.get(APPLICATION)
        return found.object_id if found else ""

    def entry(self) -> dict[str, str]:
        """Return the `entry` of the tenant for a registry."""
        return {"tenant_id": self.id, "client_id": APPLICATION}

    def destination(self) -> dict[str, str]:
        """Return the `destination` of the tenant for a registry."""
        return {"storage_account": self.account.id, "container": CONTAINER}

    def consent(self, roles: bool = True) -> str:
        """Admit the application and, with `roles`, assign it the roles of the invitation; return its object ID.

        As in Entra ID, each consent after a revocation creates a new principal: former assignments are not its own.
        """
        self._consents += 1
        object_id = made_up_id("principal", self.id, self._consents)
        with self._ground.world.lock:
            self.world.entra.consent(self.id, APPLICATION, object_id)
        self._identity.principal = object_id
        if roles:
            with self.world.lock:
                rights, deliveries = self._ground.rights, self._ground.deliveries
                onboard(self.world, object_id, self.account, rights, deliveries=deliveries)
        return object_id

    def revoke_consent(self) -> None:
        """Delete the application's principal, as an administrator who removes the enterprise application."""
        with self._ground.world.lock:
            self.world.entra.tenants[self.id].principals.pop(APPLICATION, None)

    def disable_application(self, disabled: bool = True) -> None:
        """Disable sign-in of the application in this tenant, or enable it again."""
        with self._ground.world.lock:
            self.world.entra.tenants[self.id].principals[APPLICATION].enabled = not disabled

    def refuse_tokens(self, code: int = 53003) -> None:
        """Refuse every token with an error of `entra.REFUSALS`; 0 issues them again."""
        with self._ground.world.lock:
            self.world.entra.tenants[self.id].refuses = code


class Customers(list[CustomerTenant]):
    """The customers' tenants, found by what a request names. `home` serves everything else."""

    def __init__(self, home: World, found: Sequence[CustomerTenant]) -> None:
        super().__init__(found)
        self._home = home
        self._by_tenant = {one.id: one for one in found}
        self._by_account = {one.account.name: one for one in found}
        self._owners: dict[str, CustomerTenant | None] = {}

    def called(self, request: Request) -> CustomerTenant | None:
        """Return the tenant that answers a call of Resource Manager; None for the provider's.

        A path in a subscription belongs to that subscription's tenant, whose answer to another tenant's token is the
        documented refusal. Any other path belongs to the tenant of the token.
        """
        parts = request.path.split("/", 3)
        if len(parts) > 2 and parts[1].lower() == "subscriptions":
            return self._owner(parts[2].lower())
        claims = read_claims(request.headers.get("authorization", "").partition(" ")[2]) or {}
        return self._by_tenant.get(str(claims.get("tid", "")))

    def storing(self, request: Request) -> CustomerTenant | None:
        """Return the tenant of the storage account that a request names; None for the provider's."""
        return self._by_account.get(request.path.lstrip("/").partition("/")[0])

    def _owner(self, subscription: str) -> CustomerTenant | None:
        if subscription in self._home.directory.subscriptions:
            return None
        known = self._owners.get(subscription)
        if known is None or subscription not in known.world.directory.subscriptions:
            known = next((one for one in self if subscription in one.world.directory.subscriptions), None)
            self._owners[subscription] = known
        return known


class CustomerGate:
    """Blob storage of all tenants: each account's requests go to the gate of its tenant."""

    def __init__(self, home: BlobGate, customers: Customers) -> None:
        self._home, self._customers = home, customers

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        found = self._customers.storing(request)
        return (found.gate if found else self._home)(request)
