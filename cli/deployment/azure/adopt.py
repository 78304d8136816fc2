"""Finds the resources of a plan that already exist in Azure, and their import ids.

Sources of the ids: the import sections of the azurerm provider's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cli.deployment.azure.app import RESOURCES_API, SITES_API, FunctionApp
from cli.deployment.azure.connector import Assignment, assignments, connector
from cli.deployment.azure.existing import WORKBOOK, WORKBOOKS_API, workbook
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.preflight import ROLES_API, STORAGE_API
from cli.deployment.azure.session import MANAGEMENT_GROUPS, Session
from cli.deployment.model import Adoption, Change, OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.terraform.root_module import ADDRESS
from shared.errors import NotFound

EVENT_GRID_API = "2025-02-15"
# Type → the part of the resource's id between resource group and name, and the API version to read it with.
IN_GROUP = {
    "azurerm_application_insights": ("Microsoft.Insights/components", "2020-02-02"),
    "azurerm_eventgrid_system_topic": ("Microsoft.EventGrid/systemTopics", EVENT_GRID_API),
    "azurerm_eventgrid_topic": ("Microsoft.EventGrid/topics", EVENT_GRID_API),
    "azurerm_log_analytics_workspace": ("Microsoft.OperationalInsights/workspaces", "2023-09-01"),
    "azurerm_private_endpoint": ("Microsoft.Network/privateEndpoints", "2024-01-01"),
    "azurerm_monitor_action_group": ("Microsoft.Insights/actionGroups", "2023-01-01"),
    "azurerm_monitor_scheduled_query_rules_alert_v2": ("Microsoft.Insights/scheduledQueryRules", "2023-12-01"),
    "azurerm_resource_group_template_deployment": ("Microsoft.Resources/deployments", RESOURCES_API),
    "azurerm_service_plan": ("Microsoft.Web/serverFarms", SITES_API),
    "azurerm_storage_account": ("Microsoft.Storage/storageAccounts", STORAGE_API),
    "azurerm_user_assigned_identity": ("Microsoft.ManagedIdentity/userAssignedIdentities", "2023-01-31"),
}
IN_MANAGEMENT_GROUP = {
    "azurerm_management_group_policy_assignment": ("Microsoft.Authorization/policyAssignments", "2023-04-01"),
    "azurerm_management_group_policy_remediation": ("Microsoft.PolicyInsights/remediations", "2021-10-01"),
    "azurerm_policy_definition": ("Microsoft.Authorization/policyDefinitions", "2023-04-01"),
}
_ADDRESS = re.compile(r'(?P<type>\w+)\.(?P<label>\w+)(?:\["?(?P<key>[^"\]]+)"?\])?')


def adoptions(session: Session, changes: Sequence[Change], tell: Tell) -> Iterator[Adoption]:
    """Yield the planned resources that already exist."""
    yield from Adopter(session, deployed(session), changes).adoptions(tell)


class Adopter:
    """Finds the existing resources of one plan; each is read by the id that it would get."""

    def __init__(self, session: Session, deployed: FunctionApp | None, changes: Sequence[Change]) -> None:
        self._session = session
        self._deployed = deployed
        self._changes = changes
        self._taken: set[str] = set()
        self._held: dict[tuple[str, str], list[Assignment]] = {}
        self._kinds: dict[str, Callable[[Change], str]] = {
            "azurerm_application_insights_workbook": self._workbook,
            "azurerm_eventgrid_system_topic_event_subscription": self._event_subscription,
            "azurerm_resource_group": self._group,
            "azurerm_resource_provider_registration": self._provider,
            "azurerm_role_assignment": self._assignment,
            "azurerm_role_definition": self._definition,
            "azurerm_storage_container": self._container,
            "azurerm_storage_management_policy": self._lifecycle,
            **dict.fromkeys(IN_GROUP, self._in_group),
            **dict.fromkeys(IN_MANAGEMENT_GROUP, self._in_management_group),
        }

    def adoptions(self, tell: Tell) -> Iterator[Adoption]:
        """Yield existing resources. Unreadable ones are reported, and Terraform fails on them if they exist."""
        for change in self._changes:
            look = self._kinds.get(change.type)
            if look is None:
                continue
            try:
                found = look(change)
            except (NotFound, OperatorError) as error:
                tell(f"{change.address.removeprefix(ADDRESS)} could not be looked up: {error}")
                continue
            if found:
                yield Adoption(change.address, found)

    def _group(self, change: Change) -> str:
        return self._there(f"{self._session.path}/resourceGroups/{change.after['name']}", RESOURCES_API)

    def _in_group(self, change: Change) -> str:
        kind, api = IN_GROUP[change.type]
        group = change.after.get("resource_group_name") or self._planned("azurerm_resource_group", "this")
        return self._there(f"{self._session.path}/resourceGroups/{group}/providers/{kind}/{change.after['name']}", api)

    def _workbook(self, change: Change) -> str:
        """Return the workbook of the planned name, else the one that a launch template made under another GUID."""
        group = change.after.get("resource_group_name") or self._planned("azurerm_resource_group", "this")
        where = f"{self._session.path}/resourceGroups/{group}"
        named = self._there(f"{where}/providers/{WORKBOOK}/{change.after['name']}", WORKBOOKS_API)
        return named or workbook(self._session, where, str(change.after.get("display_name", "")))

    def _event_subscription(self, change: Change) -> str:
        group = change.after.get("resource_group_name") or self._planned("azurerm_resource_group", "this")
        topic = f"{self._session.path}/resourceGroups/{group}/providers/Microsoft.EventGrid/systemTopics"
        name = f"{change.after['system_topic']}/eventSubscriptions/{change.after['name']}"
        return self._there(f"{topic}/{name}", EVENT_GRID_API)

    def _in_management_group(self, change: Change) -> str:
        kind, api = IN_MANAGEMENT_GROUP[change.type]
        group = str(change.after.get("management_group_id") or f"{MANAGEMENT_GROUPS}/{self._session.group}")
        return self._there(f"{group}/providers/{kind}/{change.after['name']}", api)

    def _provider(self, change: Change) -> str:
        path = f"{self._session.path}/providers/{change.after['name']}"
        found = self._session.rest.get(path, RESOURCES_API) or {}
        return path if found.get("registrationState") == "Registered" else ""

    def _container(self, change: Change) -> str:
        account = self._account(change)
        return self._there(f"{account}/blobServices/default/containers/{change.after['name']}", STORAGE_API)

    def _lifecycle(self, change: Change) -> str:
        return self._there(f"{self._account(change)}/managementPolicies/default", STORAGE_API)

    def _definition(self, change: Change) -> str:
        """Return ``{id}|{scope}``: names of custom roles are unique in a tenant."""
        scope, name = change.after.get("scope"), change.after.get("name")
        found = self._role_named(str(scope), str(name)) if scope and name else None
        return f"{found['id']}|{scope}" if found else ""

    def _assignment(self, change: Change) -> str:
        """Return the assignment of the same role to the same principal, at the scope that the plan knows."""
        label, key = _parts(change.address)
        role = self._role_of(change, label, key)
        principal = str(change.after.get("principal_id") or self._principal(label))
        if not role or not principal:
            return ""
        scope = str(change.after.get("scope") or "").lower()
        for one in self._assignments(principal, scope):
            if one.role == role and scope in ("", one.scope.lower()) and one.id not in self._taken:
                self._taken.add(one.id)
                return one.id
        return ""

    def _role_of(self, change: Change, label: str, key: str) -> str:
        """Return the GUID of the role that an assignment grants, "" if it does not exist yet."""
        known = change.after.get("role_definition_id")
        if known:
            return str(known).rsplit("/", 1)[-1].lower()
        name, scope = change.after.get("role_definition_name"), self._session.path
        if not name:
            # The role is created or imported in the same plan, under the key that this one begins with.
            planned = self._change("azurerm_role_definition", label, key.partition("/")[0])
            if planned is None:
                return ""
            name, scope = planned.after.get("name"), str(planned.after.get("scope"))
        found = self._role_named(scope, str(name))
        return str(found["name"]).lower() if found else ""

    def _role_named(self, scope: str, name: str) -> Mapping[str, Any] | None:
        url = f"{scope}/providers/Microsoft.Authorization/roleDefinitions"
        return next(iter(self._session.rest.listed(url, ROLES_API, _filter=f"roleName eq '{name}'")), None)

    def _principal(self, label: str) -> str:
        if self._deployed is None:
            return ""
        if label.startswith("function"):
            return self._deployed.principal
        if label == "connector":
            return connector(self._session, self._deployed).principal
        return ""

    def _assignments(self, principal: str, scope: str) -> list[Assignment]:
        """Return a principal's assignments, also those in the subscription of a scope: a workspace, a secret."""
        owner = scope.partition("/resourcegroups/")[0] if scope.startswith("/subscriptions/") else ""
        if (principal, owner) not in self._held:
            more = [owner] if owner not in ("", self._session.path) else []
            self._held[principal, owner] = assignments(self._session, self._deployed, principal, more)
        return self._held[principal, owner]

    def _account(self, change: Change) -> str:
        """Return the id of a resource's storage account; for one in the same plan it follows from the address."""
        known = change.after.get("storage_account_id")
        if known:
            return str(known)
        label, key = _parts(change.address)
        parent = self._change("azurerm_storage_account", label, key) or self._change("azurerm_storage_account", label)
        if parent is None:
            raise OperatorError(Problem("the plan does not say in which storage account it lies"))
        group = parent.after.get("resource_group_name") or self._planned("azurerm_resource_group", "this")
        name, path = parent.after["name"], self._session.path
        return f"{path}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{name}"

    def _change(self, kind: str, label: str, key: str = "") -> Change | None:
        for one in self._changes:
            if one.type == kind and _parts(one.address) == (label, key):
                return one
        return None

    def _planned(self, kind: str, label: str) -> str:
        found = self._change(kind, label)
        return str(found.after.get("name")) if found else ""

    def _there(self, path: str, api: str) -> str:
        return path if self._session.rest.get(path, api) is not None else ""


def _parts(address: str) -> tuple[str, str]:
    """Return the label and the key ("" without one) of a resource's address."""
    found = _ADDRESS.search(address.removeprefix(ADDRESS))
    return (found["label"], found["key"] or "") if found else ("", "")
