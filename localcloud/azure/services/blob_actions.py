"""The action that each Blob Storage call requires from a caller with a token.

Source: "Permissions for Blob service operations" in "Authorize with Microsoft Entra ID" (Azure Storage REST reference).
"""

from __future__ import annotations

from typing import NamedTuple

from localcloud.azure.services.storage import StorageAccount

_SERVICES = "Microsoft.Storage/storageAccounts/blobServices"
_CONTAINERS = f"{_SERVICES}/containers"
_BLOBS = f"{_CONTAINERS}/blobs"
_READS = ("GET", "HEAD")


class Needed(NamedTuple):
    """A required action at a scope; `data` is true for a data action."""

    action: str
    scope: str
    data: bool


def needed(account: StorageAccount, method: str, container: str, blob: str, kind: str, comp: str) -> Needed | None:
    """Return the action that a call requires, or None if tokens are not accepted for it.

    `kind` is the query parameter `restype`, and `comp` the query parameter of that name.
    """
    service = f"{account.id}/blobServices/default"
    if not container:
        return _of_service(service, method, kind, comp)
    place = f"{service}/containers/{container}"
    if not blob:
        return _of_container(place, method, kind, comp)
    where = f"{place}/blobs/{blob}"
    if comp == "tags":
        return Needed(f"{_BLOBS}/tags/{'read' if method in _READS else 'write'}", where, True)
    if method in _READS:
        return Needed(f"{_BLOBS}/read", where, True)
    verb = {"PUT": "write", "DELETE": "delete"}.get(method)
    return Needed(f"{_BLOBS}/{verb}", where, True) if verb else None


def _of_service(service: str, method: str, kind: str, comp: str) -> Needed | None:
    if (method, comp) == ("GET", "list"):
        return Needed(f"{_CONTAINERS}/read", service, False)
    if (method, kind, comp) == ("POST", "service", "userdelegationkey"):
        return Needed(f"{_SERVICES}/generateUserDelegationKey/action", service, False)
    if (kind, comp) == ("service", "properties"):
        return Needed(f"{_SERVICES}/{'read' if method == 'GET' else 'write'}", service, False)
    return None


def _of_container(place: str, method: str, kind: str, comp: str) -> Needed | None:
    if kind != "container":
        return None
    if (method, comp) == ("GET", "list"):
        # Listing blobs requires the data action to read them, as in Storage Blob Data Reader.
        return Needed(f"{_BLOBS}/read", place, True)
    if method in _READS and comp in ("", "metadata"):
        return Needed(f"{_CONTAINERS}/read", place, False)
    if method == "PUT" and comp in ("", "metadata", "lease"):
        return Needed(f"{_CONTAINERS}/write", place, False)
    if method == "DELETE" and not comp:
        return Needed(f"{_CONTAINERS}/delete", place, False)
    return None
