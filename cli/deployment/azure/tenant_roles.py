"""The roles of a tenant's application, from the same list of grants as those of the function in its own tenant."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure_function.settings import CONTAINER
from cli.deployment.grants import grants
from shared.tenants.registry import Tenant

# What the module's template fills in; the id of a built-in role ("Azure built-in roles", Microsoft Learn).
BLOB_DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
TITLES = {
    "management_group": "exports",
    "destination_subscription": "registration",
    "destination": "destination",
    "delegation": "role of exports",
    "delivery_documents": "deliveries",
}


@dataclass(frozen=True)
class Role:
    """One custom role, and where it is assigned; `condition` limits what the holder may assign to others."""

    name: str
    file: str
    scope: str
    assignable: str
    actions: tuple[str, ...]
    data_actions: tuple[str, ...] = ()
    condition: str = ""

    @property
    def condition_arguments(self) -> str:
        """The arguments of `az role assignment create` for the condition, with a leading space."""
        return f" \\\n  --condition-version 2.0 --condition {shlex.quote(self.condition)}" if self.condition else ""

    def document(self) -> dict[str, Any]:
        """Return the role as `az role definition create` takes it."""
        return {
            "Name": self.name,
            "IsCustom": True,
            "Description": "Keeps cost exports for Tailpipe, and nothing else.",
            "Actions": list(self.actions),
            "NotActions": [],
            "DataActions": list(self.data_actions),
            "NotDataActions": [],
            "AssignableScopes": [self.assignable],
        }


def roles_of(tenant: Tenant) -> list[Role]:
    """Return the least roles that the application of a tenant's entry needs there, by where they are assigned.

    Without MANAGEMENT_GROUP, they cover the root group, whose id is that of the tenant.
    """
    identity = tenant.settings.get("EXPORT_IDENTITY") == "system"
    conditions = {
        "management_group": True,
        "export_identity": identity,
        "export_key": not identity,
        "deliveries": tenant.settings.get("DELTAS") == "1",
    }
    found: dict[str, list[Mapping[str, Any]]] = {}
    for grant in grants("azure")["function"]:
        place = "delegation" if grant["scope"] == "destination" and "condition" in grant else grant["scope"]
        if place in TITLES and conditions.get(grant.get("when", "management_group"), False):
            found.setdefault(place, []).append(grant)
    account = tenant.destination["storage_account"]
    subscription = "/".join(account.split("/")[:3])
    group = tenant.settings.get("MANAGEMENT_GROUP") or tenant.entry["tenant_id"]
    root = f"/providers/Microsoft.Management/managementGroups/{group}"
    container = tenant.destination.get("container", CONTAINER)
    scopes = {
        "management_group": root,
        "destination_subscription": subscription,
        "delivery_documents": f"{account}/blobServices/default/containers/{container}",
    }
    return [
        Role(
            name=f"Tailpipe Exports, {TITLES[place]}",
            file=f"role-{place.replace('_', '-')}.json",
            scope=scopes.get(place, account),
            assignable=root if place == "management_group" else subscription,
            actions=_listed(ones, "actions"),
            data_actions=_listed(ones, "data_actions"),
            condition=_condition(ones[0]),
        )
        for place, ones in found.items()
    ]


def _listed(ones: list[Mapping[str, Any]], key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(action for one in ones for action in one.get(key, ())))


def _condition(grant: Mapping[str, Any]) -> str:
    text: str = grant.get("condition", {}).get("expression", "")
    return text.replace("${blob_data_contributor}", BLOB_DATA_CONTRIBUTOR)
