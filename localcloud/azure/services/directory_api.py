"""Resource Manager's own operations: tenants, subscriptions, providers, resource groups and management groups."""

from __future__ import annotations

import re
from typing import Any

from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.services.directory import (
    KNOWN_PROVIDERS,
    Group,
    Subscription,
    check_writable,
    provider_name,
    register,
    registration_state,
)
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request, page

_READ = "Microsoft.Resources/subscriptions/read"
_GROUPS = "/providers/Microsoft.Management/managementGroups"
_GROUP_NAME = re.compile(r"[\w.()-]{1,90}(?<!\.)")


class DirectoryApi:
    """Directory operations. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World) -> None:
        self._world = world

    def tenants(self, request: Request) -> Answer:
        tenant = self._world.tenant
        document = {"id": f"/tenants/{tenant}", "tenantId": tenant, "displayName": "Local", "tenantCategory": "Home"}
        document["tenantType"] = "AAD"
        return Answer({"value": [document]})

    def subscriptions(self, request: Request) -> Answer:
        """Return the subscriptions that the caller can read; without rights, an empty list rather than an error."""
        caller = request.caller.principal
        readable = [
            self._subscription(one)
            for one in self._world.directory.subscriptions.values()
            if self._world.rights.allows(caller, _READ, f"/subscriptions/{one.id}", chooses=True)
        ]
        return self.paged(request, readable)

    def subscription(self, request: Request) -> Answer:
        return Answer(self._subscription(self._world.directory.get(request.path_args[0])))

    def paged(self, request: Request, items: list[Any]) -> Answer:
        """Return one page; `empty_pages_every` inserts an empty page before every nth page."""
        self._world.pages_served += 1
        every = self._world.behavior.empty_pages_every
        top = request.query.get("$top", "")
        size = min(int(top), self._world.behavior.page_size) if top.isdigit() else self._world.behavior.page_size
        return page(request, items, size, bool(every) and self._world.pages_served % every == 0)

    def providers(self, request: Request) -> Answer:
        found = self._world.directory.get(request.path_args[0])
        return Answer({"value": [self._provider(found, name) for name in KNOWN_PROVIDERS]})

    def provider(self, request: Request) -> Answer:
        found = self._world.directory.get(request.path_args[0])
        return Answer(self._provider(found, provider_name(request.path_args[1])))

    def register(self, request: Request) -> Answer:
        """Start a registration; the provider is `Registering` until the delay has passed."""
        found = self._world.directory.get(request.path_args[0])
        check_writable(found)
        ready_at = self._world.clock.monotonic() + self._world.behavior.registration_delay_s
        return Answer(self._provider(found, register(found, request.path_args[1], ready_at)))

    def unregister(self, request: Request) -> Answer:
        found = self._world.directory.get(request.path_args[0])
        check_writable(found)
        name = provider_name(request.path_args[1])
        found.registered.pop(name.lower(), None)
        return Answer(self._provider(found, name))

    def resource_groups(self, request: Request) -> Answer:
        subscription = self._world.directory.get(request.path_args[0]).id
        names = [name for owner, name in self._world.resource_groups if owner == subscription]
        return self.paged(request, [self._group(subscription, name) for name in names])

    def resource_group(self, request: Request) -> Answer:
        subscription = self._world.directory.get(request.path_args[0]).id
        name = self._group_name(subscription, request.path_args[1])
        return Answer(self._group(subscription, name))

    def put_resource_group(self, request: Request) -> Answer:
        found = self._world.directory.get(request.path_args[0])
        check_writable(found)
        name = request.path_args[1]
        location = request.json().get("location")
        if not _GROUP_NAME.fullmatch(name):
            raise ArmError(400, "InvalidResourceGroup", f"The resource group name '{name}' is invalid.")
        if not isinstance(location, str) or not location:
            raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
        known = [one for owner, one in self._world.resource_groups if owner == found.id and one.lower() == name.lower()]
        self._world.resource_groups[(found.id, known[0] if known else name)] = location
        self._world.group_tags[(found.id, known[0] if known else name)] = dict(request.json().get("tags") or {})
        return Answer(self._group(found.id, known[0] if known else name), 200 if known else 201)

    def delete_resource_group(self, request: Request) -> Answer:
        """Delete a resource group with everything in it."""
        owner = self._world.directory.get(request.path_args[0])
        check_writable(owner)
        name = self._group_name(owner.id, request.path_args[1])
        below = f"/subscriptions/{owner.id}/resourcegroups/{name.lower()}/"
        for held in (self._world.resources, self._world.sites):
            for one in [one for one in held if one.startswith(below)]:
                held.pop(one)
        for account in [one for one in self._world.accounts.values() if one.id.lower().startswith(below)]:
            del self._world.accounts[account.name]
        self._world.resource_groups.pop((owner.id, name))
        self._world.group_tags.pop((owner.id, name), None)
        return Answer(status=200)

    def management_group(self, request: Request) -> Answer:
        group = self._management_group(request.path_args[0])
        parent = {"id": f"{_GROUPS}/{group.parent}", "name": group.parent} if group.parent else None
        details = {"version": 1, **({"parent": parent} if parent else {})}
        properties = {"tenantId": self._world.tenant, "displayName": group.name, "details": details}
        return Answer(
            {
                "id": f"{_GROUPS}/{group.id}",
                "name": group.id,
                "type": "Microsoft.Management/managementGroups",
                "properties": properties,
            }
        )

    def descendants(self, request: Request) -> Answer:
        """Return the groups and subscriptions below a management group, in pages."""
        group = self._management_group(request.path_args[0])
        return self.paged(request, [_descendant(one) for one in self._world.directory.descendants(group.id)])

    def _management_group(self, group: str) -> Group:
        for known in self._world.directory.groups.values():
            if known.id.lower() == group.lower():
                return known
        raise not_found("NotFound", f"The management group '{group}' cannot be found.")

    def _subscription(self, subscription: Subscription) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{subscription.id}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": subscription.id,
            "tenantId": self._world.tenant,
            "displayName": subscription.name,
            "state": subscription.state,
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": subscription.agreement.quota_id,
                "spendingLimit": "Off",
            },
        }

    def _provider(self, subscription: Subscription, name: str) -> dict[str, Any]:
        state = registration_state(subscription, name, self._world.clock.monotonic())
        return {
            "id": f"/subscriptions/{subscription.id}/providers/{name}",
            "namespace": name,
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": [],
            "registrationState": state,
        }

    def _group_name(self, subscription: str, name: str) -> str:
        for owner, known in self._world.resource_groups:
            if owner == subscription and known.lower() == name.lower():
                return known
        raise not_found("ResourceGroupNotFound", f"Resource group '{name}' could not be found.")

    def _group(self, subscription: str, name: str) -> dict[str, Any]:
        return {
            "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
            "name": name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self._world.resource_groups[(subscription, name)],
            "tags": self._world.group_tags.get((subscription, name), {}),
            "properties": {"provisioningState": "Succeeded"},
        }


def _descendant(one: Group | Subscription) -> dict[str, Any]:
    if isinstance(one, Group):
        kind, where, parent = "Microsoft.Management/managementGroups", f"{_GROUPS}/{one.id}", one.parent
    else:
        kind, where, parent = (
            "Microsoft.Management/managementGroups/subscriptions",
            f"/subscriptions/{one.id}",
            one.group,
        )
    properties = {"displayName": one.name, "parent": {"id": f"{_GROUPS}/{parent}"}}
    return {"id": where, "type": kind, "name": one.id, "properties": properties}
