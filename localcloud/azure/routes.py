"""The route type, and the routes that only deployments and queries use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from localcloud.azure.platform.log_analytics import LogAnalytics
from localcloud.azure.platform.resource_graph import ResourceGraph
from localcloud.azure.platform.resources_api import KEPT, PARTS, ResourcesApi
from localcloud.azure.platform.sites_api import SitesApi
from localcloud.azure.services.storage_api import StorageApi
from localcloud.azure.templates.deployments_api import PLACE, DeploymentsApi
from localcloud.azure.wire import Answer, Request

SUBSCRIPTION = "/subscriptions/([^/]+)"
ACCOUNTS = "/providers/Microsoft.Storage/storageAccounts"
METRICS = "/providers/microsoft.insights/metrics"
_GROUP = f"{SUBSCRIPTION}/resourceGroups/([^/]+)"
_SITE = f"{_GROUP}/providers/Microsoft.Web/sites/([^/]+)"
_ACCOUNT = f"{_GROUP}{ACCOUNTS}/([^/]+)"
_PLACE = "(/subscriptions/[^/]+/resourceGroups/[^/]+|/providers/Microsoft.Management/managementGroups/[^/]+)"
_DEPLOYED = "Microsoft.Resources/deployments"
_KEPT = f"{_PLACE}/providers/({'|'.join(KEPT)})/([^/]+)"


class Route(NamedTuple):
    """One operation.

    `action` is written as in a role definition (`{0}` is the first path argument). With `checked`, the caller's rights
    are checked before the handler runs.
    """

    method: str
    pattern: re.Pattern[str]
    action: str
    handler: Callable[[Request], Answer]
    checked: bool = True


def routes(table: Iterable[tuple[str, str, str, Callable[[Request], Answer], bool]]) -> list[Route]:
    """Return the routes for rows of (method, pattern, action, handler, checked)."""
    return [Route(m, re.compile(f"{p}/?", re.IGNORECASE), a, h, checked) for m, p, a, h, checked in table]


def operator_routes(
    storage: StorageApi,
    kept: ResourcesApi,
    sites: SitesApi,
    analytics: LogAnalytics,
    graph: ResourceGraph,
    deployments: DeploymentsApi,
) -> list[Route]:
    """Return the routes for deployments and queries: names, function apps, and resources without behavior."""
    stored, web = "Microsoft.Storage/storageAccounts", "Microsoft.Web/sites"
    resources, workspaces = "Microsoft.Resources/subscriptions", "Microsoft.OperationalInsights/workspaces"
    checked_names = "/providers/Microsoft.{0}/checkNameAvailability"
    table: list[tuple[str, str, str, Callable[[Request], Answer]]] = [
        (
            "POST",
            f"{SUBSCRIPTION}{checked_names.format('Storage')}",
            "Microsoft.Storage/checknameavailability/read",
            storage.check_name,
        ),
        (
            "POST",
            f"{SUBSCRIPTION}{checked_names.format('Web')}",
            "Microsoft.Web/checknameavailability/read",
            sites.check_name,
        ),
        ("GET", f"{_ACCOUNT}/blobServices/default", f"{stored}/blobServices/read", storage.blob_service),
        ("PUT", f"{_ACCOUNT}/blobServices/default", f"{stored}/blobServices/write", storage.blob_service),
        (
            "DELETE",
            f"{_ACCOUNT}/blobServices/default/containers/([^/]+)",
            f"{stored}/blobServices/containers/delete",
            storage.delete_container,
        ),
        *(
            (
                method,
                f"{_ACCOUNT}/managementPolicies/default",
                f"{stored}/managementPolicies/{right}",
                kept.management_policy,
            )
            for method, right in (("GET", "read"), ("PUT", "write"), ("DELETE", "delete"))
        ),
        ("GET", f"{SUBSCRIPTION}/resources", f"{resources}/resources/read", kept.list),
        ("GET", f"{_GROUP}/resources", f"{resources}/resourcegroups/resources/read", kept.list),
        ("GET", f"{SUBSCRIPTION}/providers/Microsoft.Web/geoRegions", "Microsoft.Web/geoRegions/read", sites.regions),
        ("GET", _SITE, f"{web}/read", sites.get),
        ("PUT", _SITE, f"{web}/write", sites.put),
        ("DELETE", _SITE, f"{web}/delete", sites.delete),
        ("PUT", f"{_SITE}/extensions/onedeploy", f"{web}/extensions/write", sites.one_deploy),
        (
            "GET",
            f"{_SITE}/basicPublishingCredentialsPolicies/(scm|ftp)",
            f"{web}/basicPublishingCredentialsPolicies/read",
            sites.passwords,
        ),
        ("POST", f"{_SITE}/config/appsettings/list", f"{web}/config/list/action", sites.settings),
        ("PUT", f"{_SITE}/config/appsettings", f"{web}/config/write", sites.put_settings),
        (
            "PUT",
            f"{_SITE}/basicPublishingCredentialsPolicies/(scm|ftp)",
            f"{web}/basicPublishingCredentialsPolicies/write",
            sites.put_passwords,
        ),
        ("GET", f"{_SITE}/functions", f"{web}/functions/read", sites.functions),
        ("POST", f"{_SITE}/functions/([^/]+)/listkeys", f"{web}/functions/listkeys/action", sites.function_keys),
        ("GET", f"(/subscriptions/.+){METRICS}", "Microsoft.Insights/metrics/read", storage.metrics),
        ("POST", f"{_ACCOUNT}/listKeys", f"{stored}/listKeys/action", storage.keys),
        ("POST", f"{_GROUP}/providers/{workspaces}/([^/]+)/query", f"{workspaces}/query/read", analytics.query),
        ("GET", _KEPT, "{1}/read", kept.get),
        ("PUT", _KEPT, "{1}/write", kept.put),
        ("DELETE", _KEPT, "{1}/delete", kept.delete),
        *(
            (method, f"{_GROUP}/providers/{kind}/[^/]+/{part}/[^/]+", f"{kind}/{part}/{right}", handler)
            for kind, part in PARTS
            for method, right, handler in (
                ("GET", "read", kept.get),
                ("PUT", "write", kept.put_part),
                ("DELETE", "delete", kept.delete),
            )
        ),
    ]
    table[:0] = [
        (method, f"{PLACE}/providers/{_DEPLOYED}{rest}", f"{_DEPLOYED}{right}", handler)
        for method, rest, right, handler in (
            ("PUT", "/([^/]+)", "/write", deployments.put),
            ("GET", "", "/read", deployments.list),
            ("GET", "/([^/]+)", "/read", deployments.get),
            ("DELETE", "/([^/]+)", "/delete", deployments.delete),
            ("GET", "/([^/]+)/operations", "/operations/read", deployments.operations),
            ("POST", "/([^/]+)/validate", "/validate/action", deployments.validate),
            ("POST", "/([^/]+)/whatIf", "/whatIf/action", deployments.what_if),
            ("POST", "/([^/]+)/exportTemplate", "/exportTemplate/action", deployments.export),
        )
    ]
    # Resource Graph rejects no caller; it returns only what the caller can read.
    graph_query = ("POST", "/providers/Microsoft.ResourceGraph/resources", "Microsoft.ResourceGraph/resources/read")
    return routes([*((*one, True) for one in table), (*graph_query, graph.query, False)])
