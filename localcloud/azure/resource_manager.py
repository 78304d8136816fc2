"""Resource Manager: identifies the caller, finds the operation, and checks quotas, faults, rights and locks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from uuid import UUID

from localcloud.azure.answers import check_answer
from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError, authorization_failed, scope_locked
from localcloud.azure.faults import Attempt
from localcloud.azure.iam.authorization_api import ASSIGNED, AuthorizationApi, role_attributes
from localcloud.azure.iam.caller import MANAGEMENT, identify
from localcloud.azure.iam.identity import Identity
from localcloud.azure.iam.rights import subscription_of
from localcloud.azure.platform.log_analytics import LogAnalytics
from localcloud.azure.platform.resource_graph import ResourceGraph
from localcloud.azure.platform.resources_api import ResourcesApi
from localcloud.azure.platform.sites_api import SitesApi
from localcloud.azure.routes import ACCOUNTS, METRICS, SUBSCRIPTION, Route, operator_routes, routes
from localcloud.azure.services.billing_api import BillingApi
from localcloud.azure.services.directory_api import DirectoryApi
from localcloud.azure.services.export_deliveries import Deliveries
from localcloud.azure.services.exports_api import ExportsApi
from localcloud.azure.services.storage_api import StorageApi
from localcloud.azure.state import World
from localcloud.azure.templates.deployments_api import DeploymentsApi
from localcloud.azure.wire import Answer, Request, corrupted

_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(?:-[a-z]+)?", re.IGNORECASE)
# The published API versions of exports; only the later ones are implemented. "Cost Management", azure-rest-api-specs.
# difference: AZURE-10
_EXPORTS_IMPLEMENTED = (
    "2023-07-01-preview", "2023-08-01", "2023-09-01", "2023-11-01", "2024-01-01", "2024-08-01", "2024-10-01-preview",
    "2025-03-01", "2026-08-01",
)  # fmt: skip
_EXPORTS_OLDER = (
    "2019-01-01", "2019-10-01", "2019-11-01", "2020-06-01", "2020-12-01-preview", "2021-01-01", "2021-10-01",
    "2022-10-01", "2022-10-05-preview", "2023-03-01", "2023-04-01-preview",
)  # fmt: skip
_COST = "/providers/Microsoft.CostManagement/exports"
_AUTH = "/providers/Microsoft.Authorization"
_GROUP = "/providers/Microsoft.Management/managementGroups/([^/]+)"
_BILLING = "/providers/Microsoft.Billing/billingAccounts"
_CHILD = "(billingProfiles|enrollmentAccounts|departments)"


class ResourceManager:
    """Handle one request at a time, after delivering the export runs that are due."""

    def __init__(self, world: World, deliveries: Deliveries, identity: Identity, blob_endpoint: str) -> None:
        self._world = world
        self._identity = identity
        self._deliveries = deliveries
        self._ids = itertools.count(1)
        directory, storage = DirectoryApi(world), StorageApi(world, blob_endpoint)
        resources = ResourcesApi(world, blob_endpoint)
        self._routes = _routes(
            ExportsApi(world, deliveries),
            directory,
            storage,
            AuthorizationApi(world),
            BillingApi(world, directory),
        ) + operator_routes(
            storage,
            resources,
            SitesApi(world),
            LogAnalytics(world),
            ResourceGraph(world, resources),
            DeploymentsApi(world, self.answer),
        )

    def answer(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        request.id = str(UUID(int=next(self._ids)))
        action, app = f"{request.method} unknown", ""
        try:
            request.caller = identify(request.headers.get("authorization", ""), self._world.tenant, MANAGEMENT)
            app = request.caller.principal
            self._identity.check(request.caller)
            route = self._route(request)
            action = route.action.format(*request.path_args)
            answer = self._handle(request, route, action)
        except ArmError as error:
            answer = Answer(error.document(), error.status, dict(error.headers))
        self._world.calls.add(
            Call(self._world.clock.monotonic(), app, request.method, action, request.path, answer.status)
        )
        answer.headers.setdefault("x-ms-request-id", request.id)
        return corrupted(answer, self._world.faults.corruption_of(f"{request.method} {request.path}"))

    def _handle(self, request: Request, route: Route, action: str) -> Answer:
        world = self._world
        attempt = Attempt(
            request.caller.principal, request.method, action, request.path, request.headers, world.clock.monotonic()
        )
        world.faults.delay(action)
        cost = action.startswith("Microsoft.CostManagement/exports")
        self._check_version(request, cost)
        # Rights on an extension resource are checked at the scope that it extends.
        extends = cost or _AUTH in request.path or request.path.lower().endswith(METRICS)
        scope = _scope(request.path) if extends else request.path
        with world.lock:
            world.faults.apply(attempt)
            self._check_quota(request, scope.lower(), cost)
            subscription = subscription_of(request.path)
            if subscription:
                world.directory.get(subscription)
            attributes = role_attributes(request, world.rights) if action.startswith(ASSIGNED) else None
            if route.checked and not world.rights.allows(
                request.caller.principal, action, scope, attributes=attributes
            ):
                raise authorization_failed(request.caller.principal, action, request.path)
            self._check_locks(request)
            self._deliveries.settle()
            answer = route.handler(request)
            if answer.status < 300 and world.behavior.answers != "recorded":
                check_answer(action, request.path, answer.document)
            if not action.endswith("/read"):
                self._world.note(action, _changed(request), request.caller.principal)
            world.faults.apply(attempt, after=True)
        return answer

    def _check_locks(self, request: Request) -> None:
        if request.method in ("GET", "HEAD", "POST"):
            return  # locks block writes and deletions, but none of Cost Management's POST actions
        path = request.path.lower()
        for scope, level in self._world.locks.items():
            if path.startswith(f"{scope}/") and (level == "ReadOnly" or request.method == "DELETE"):
                raise scope_locked(request.path, scope)

    def _check_quota(self, request: Request, scope: str, cost: bool) -> None:
        if request.within:
            return
        self._world.quotas.check(
            request.caller.token,
            request.headers.get("clienttype", ""),
            subscription_of(scope),
            scope,
            cost,
            request.method in ("GET", "HEAD"),
            self._world.clock.monotonic(),
        )

    def _check_version(self, request: Request, cost: bool) -> None:
        version = request.query.get("api-version", "")
        if not version:
            raise ArmError(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        if not _API_VERSION.fullmatch(version):
            raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        if cost and version in _EXPORTS_OLDER:
            raise ArmError(501, "NotImplemented", f"The local Azure does not implement exports api-version {version}.")
        if cost and version not in _EXPORTS_IMPLEMENTED:
            known = ", ".join((*_EXPORTS_OLDER, *_EXPORTS_IMPLEMENTED))
            raise ArmError(
                400,
                "NoRegisteredProviderFound",
                f"No registered resource provider found for location '' and API version '{version}' for type "
                f"'exports'. The supported api-versions are '{known}'. The supported locations are ''.",
            )

    def _route(self, request: Request) -> Route:
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match and route.method == request.method:
                request.path_args = match.groups()
                return route
        # Azure may know the type or the method, so its 404 or 405 would be a guess.
        raise ArmError(501, "NotImplemented", f"The local Azure does not answer {request.method} {request.path}.")


def _scope(path: str) -> str:
    """Return the scope of an extension resource: everything before the last `/providers/`."""
    return path[: path.lower().rfind("/providers/")]


def _changed(request: Request) -> str:
    """Return the ID of the resource that a request changes, without the name of an action."""
    return request.path.rpartition("/")[0] if request.method == "POST" else request.path


def _routes(
    exports: ExportsApi, directory: DirectoryApi, storage: StorageApi, roles: AuthorizationApi, billing: BillingApi
) -> list[Route]:
    """Return the routes, the most frequently used first."""
    account = f"{SUBSCRIPTION}/resourceGroups/([^/]+){ACCOUNTS}/([^/]+)"
    container = f"{account}/blobServices/default/containers/([^/]+)"
    group = f"{SUBSCRIPTION}/resourceGroups/([^/]+)"
    cost, resources = "Microsoft.CostManagement/exports", "Microsoft.Resources/subscriptions"
    defined, groups = "Microsoft.Authorization/roleDefinitions", "Microsoft.Management/managementGroups"
    billed, property_ = "Microsoft.Billing/billingAccounts", "Microsoft.Billing/billingProperty"
    payer = f"{_BILLING}/([^/]+)"
    assigned, stored = ASSIGNED, "Microsoft.Storage/storageAccounts"
    # Billing, and exports at billing scopes, have separate permissions that their handlers check.
    table: list[tuple[str, str, str, Callable[[Request], Answer], bool]] = [
        *(
            (method, f"{scope}{_COST}{rest}", f"{cost}/{right}", handler, checked)
            for scope, checked in (("(/subscriptions/.+)", True), ("(/.+)", False))
            for method, rest, right, handler in (
                ("GET", "/([^/]+)", "read", exports.get),
                ("PUT", "/([^/]+)", "write", exports.put),
                ("GET", "", "read", exports.list),
                ("DELETE", "/([^/]+)", "delete", exports.delete),
                ("POST", "/([^/]+)/run", "run/action", exports.execute),
                ("GET", "/([^/]+)/runHistory", "read", exports.history),
            )
        ),
        ("GET", "/tenants", "Microsoft.Resources/tenants/read", directory.tenants, False),
        ("GET", "/subscriptions", f"{resources}/read", directory.subscriptions, False),
        ("GET", SUBSCRIPTION, f"{resources}/read", directory.subscription, True),
        ("GET", f"{SUBSCRIPTION}/providers", f"{resources}/providers/read", directory.providers, True),
        ("GET", f"{SUBSCRIPTION}/providers/([^/]+)", f"{resources}/providers/read", directory.provider, True),
        ("POST", f"{SUBSCRIPTION}/providers/([^/]+)/register", "{1}/register/action", directory.register, True),
        ("POST", f"{SUBSCRIPTION}/providers/([^/]+)/unregister", "{1}/unregister/action", directory.unregister, True),
        ("GET", f"{SUBSCRIPTION}/resourceGroups", f"{resources}/resourceGroups/read", directory.resource_groups, True),
        ("GET", group, f"{resources}/resourceGroups/read", directory.resource_group, True),
        ("PUT", group, f"{resources}/resourceGroups/write", directory.put_resource_group, True),
        ("DELETE", group, f"{resources}/resourceGroups/delete", directory.delete_resource_group, True),
        ("GET", _GROUP, f"{groups}/read", directory.management_group, True),
        ("GET", f"{_GROUP}/descendants", f"{groups}/descendants/read", directory.descendants, True),
        ("GET", f"{SUBSCRIPTION}{ACCOUNTS}", f"{stored}/read", storage.list, True),
        ("GET", account, f"{stored}/read", storage.get, True),
        ("PATCH", account, f"{stored}/write", storage.update, True),
        ("PUT", account, f"{stored}/write", storage.update, True),
        ("DELETE", account, f"{stored}/delete", storage.delete, True),
        ("GET", container, f"{stored}/blobServices/containers/read", storage.container, True),
        ("PUT", container, f"{stored}/blobServices/containers/write", storage.put_container, True),
        ("GET", f"(.*){_AUTH}/roleAssignments", f"{assigned}/read", roles.assignments, True),
        ("GET", f"(.*){_AUTH}/roleAssignments/([^/]+)", f"{assigned}/read", roles.assignment, True),
        ("PUT", f"(.*){_AUTH}/roleAssignments/([^/]+)", f"{assigned}/write", roles.put_assignment, True),
        ("DELETE", f"(.*){_AUTH}/roleAssignments/([^/]+)", f"{assigned}/delete", roles.delete_assignment, True),
        ("GET", f"(.*){_AUTH}/roleDefinitions", f"{defined}/read", roles.definitions, True),
        ("GET", f"(.*){_AUTH}/roleDefinitions/([^/]+)", f"{defined}/read", roles.definition, True),
        ("PUT", f"(.*){_AUTH}/roleDefinitions/([^/]+)", f"{defined}/write", roles.put_definition, True),
        ("DELETE", f"(.*){_AUTH}/roleDefinitions/([^/]+)", f"{defined}/delete", roles.delete_definition, True),
        ("GET", f"(.*){_AUTH}/permissions", "Microsoft.Authorization/permissions/read", roles.permissions, True),
        ("GET", f"{SUBSCRIPTION}/providers/{property_}/default", f"{property_}/read", billing.billing_property, True),
        ("GET", _BILLING, f"{billed}/read", billing.accounts, False),
        ("GET", payer, f"{billed}/read", billing.account, False),
        ("GET", f"{payer}/{_CHILD}", f"{billed}/{{1}}/read", billing.children, False),
        (
            "GET",
            f"{payer}/departments/([^/]+)/enrollmentAccounts",
            f"{billed}/departments/enrollmentAccounts/read",
            billing.accounts_of_department,
            False,
        ),
        ("GET", f"{payer}/customers", f"{billed}/customers/read", billing.customers, False),
        ("GET", f"{payer}/billingSubscriptions", f"{billed}/billingSubscriptions/read", billing.subscriptions, False),
        (
            "GET",
            f"{payer}/(billingProfiles|enrollmentAccounts)/([^/]+)/billingSubscriptions",
            f"{billed}/{{1}}/billingSubscriptions/read",
            billing.subscriptions,
            False,
        ),
    ]
    return routes(table)
