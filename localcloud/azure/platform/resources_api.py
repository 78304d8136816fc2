"""Resources without behavior, which can only be created, read, listed and deleted."""

from __future__ import annotations

import re
from typing import Any

from localcloud.azure.errors import ArmError, resource_not_found
from localcloud.azure.iam.rights import subscription_of
from localcloud.azure.services.directory import check_writable
from localcloud.azure.services.storage import account_at
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request, page

KEPT = (
    "Microsoft.AlertsManagement/smartDetectorAlertRules",
    "Microsoft.Authorization/policyAssignments",
    "Microsoft.Authorization/policyDefinitions",
    "Microsoft.Automation/automationAccounts",
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/components",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Insights/workbooks",
    "Microsoft.ManagedIdentity/userAssignedIdentities",
    "Microsoft.OperationalInsights/workspaces",
    "Microsoft.PolicyInsights/remediations",
    "Microsoft.Resources/deployments",
    "Microsoft.Web/serverFarms",
)
_QUERY = re.compile(
    r"resources \| where type =~ '([^']+)' \| where tags\['([^']+)'\] =~ '([^']+)' \| project id, name", re.IGNORECASE
)
_FILTER = re.compile(r"(resourceType|tagName|tagValue) eq '([^']*)'")


def keep(world: World, resource_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Store a resource as given, and add its ID, name and type."""
    provider, name = resource_id.rsplit("/providers/", 1)[1].rsplit("/", 1)
    kind = next((one for one in KEPT if one.lower() == provider.lower()), provider)
    document = {**body, "id": resource_id, "name": name, "type": kind}
    world.resources[resource_id.lower()] = document
    return document


# difference: AZURE-7
class ResourcesApi:
    """Resources without behavior, and listings of all resources.

    Call with the world's lock held. Every method raises ArmError.
    """

    def __init__(self, world: World, blob_endpoint: str) -> None:
        self._world = world
        self._endpoint = blob_endpoint

    def get(self, request: Request) -> Answer:
        found = self._world.resources.get(request.path.lower().rstrip("/"))
        if found is None:
            raise resource_not_found(request.path)
        return Answer(found)

    def put(self, request: Request) -> Answer:
        subscription = subscription_of(request.path)
        if subscription:
            check_writable(self._world.directory.get(subscription))
        new = request.path.lower().rstrip("/") not in self._world.resources
        return Answer(keep(self._world, request.path.rstrip("/"), request.json()), 201 if new else 200)

    def delete(self, request: Request) -> Answer:
        found = self._world.resources.pop(request.path.lower().rstrip("/"), None)
        return Answer(status=200 if found else 204)

    def management_policy(self, request: Request) -> Answer:
        """Return the lifecycle rules of a storage account."""
        account = account_at(self._world.accounts, request.path.rsplit("/managementPolicies/", 1)[0])
        if account.lifecycle is None:
            raise ArmError(404, "ManagementPolicyNotFound", f"No ManagementPolicy found for account {account.name}")
        return Answer({"id": request.path, "name": "DefaultManagementPolicy", "properties": account.lifecycle})

    def _everything(self) -> list[dict[str, Any]]:
        world = self._world
        documents = [one.document(self._endpoint) for one in world.accounts.values()]
        documents += [one.document() for one in world.sites.values()]
        documents += [one for one in world.resources.values() if "/resourcegroups/" in one["id"].lower()]
        shown = ("id", "name", "type", "location", "kind")
        return [{**{n: d[n] for n in shown if n in d}, "tags": d.get("tags") or {}} for d in documents]

    def query(self, request: Request) -> Answer:
        """Answer a Resource Graph query: ID and name of the readable resources of one type with one tag."""
        match = _QUERY.fullmatch(str(request.json().get("query", "")).strip())
        if match is None:
            raise ArmError(
                501, "NotImplemented", "The local Azure supports only queries by type and tag that project id and name."
            )
        kind, tag, value = (one.lower() for one in match.groups())
        rows = [
            {"id": one["id"], "name": one["name"]}
            for one in self._everything()
            if one["type"].lower() == kind
            and str(one["tags"].get(tag, "")).lower() == value
            and self._world.rights.allows(request.caller.principal, f"{one['type']}/read", one["id"])
        ]
        return Answer({"totalRecords": len(rows), "count": len(rows), "resultTruncated": "false", "data": rows})

    def list(self, request: Request) -> Answer:
        """List the resources in a subscription or resource group; `$filter`: resourceType, tagName, tagValue."""
        self._world.directory.get(request.path_args[0])
        below = request.path.lower().rstrip("/").removesuffix("/resources") + "/"
        found = [one for one in self._everything() if one["id"].lower().startswith(below)]
        wanted = dict(_FILTER.findall(request.query.get("$filter", "")))
        if "resourceType" in wanted:
            found = [one for one in found if one["type"].lower() == wanted["resourceType"].lower()]
        if "tagName" in wanted:
            tag = (wanted["tagName"], wanted.get("tagValue"))
            found = [one for one in found if tag[0] in one["tags"] and tag[1] in (None, one["tags"][tag[0]])]
        return page(request, found, self._world.behavior.page_size, False)
