"""Reads subscriptions from Azure Resource Graph: the states of all in one call, and their labels.

Sources: "Understanding the Azure Resource Graph query language", "Working with large Azure resource data sets" and
"Azure Resource Graph sample queries for management groups" (Microsoft Learn): a response has at most 1,000 rows; longer
results are paged. For the states each row is a list of subscriptions by the first digit of their ids, so that 10,000 of
them take 16 rows, each far below the limit of 1 MB for a list in the Kusto query language ("The dynamic data type"). A
subscription's chain of management groups begins with the nearest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from azure_function.clients import RESOURCE_GRAPH, Clients
from azure_function.settings import AzureSettings
from shared.errors import NotUnderstood
from shared.parsing import is_id, mapping, require
from shared.runtime.context import RunContext

PATH = "/providers/Microsoft.ResourceGraph/resources"
API_VERSION = "2022-10-01"
WHAT = "the query of the subscriptions"
SUBSCRIPTIONS = "resourcecontainers | where type =~ 'microsoft.resources/subscriptions' | where tenantId =~ '{tenant}'"
QUERY = (
    f"{SUBSCRIPTIONS}"
    " | summarize found = make_list(strcat(tolower(subscriptionId), ' ', tostring(properties.state))), total = count()"
    " by part = substring(subscriptionId, 0, 1)"
)
LABELS = (
    f"{SUBSCRIPTIONS}"
    " | project id, subscriptionId = tolower(subscriptionId), state = tostring(properties.state),"
    " groups = properties.managementGroupAncestorsChain, tags | order by id asc"
)
PAGE, MOST_PAGES = 1000, 10  # Resource Graph returns at most 10,000 subscriptions


def subscription_states(settings: AzureSettings, clients: Clients, run: RunContext, tenant: str) -> dict[str, str]:
    """Return the state of each subscription of the tenant that the settings select, by its id in lower case.

    Those of other tenants, which Azure Lighthouse may delegate to this one, are left out. Only subscriptions that the
    function's identity may read are listed, at most 10,000. Resource Graph detects a change within about a minute, or
    with its next full scan. Raises CloudError.
    """
    answer = _ask(settings, clients, run, QUERY.format(tenant=tenant), {})
    states = dict(pair for row in answer["data"] for pair in _pairs(mapping(row)))
    wanted = set(settings.include) or states.keys()
    return {one: state for one, state in states.items() if one in wanted and one not in settings.exclude}


def subscription_labels(
    settings: AzureSettings, clients: Clients, run: RunContext, tenant: str
) -> dict[str, dict[str, str]]:
    """Return the management groups, the state and the tags of each subscription of the tenant, by its id.

    Subscriptions that Resource Graph does not return, or whose entry is not valid, are missing. Raises CloudError.
    """
    found: dict[str, dict[str, str]] = {}
    options: dict[str, Any] = {"$top": PAGE}
    for _ in range(MOST_PAGES):
        answer = _ask(settings, clients, run, LABELS.format(tenant=tenant), options)
        found |= {str(row["subscriptionId"]): _labels(row) for row in map(mapping, answer["data"]) if _is_whole(row)}
        token = answer.get("$skipToken")
        if not isinstance(token, str) or not token:
            break
        options = {"$top": PAGE, "$skipToken": token}
    return found


def _ask(
    settings: AzureSettings, clients: Clients, run: RunContext, query: str, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return one page of a query's result. Raises CloudError."""
    body: dict[str, Any] = {"query": query, "options": {"resultFormat": "objectArray", **options}}
    if settings.group and not settings.include:
        body["managementGroups"] = [settings.group]
    return require(run.calls(RESOURCE_GRAPH, clients.arm_post, PATH, API_VERSION, body), {"data": list}, WHAT)


def _is_whole(row: Mapping[str, Any]) -> bool:
    return is_id(row.get("subscriptionId")) and isinstance(row.get("groups") or [], list)


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    chain = [mapping(one) for one in row.get("groups") or ()]
    names = [str(one.get("displayName") or one.get("name") or "") for one in chain]
    groups = names[:-1] or names  # all are below the tenant's root group
    tags = sorted(mapping(row.get("tags")).items(), key=lambda one: one[0].lower())
    return {
        **({"management group": " / ".join(reversed(groups))} if groups else {}),
        **({"state": str(row["state"])} if row.get("state") else {}),
        **{f"tag {name}": str(value) for name, value in tags},
    }


def _pairs(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield ids and states of one row. Raises NotUnderstood if the row does not match the query or is incomplete."""
    found = row.get("found")
    if not isinstance(found, list) or len(found) != row.get("total"):
        raise NotUnderstood(WHAT, "a list in it is not whole")
    for one in found:
        subscription, _, state = one.partition(" ") if isinstance(one, str) else ("", "", "")
        if not is_id(subscription) or not state:
            raise NotUnderstood(WHAT, "an entry of it is not an id with a state")
        yield subscription, state
