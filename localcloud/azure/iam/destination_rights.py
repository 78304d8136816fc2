"""What Cost Management requires of a caller who points an export at a storage account, and does there in its name.

Sources: the prerequisites of "Tutorial: Improved exports experience" (Microsoft Cost Management documentation): write
permission on the storage account, or for an export with an identity roleAssignments/write and permissions/read on it;
an assignment that an export has left behind is taken away if the caller may do so.
"""

from __future__ import annotations

from typing import Any

from localcloud.azure.errors import bad_request, linked_authorization_failed
from localcloud.azure.iam.authorization_api import ASSIGNED, role_values
from localcloud.azure.iam.conditions import Attributes
from localcloud.azure.iam.rights import BLOB_DATA_CONTRIBUTOR
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.exports import Export
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import World

_WRITE = "Microsoft.Storage/storageAccounts/write"
_PERMISSIONS = "Microsoft.Authorization/permissions/read"


def check_write(world: World, caller: str, account: StorageAccount, stored: dict[str, Any]) -> None:
    """Check the right to write to the account, where an export without identity is new there. Raises ArmError 403."""
    before = stored.get("properties", {}).get("deliveryInfo", {}).get("destination", {}).get("resourceId", "")
    if before.lower() != account.id.lower() and not _linked(world, caller, _WRITE, account.id):
        raise linked_authorization_failed(caller, _WRITE, account.id)


def give_role(world: World, caller: str, export: Export, account: StorageAccount, container: str) -> str:
    """Give an export's identity its role on the container, in the caller's name, and return its object id.

    A role that it has elsewhere is taken away where the caller may. Raises ArmError 400 without the rights.
    """
    rights = world.rights
    given = role_values("Request", BLOB_DATA_CONTRIBUTOR, "ServicePrincipal")
    needed = (_PERMISSIONS, f"{ASSIGNED}/read", f"{ASSIGNED}/write")
    if not all(_linked(world, caller, action, account.id, given) for action in needed):
        raise bad_request(
            f"The user does not have authorization to perform '{ASSIGNED}/write' action on specified storage account, "
            "please use a storage account with sufficient permissions. If the permissions have changed recently "
            "then retry after some time."
        )
    principal = export.principal or made_up_id("identity", export.scope.lower(), export.name.lower())
    place = f"{account.id}/blobServices/default/containers/{container}"
    held = rights.of(principal)
    if not any(one.scope.lower() == place.lower() for one in held):
        rights.assign(place, principal, BLOB_DATA_CONTRIBUTOR, made_up_id("assignment", place, principal))
    for one in held:
        left = role_values("Resource", one.role, one.kind)
        if one.scope.lower() != place.lower() and _linked(world, caller, f"{ASSIGNED}/delete", one.scope, left):
            rights.remove(one.id)
    return principal


def _linked(world: World, caller: str, action: str, scope: str, attributes: Attributes | None = None) -> bool:
    """Return whether the caller may do a further thing that the call needs, on what it names."""
    world.calls.link(caller, action)
    return world.rights.allows(caller, action, scope, attributes=attributes)
