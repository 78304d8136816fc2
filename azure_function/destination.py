"""What exports rest on: the storage account, its container, and the registration of the exports service."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from azure_function import guides
from azure_function.clients import ARM_READ, ARM_WRITE, STORAGE, Clients
from azure_function.errors import CONTAINER_MISSING, RIGHTS_REMEDY
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import EXPORTS_PROVIDER
from shared.cloud import Applied
from shared.errors import CloudError, Denied, Manual, NotApplicable, NotFound, Permanent, RunStopped, Transient
from shared.model import Absent, Action, Guide, Health, Observation, Present, Result, Target, Unknown
from shared.observe import as_surveyed
from shared.run import Run

STORAGE_API = "2023-05-01"
DEPLOY = "Apply the deployment again (infra/azure): it owns this and puts it right."
guides.EXPORTS_DOC = "https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports"


class Destination:
    """Observes and writes the targets of the destination, and registers providers where a refusal asks for it."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._lock = threading.Lock()
        self._asked: set[tuple[str, str]] = set()

    def account_of(self, target: Target) -> Storage:
        """Return the account that a container's target lies in."""
        name = target.key.name.partition("/")[0]
        return next(
            one for one in self._settings.destination if one.name == name and one.subscription == target.key.scope
        )

    def container(self, target: Target, listing: CloudError | None) -> Observation:
        """Look at the account, and say what the listing of its container has shown (`listing` is its failure)."""
        account = self.account_of(target)
        try:
            properties = self._properties(account)
        except RunStopped:
            raise
        except (NotFound, NotApplicable) as error:
            return _missing(account, error)
        except CloudError:
            # What the account allows is told by the exports' own refusals too: not to know it here stops nothing.
            properties = {}
        keys = properties.get("allowSharedKeyAccess", True)
        if keys is False and not self._settings.identity:
            return Present({"state": "there"}, Health.MANUAL, code="storage-keys-disabled", guide=guides.KEYS_DISABLED)
        if listing is None:
            return Present({"state": "there"})
        if isinstance(listing, NotFound):
            if listing.code in CONTAINER_MISSING or properties:
                return Absent(("list",), f"container {self._settings.container} is not in {account.name}")
            return _missing(account, listing)
        return _unseen(listing, f"container {target.key.name}")

    def registration(self, target: Target) -> Observation:
        """Look at the registration of the exports service in a destination's subscription."""
        try:
            state = self._state(target.key.scope)
        except RunStopped:
            raise
        except CloudError as error:
            return _unseen(error, f"the registration of {EXPORTS_PROVIDER}")
        if state == "Registered":
            return Present()
        if state == "Registering":
            return Present(health=Health.PENDING, code="registering", detail="Azure is registering it")
        return Absent(("get",), f"{EXPORTS_PROVIDER} is {state or 'not registered'}")

    def apply(self, action: Action) -> Applied:
        """Create a container, or ask for a registration. Raises CloudError."""
        if action.target.key.name == EXPORTS_PROVIDER:
            self.register(action.target.key.scope, EXPORTS_PROVIDER)
            return Applied(Result.PENDING, "Azure takes some minutes to register it")
        account = self.account_of(action.target)
        client = self._clients.container(account.name, self._settings.container)
        try:
            self._run.calls(STORAGE, client.create_container)
        except (Permanent, Transient) as error:
            # Another run was quicker, which is as good.
            if error.code != "ContainerAlreadyExists":
                raise
        return Applied()

    def register(self, subscription: str, namespace: str) -> None:
        """Ask once a run for a provider's registration. Raises CloudError, Manual where the right is missing."""
        with self._lock:
            if (subscription, namespace) in self._asked:
                return
            self._asked.add((subscription, namespace))
        try:
            providers = self._clients.resources(subscription).providers
            self._run.calls(ARM_WRITE, providers.register, namespace)
        except Denied as denied:
            step = f"az provider register --namespace {namespace} --subscription {subscription}"
            guide = Guide(
                f"{namespace} has to be registered in subscription {subscription}, and the function may not do it",
                (f"Run: {step}", RIGHTS_REMEDY),
                "https://learn.microsoft.com/azure/azure-resource-manager/management/resource-providers-and-types",
            )
            raise Manual("provider-unregistered", guide, denied.message) from denied

    def _state(self, subscription: str) -> str:
        provider = self._run.calls(ARM_READ, self._clients.resources(subscription).providers.get, EXPORTS_PROVIDER)
        return str(provider.registration_state or "")

    def _properties(self, account: Storage) -> Mapping[str, Any]:
        answer = self._run.calls(ARM_READ, self._clients.arm_get, account.id, STORAGE_API)
        properties = answer.get("properties")
        return properties if isinstance(properties, Mapping) else {}


def _missing(account: Storage, error: CloudError) -> Unknown:
    guide = Guide(
        f"the storage account {account.name} of DESTINATION is not there: {error.message}",
        (DEPLOY, "Or correct DESTINATION to the resource id of an account that exists."),
        guides.EXPORTS_DOC,
    )
    return Unknown("destination-missing", guide.what, guide)


def _unseen(error: CloudError, what: str) -> Observation:
    """Return what a failed read of `what` lets us say: never Absent."""
    guide = Guide(f"{what} cannot be read: {error.message}", (error.remedy or RIGHTS_REMEDY,))
    return as_surveyed(error, guide)
