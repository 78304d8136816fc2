"""Azure Resource Graph: queries of the resources that the caller can read, with a delay after changes.

Sources: "Understanding the Azure Resource Graph query language", "Guidance for throttled requests in Azure Resource
Graph" and "Permissions in Azure Resource Graph" (Microsoft Learn): it rejects no caller and omits the resources that
the caller cannot read; at most 15 queries in 5 seconds, and at most 10,000 subscriptions.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from localcloud.azure.errors import ArmError
from localcloud.azure.platform.resources_api import ResourcesApi
from localcloud.azure.services.directory import Subscription
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

QUERIES, WINDOW_S = 15, 5.0
MAX_SUBSCRIPTIONS = 10_000
_READ = "Microsoft.Resources/subscriptions/read"
_SUBSCRIPTIONS = (
    r"resourcecontainers \| where type =~ 'microsoft\.resources/subscriptions' \| where tenantId =~ '([^']*)'"
)
_STATES = re.compile(
    rf"{_SUBSCRIPTIONS}"
    r" \| summarize found = make_list\(strcat\(tolower\(subscriptionId\), ' ', tostring\(properties\.state\)\)\),"
    r" total = count\(\) by part = substring\(subscriptionId, 0, 1\)"
)
_LABELS = re.compile(
    rf"{_SUBSCRIPTIONS}"
    r" \| project id, subscriptionId = tolower\(subscriptionId\), state = tostring\(properties\.state\),"
    r" groups = properties\.managementGroupAncestorsChain, tags \| order by id asc"
)
MAX_ROWS = 1000


class ResourceGraph:
    """Resource Graph queries. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World, resources: ResourcesApi) -> None:
        self._world, self._resources = world, resources
        self._query_times: dict[str, deque[float]] = defaultdict(deque)

    def query(self, request: Request) -> Answer:
        """Answer one of the product's queries: resources by tag, and states or labels of subscriptions."""
        left = self._left(request.caller.principal)
        body = request.json()
        query = str(body.get("query", "")).strip()
        states, labels = _STATES.fullmatch(query), _LABELS.fullmatch(query)
        asked = states or labels
        if asked is None:
            answer = self._resources.query(request)
        else:
            shown = self._shown(body.get("managementGroups") or [])
            readable = [one for one in shown if self._can_read(request.caller.principal, one)]
            found = readable[:MAX_SUBSCRIPTIONS] if asked[1].lower() == self._world.tenant else []
            options = body.get("options") or {}
            answer = Answer(
                _document(found)
                if states
                else _page([self._row(one) for one in found], options, self._world.behavior.page_size)
            )
            answer.headers["x-ms-tenant-subscription-limit-hit"] = str(len(readable) > MAX_SUBSCRIPTIONS).lower()
        answer.headers |= {"x-ms-user-quota-remaining": str(left), "x-ms-user-quota-resets-after": "00:00:05"}
        return answer

    def _row(self, subscription: Subscription) -> dict[str, Any]:
        groups = self._world.directory.groups
        return {
            "id": f"/subscriptions/{subscription.id}",
            "subscriptionId": subscription.id,
            "state": subscription.state,
            "groups": [
                {"displayName": groups[one].name, "name": one}
                for one in self._world.directory.chain(subscription.group)
            ],
            "tags": subscription.tags or None,
        }

    def _left(self, principal: str) -> int:
        """Count a query and return how many are left in this window. Raises ArmError 429."""
        now, times = self._world.clock.monotonic(), self._query_times[principal]
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
        if len(times) >= QUERIES:
            headers = {"x-ms-user-quota-remaining": "0", "x-ms-user-quota-resets-after": "00:00:05", "Retry-After": "5"}
            raise ArmError(429, "RateLimiting", "Please provide below info when asking for support.", headers)
        times.append(now)
        return QUERIES - len(times)

    def _shown(self, groups: list[str]) -> Iterator[Subscription]:
        directory = self._world.directory
        unknown = [one for one in groups if one not in directory.groups]
        if unknown:
            raise ArmError(400, "BadRequest", f"The management group '{unknown[0]}' was not found.")
        for one in self._world.directory_copy.shown(self._world.clock.monotonic()):
            if not groups or set(groups) & set(directory.chain(one.group)):
                yield one

    def _can_read(self, principal: str, subscription: Subscription) -> bool:
        return self._world.rights.allows(principal, _READ, f"/subscriptions/{subscription.id}", chooses=True)


def _document(subscriptions: list[Subscription]) -> dict[str, Any]:
    parts: dict[str, list[str]] = defaultdict(list)
    for one in subscriptions:
        parts[one.id[0]].append(f"{one.id} {one.state}")
    rows = [{"part": part, "found": found, "total": len(found)} for part, found in sorted(parts.items())]
    return {"totalRecords": len(rows), "count": len(rows), "resultTruncated": "false", "data": rows, "facets": []}


def _page(rows: list[dict[str, Any]], options: dict[str, Any], longest: int) -> dict[str, Any]:
    """Return a page of the rows, ordered by ID. Raises ArmError 400 for an invalid skip token or page size."""
    rows = sorted(rows, key=lambda row: str(row["id"]))
    begin, size = str(options.get("$skipToken", "0")), options.get("$top", MAX_ROWS)
    if not begin.isdecimal() or not isinstance(size, int) or not 1 <= size <= MAX_ROWS:
        raise ArmError(400, "BadRequest", "The skip token or the page size is invalid.")
    end = int(begin) + min(size, longest)
    page = rows[int(begin) : end]
    more = {"$skipToken": str(end)} if end < len(rows) else {}
    head = {"totalRecords": len(rows), "count": len(page), "resultTruncated": "false"}
    return {**head, **more, "data": page, "facets": []}
