"""Resources without behavior, which can only be created, read, listed and deleted."""

from __future__ import annotations

import re
from typing import Any

from localcloud.azure.errors import ArmError, not_found, resource_not_found
from localcloud.azure.iam.rights import subscription_of
from localcloud.azure.services.directory import check_writable, made_up_id
from localcloud.azure.services.storage import account_at
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request, page

KEPT = (
    "Microsoft.AlertsManagement/smartDetectorAlertRules",
    "Microsoft.Authorization/policyAssignments",
    "Microsoft.Authorization/policyDefinitions",
    "Microsoft.Automation/automationAccounts",
    "Microsoft.EventGrid/systemTopics",
    "Microsoft.EventGrid/topics",
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/components",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Insights/workbooks",
    "Microsoft.ManagedIdentity/userAssignedIdentities",
    "Microsoft.Network/privateEndpoints",
    "Microsoft.OperationalInsights/workspaces",
    "Microsoft.PolicyInsights/remediations",
    "Microsoft.Web/serverFarms",
)
# Parts of the resources above: the type, and the type of the part.
PARTS = (
    ("Microsoft.EventGrid/systemTopics", "eventSubscriptions"),
    ("Microsoft.Network/privateEndpoints", "privateDnsZoneGroups"),
)
_QUERY = re.compile(
    r"resources \| where type =~ '([^']+)' \| where tags\['([^']+)'\] =~ '([^']+)' \| project id, name", re.IGNORECASE
)
_FILTER = re.compile(r"(resourceType|tagName|tagValue) eq '([^']*)'")


def keep(world: World, resource_id: str, body: dict[str, Any]) -> dict[str, Any]:
    """Store a resource as given, and add its ID, name and type."""
    provider, name = resource_id.rsplit("/providers/", 1)[1].rsplit("/", 1)
    first, *rest = provider.split("/")
    written = "/".join([first, *rest[::2]])
    kind = next((one for one in KEPT if one.lower() == written.lower()), written)
    document = {**body, "id": resource_id, "name": name, "type": kind}
    world.resources[resource_id.lower()] = document
    return document


def _complete(world: World, made: dict[str, Any]) -> None:
    """Add what Azure itself sets in a resource that is created: identities, endpoints, connection strings."""
    where, properties = str(made["id"]), made.setdefault("properties", {})
    kind = str(made["type"]).lower()
    if kind == "microsoft.insights/components":
        properties["ConnectionString"] = f"InstrumentationKey={made_up_id('component', where.lower())}"
    elif kind == "microsoft.eventgrid/topics":
        properties["endpoint"] = f"https://{made['name']}.{made.get('location')}-1.eventgrid.azure.net/api/events"
        world.topic = world.topic or where
    elif kind == "microsoft.managedidentity/userassignedidentities":
        properties["clientId"] = made_up_id("client", where.lower())
        properties["principalId"] = made_up_id("principal", where.lower())
    elif str((made.get("identity") or {}).get("type", "")).lower() == "systemassigned":
        made["identity"] = {**made["identity"], "principalId": made_up_id("identity", where.lower())}
    if kind != "microsoft.authorization/policydefinitions":
        properties["provisioningState"] = "Succeeded"


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
        where = request.path.rstrip("/")
        before = self._world.resources.get(where.lower())
        if "/subscriptions/" in where.lower():
            group = where.split("/")[4].lower()
            if group not in {name.lower() for owner, name in self._world.resource_groups if owner == subscription}:
                raise not_found("ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        made = keep(self._world, where, {**request.json()})
        _complete(self._world, made)
        return Answer(made, 200 if before else 201)

    def put_part(self, request: Request) -> Answer:
        """Store a part of a resource, which has to exist."""
        whole = request.path.rsplit("/", 2)[0]
        if whole.lower() not in self._world.resources:
            raise resource_not_found(whole)
        return self.put(request)

    def delete(self, request: Request) -> Answer:
        """Delete a resource with its parts."""
        where = request.path.lower().rstrip("/")
        found = self._world.resources.pop(where, None)
        for part in [one for one in self._world.resources if one.startswith(f"{where}/")]:
            del self._world.resources[part]
        return Answer(status=200 if found else 204)

    def management_policy(self, request: Request) -> Answer:
        """Return the lifecycle rules of a storage account, after replacing them in a PUT."""
        account = account_at(self._world.accounts, request.path.rsplit("/managementPolicies/", 1)[0])
        if request.method == "PUT":
            account.lifecycle = dict(request.json().get("properties") or {})
        if request.method == "DELETE":
            account.lifecycle = None
            return Answer(status=200)
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
