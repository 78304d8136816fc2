"""Resource Manager's operations on storage accounts and containers; Azurite holds their blobs."""

from __future__ import annotations

import re
from typing import Any

from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.services.directory import check_writable
from localcloud.azure.services.storage import CONTAINER, StorageAccount, account_at
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# "Supported metrics for Microsoft.Storage/storageAccounts", Azure Monitor's reference.
_METRICS = ("UsedCapacity", "Transactions", "Ingress", "Egress", "Availability")


class StorageApi:
    """Accounts and containers. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World, blob_endpoint: str) -> None:
        self._world = world
        self._endpoint = blob_endpoint

    def list(self, request: Request) -> Answer:
        subscription = self._world.directory.get(request.path_args[0]).id
        accounts = [
            one.document(self._endpoint) for one in self._world.accounts.values() if one.subscription == subscription
        ]
        return Answer({"value": accounts})

    def get(self, request: Request) -> Answer:
        return Answer(self._account(request).document(self._endpoint))

    def update(self, request: Request) -> Answer:
        """Update key access or the firewall, or create the account (PUT)."""
        subscription, group, name = request.path_args[:3]
        check_writable(self._world.directory.get(subscription))
        body = request.json()
        given = body.get("properties")
        properties: dict[str, Any] = given if isinstance(given, dict) else {}
        try:
            account = self._account(request)
        except ArmError:
            if request.method != "PUT":
                raise
            account = self._create(subscription.lower(), group, name, body, properties)
        if request.method == "PUT":
            account.given |= properties
            account.tags = dict(body.get("tags") or {})
            account.sku = str((body.get("sku") or {}).get("name", account.sku))
        account.update(properties)
        return Answer(account.document(self._endpoint))

    def delete(self, request: Request) -> Answer:
        """Delete an account with everything in it."""
        try:
            account = self._account(request)
        except ArmError:
            return Answer(status=204)
        check_writable(self._world.directory.get(account.subscription))
        del self._world.accounts[account.name]
        return Answer(status=200)

    def check_name(self, request: Request) -> Answer:
        """Return whether an account name is available; account names are unique across Azure."""
        body = request.json()
        name, kind = body.get("name"), body.get("type")
        if not isinstance(name, str) or kind != "Microsoft.Storage/storageAccounts":
            raise ArmError(400, "InvalidRequest", "A name and the type Microsoft.Storage/storageAccounts are required.")
        if not _ACCOUNT.fullmatch(name):
            message = f"{name} is not a valid storage account name."
            return Answer({"nameAvailable": False, "reason": "AccountNameInvalid", "message": message})
        if name in self._world.accounts or name in self._world.taken_names:
            message = f"The storage account named {name} is already taken."
            return Answer({"nameAvailable": False, "reason": "AlreadyExists", "message": message})
        return Answer({"nameAvailable": True})

    def blob_service(self, request: Request) -> Answer:
        """Return the properties of an account's blob service, after updating those in a PUT."""
        account = self._account(request)
        if request.method == "PUT":
            check_writable(self._world.directory.get(account.subscription))
            account.blob_service |= request.json().get("properties") or {}
        where = f"{account.id}/blobServices/default"
        return Answer({"id": where, "name": "default", "properties": account.blob_service})

    def container(self, request: Request) -> Answer:
        account, name = self._account(request), request.path_args[3]
        if account.containers is not None:
            known = name in account.containers
        else:
            known = self._world.blobs.has_container(account.name, name)
        if not known:
            raise not_found("ContainerNotFound", "The specified container does not exist.")
        return Answer(_container(account, name))

    def put_container(self, request: Request) -> Answer:
        account, name = self._account(request), request.path_args[3]
        check_writable(self._world.directory.get(account.subscription))
        if not CONTAINER.fullmatch(name):
            raise ArmError(400, "ContainerOperationFailure", f"The specified resource name '{name}' is invalid.")
        if account.containers is not None:
            made = name not in account.containers
            account.containers.add(name)
        else:
            self._world.before_blobs()
            made = self._world.blobs.make_container(account.name, name)
        return Answer(_container(account, name), 201 if made else 200)

    def delete_container(self, request: Request) -> Answer:
        account, name = self._account(request), request.path_args[3]
        check_writable(self._world.directory.get(account.subscription))
        if account.containers is not None:
            account.containers.discard(name)
        else:
            self._world.blobs.delete_container(account.name, name)
        return Answer(status=200)

    def keys(self, request: Request) -> Answer:
        """Return the keys of an account."""
        account = self._account(request)
        return Answer({"keys": [{"keyName": "key1", "value": account.key, "permissions": "FULL"}]})

    def metrics(self, request: Request) -> Answer:
        """Return metrics of an account by name, always without values because the local Azure measures nothing."""
        account = account_at(self._world.accounts, request.path_args[0])
        names = [one.strip() for one in request.query.get("metricnames", "UsedCapacity").split(",")]
        unknown = [one for one in names if one not in _METRICS]
        if unknown:
            known = ",".join(_METRICS)
            raise ArmError(400, "BadRequest", f"Failed to find metric configuration for {unknown[0]}, valid: {known}")
        kind = "Microsoft.Storage/storageAccounts"
        where = f"{account.id}/providers/Microsoft.Insights/metrics"
        value = [
            {"id": f"{where}/{one}", "type": "Microsoft.Insights/metrics", "name": {"value": one}, "timeseries": []}
            for one in names
        ]
        document = {"timespan": request.query.get("timespan", ""), "interval": "PT1H", "value": value}
        return Answer({**document, "cost": 0, "namespace": kind, "resourceregion": account.location})

    def _create(
        self, subscription: str, group: str, name: str, body: dict[str, Any], properties: dict[str, Any]
    ) -> StorageAccount:
        world = self._world
        if not _ACCOUNT.fullmatch(name):
            raise ArmError(400, "AccountNameInvalid", f"{name} is not a valid storage account name.")
        if name in world.accounts or name in world.taken_names:
            raise ArmError(409, "StorageAccountAlreadyTaken", f"The storage account named {name} is already taken.")
        known = [one for owner, one in world.resource_groups if owner == subscription and one.lower() == group.lower()]
        if not known:
            raise not_found("ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        if not body.get("location") or not body.get("sku") or not body.get("kind"):
            raise ArmError(400, "InvalidRequestContent", "A storage account needs a location, a sku and a kind.")
        # The emulator has the accounts that it was started with; any other is visible, and cannot hold blobs.
        key = world.emulated.get(name, "")
        made = StorageAccount(
            name, subscription, known[0], str(body["location"]), key, containers=None if key else set()
        )
        made.tags, made.given = dict(body.get("tags") or {}), dict(properties)
        world.accounts[name] = made
        return made

    def _account(self, request: Request) -> StorageAccount:
        subscription, group, name = request.path_args[:3]
        return account_at(
            self._world.accounts,
            f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}",
        )


def _container(account: StorageAccount, name: str) -> dict[str, Any]:
    where = f"{account.id}/blobServices/default/containers/{name}"
    kind = "Microsoft.Storage/storageAccounts/blobServices/containers"
    held = account.held.get(name, "")
    properties = {
        "publicAccess": "None",
        "hasImmutabilityPolicy": held == "policy",
        "hasLegalHold": held == "legal-hold",
    }
    return {"id": where, "name": name, "type": kind, "properties": properties}
