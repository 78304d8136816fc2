"""The rights on a storage account that a caller needs for an export, and the role assignments made on its behalf.

Source: the prerequisites in "Tutorial: Improved exports experience" (Microsoft Cost Management documentation): write
permission on the storage account or, for an export with an identity, roleAssignments/write and permissions/read on it.
Role assignments on the export's former destination are removed if the caller has the right to do so.
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
    """Check the caller's write permission on a new destination of an export without identity. Raises ArmError 403."""
    before = stored.get("properties", {}).get("deliveryInfo", {}).get("destination", {}).get("resourceId", "")
    if before.lower() != account.id.lower() and not _linked(world, caller, _WRITE, account.id):
        raise linked_authorization_failed(caller, _WRITE, account.id)


def give_role(world: World, caller: str, export: Export, account: StorageAccount, container: str) -> str:
    """Assign the role on the container to the export's identity on behalf of the caller; return its object ID.

    Its assignments elsewhere are removed if the caller has the right to. Raises ArmError 400 if the caller cannot
    assign the role.
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
    """Return whether the caller has an additional right that the call requires on a linked resource."""
    world.calls.link(caller, action)
    return world.rights.allows(caller, action, scope, attributes=attributes)
