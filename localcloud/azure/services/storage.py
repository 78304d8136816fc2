"""Storage accounts as resources; Azurite holds their blobs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from localcloud.azure.errors import ArmError, resource_not_found

_RESOURCE = re.compile(
    r"/subscriptions/([0-9a-f-]{36})/resourcegroups/([^/]+)/providers/microsoft\.storage/storageaccounts/([a-z0-9]{3,24})",
    re.IGNORECASE,
)
CONTAINER = re.compile(r"(?!.*--)[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]|\$(?:root|logs|web)")


@dataclass
class StorageAccount:
    """A storage account.

    - `shared_key`: whether key-based authentication is allowed.
    - `firewall`: whether only selected networks have access and, with `bypass`, Azure's trusted services.
    - `copy_scope`: the only sources that blobs can be copied from (AAD, PrivateLink; "" for any).
    - `containers`: the containers of an account that was created while the local Azure was running, otherwise None.
      The emulator does not have such an account, so it is visible in Resource Manager but cannot hold blobs.
    - `given`: the properties that it was created with.
    - `blob_service`: the properties of its blob service.
    - `lifecycle`: its management policy.
    - `held`: maps containers to what makes their blobs immutable (policy, legal-hold).
    - `deleting`: maps deleted containers to the time until which their name stays in use.
    """

    name: str
    subscription: str
    group: str
    location: str
    key: str
    shared_key: bool = True
    firewall: bool = False
    bypass: bool = True
    copy_scope: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    containers: set[str] | None = None
    given: dict[str, Any] = field(default_factory=dict)
    blob_service: dict[str, Any] = field(default_factory=dict)
    sku: str = "Standard_LRS"
    lifecycle: dict[str, Any] | None = None
    held: dict[str, str] = field(default_factory=dict)
    deleting: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/Microsoft.Storage/storageAccounts/{self.name}"
        )

    def document(self, blob_endpoint: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": "Microsoft.Storage/storageAccounts",
            "location": self.location,
            "kind": "StorageV2",
            "sku": {"name": self.sku, "tier": "Standard"},
            "tags": self.tags,
            "properties": {
                "allowBlobPublicAccess": False,
                **self.given,
                "provisioningState": "Succeeded",
                "statusOfPrimary": "available",
                "primaryLocation": self.location,
                "allowSharedKeyAccess": self.shared_key,
                "supportsHttpsTrafficOnly": True,
                "minimumTlsVersion": "TLS1_2",
                "networkAcls": {
                    "bypass": "AzureServices" if self.bypass else "None",
                    "defaultAction": "Deny" if self.firewall else "Allow",
                    "ipRules": (self.given.get("networkAcls") or {}).get("ipRules") or [],
                    "virtualNetworkRules": (self.given.get("networkAcls") or {}).get("virtualNetworkRules") or [],
                },
                **({"allowedCopyScope": self.copy_scope} if self.copy_scope else {}),
                "primaryEndpoints": {"blob": f"{blob_endpoint}/{self.name}/"},
            },
        }

    def expires_after(self, name: str) -> timedelta | None:
        """Return the time from last modification to deletion of a blob (container/name), or None for never."""
        found: list[float] = []
        for rule in ((self.lifecycle or {}).get("policy") or {}).get("rules", []):
            definition = rule["definition"]
            delete = definition["actions"].get("baseBlob", {}).get("delete", {})
            prefixes = definition.get("filters", {}).get("prefixMatch") or [""]
            if rule.get("enabled", True) and any(name.startswith(one) for one in prefixes):
                found += [float(days) for days in delete.values()]
        return timedelta(days=min(found)) if found else None

    def admits(self, *, identity: bool) -> bool:
        """Return whether the exports service can write here, with the export's identity or with a key.

        Source: "Tutorial: Improved exports experience", prerequisites for storage accounts.
        """
        by_key = self.shared_key and not self.firewall
        return not self.copy_scope and (self.bypass or not self.firewall) and (identity or by_key)

    def update(self, properties: dict[str, Any]) -> None:
        """Update the properties that a PATCH or PUT can change. Raises ArmError 400 for an invalid value."""
        if "allowSharedKeyAccess" in properties:
            value = properties["allowSharedKeyAccess"]
            if value is not None and not isinstance(value, bool):
                raise ArmError(400, "InvalidRequestPropertyValue", "allowSharedKeyAccess must be a boolean.")
            self.shared_key = value is not False
        acls = properties.get("networkAcls")
        if isinstance(acls, dict) and "defaultAction" in acls:
            if acls["defaultAction"] not in ("Allow", "Deny"):
                raise ArmError(400, "InvalidRequestPropertyValue", "The value of defaultAction must be Allow or Deny.")
            self.firewall = acls["defaultAction"] == "Deny"
        if isinstance(acls, dict) and "bypass" in acls:
            self.bypass = "AzureServices" in str(acls["bypass"]).replace(" ", "").split(",")
        if "allowedCopyScope" in properties:
            if properties["allowedCopyScope"] not in (None, "AAD", "PrivateLink"):
                raise ArmError(400, "InvalidRequestPropertyValue", "allowedCopyScope must be AAD or PrivateLink.")
            self.copy_scope = properties["allowedCopyScope"] or ""


def account_at(accounts: dict[str, StorageAccount], resource_id: str) -> StorageAccount:
    """Return the account with a resource ID (case-insensitive). Raises ArmError 404 ResourceNotFound."""
    match = _RESOURCE.fullmatch(resource_id)
    found = accounts.get(match[3].lower()) if match else None
    if found is None or found.id.lower() != resource_id.lower():
        raise resource_not_found(resource_id)
    return found
