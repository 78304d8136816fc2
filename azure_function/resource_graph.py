"""Lists all subscriptions with their states in one call, from Azure Resource Graph.

Sources: "Understanding the Azure Resource Graph query language" and "Working with large Azure resource data sets"
(Microsoft Learn): an answer has at most 1,000 rows, and a longer one is paged. Here each row is a list of subscriptions
by the first digit of their ids, so that 10,000 of them are 16 rows, each far below the limit of 1 MB that the Kusto
query language sets for one list ("The dynamic data type").
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
QUERY = (
    "resourcecontainers"
    " | where type =~ 'microsoft.resources/subscriptions' | where tenantId =~ '{tenant}'"
    " | summarize found = make_list(strcat(tolower(subscriptionId), ' ', tostring(properties.state))), total = count()"
    " by part = substring(subscriptionId, 0, 1)"
)


def subscription_states(settings: AzureSettings, clients: Clients, run: RunContext, tenant: str) -> dict[str, str]:
    """Return the state of each subscription of the tenant that the settings select, by its id in lower case.

    Those of other tenants, which Azure Lighthouse may delegate to this one, are left out. Only what the function's
    identity may read is listed, and 10,000 subscriptions at most. Resource Graph learns of a change within about a
    minute, or with its next full scan. Raises CloudError.
    """
    body: dict[str, Any] = {"query": QUERY.format(tenant=tenant), "options": {"resultFormat": "objectArray"}}
    if settings.group and not settings.include:
        body["managementGroups"] = [settings.group]
    answer = require(run.calls(RESOURCE_GRAPH, clients.arm_post, PATH, API_VERSION, body), {"data": list}, WHAT)
    states = dict(pair for row in answer["data"] for pair in _pairs(mapping(row)))
    wanted = set(settings.include) or states.keys()
    return {one: state for one, state in states.items() if one in wanted and one not in settings.exclude}


def _pairs(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield ids and states of one row. Raises NotUnderstood if the row is not as asked for, or not whole."""
    found = row.get("found")
    if not isinstance(found, list) or len(found) != row.get("total"):
        raise NotUnderstood(WHAT, "a list in it is not whole")
    for one in found:
        subscription, _, state = one.partition(" ") if isinstance(one, str) else ("", "", "")
        if not is_id(subscription) or not state:
            raise NotUnderstood(WHAT, "an entry of it is not an id with a state")
        yield subscription, state
