"""Tailpipe's application in the tenant, and its permissions there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cli.deployment.azure.app import FunctionApp
from cli.deployment.azure.preflight import ROLES_API
from cli.deployment.azure.rights import APP_IDS
from cli.deployment.azure.session import Session
from shared.errors import ReportedError

# Azure's own roles ("Azure built-in roles").
BLOB_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
MONITORING_READER = "43d0d8ad-25c7-4714-9337-8ba259a9fe05"
MANAGEMENT_GROUP = "/providers/microsoft.management/managementgroups/"


@dataclass(frozen=True)
class Assignment:
    """A role assignment: its id, the role's GUID, and its scope."""

    id: str
    role: str
    scope: str


@dataclass(frozen=True)
class Connector:
    """`app` and `principal` are "" if Microsoft Graph does not return them; `held` are the visible assignments."""

    app: str
    principal: str
    held: tuple[Assignment, ...]

    def monitored(self) -> list[str]:
        """Return the scopes where it reads metrics."""
        return [one.scope for one in self.held if one.role == MONITORING_READER]


def containers(deployed: FunctionApp) -> list[str]:
    """Return the ids of the containers that exports are delivered to."""
    return [container_of(one.id, deployed.container) for one in deployed.destinations]


def container_of(account: str, name: str) -> str:
    """Return the id of a storage account's container."""
    return f"{account}/blobServices/default/containers/{name}"


def connector(session: Session, deployed: FunctionApp) -> Connector:
    """Return Tailpipe's application: the one of the two environments that reads the containers, else any."""
    found = []
    for app in APP_IDS.values():
        try:
            principal = str(session.rest.graph(f"/v1.0/servicePrincipals(appId='{app}')")["id"])
        except ReportedError:
            continue
        found.append(Connector(app, principal, tuple(assignments(session, deployed, principal))))
    wanted = {one.lower() for one in containers(deployed)}
    readers = [one for one in found if any(held.scope.lower() in wanted for held in one.held)]
    return next(iter([*readers, *found]), Connector("", "", ()))


def assignments(
    session: Session, deployed: FunctionApp | None, principal: str, more: Sequence[str] = ()
) -> list[Assignment]:
    """Return a principal's role assignments in the deployment's subscriptions and groups, and in `more` scopes."""
    paths = dict.fromkeys(
        [session.path, *(f"/subscriptions/{one.subscription}" for one in (deployed.destinations if deployed else ()))]
    )
    paths |= dict.fromkeys((*session.scopes, *more))
    found: dict[str, Assignment] = {}
    for path in paths:
        url = f"{path}/providers/Microsoft.Authorization/roleAssignments"
        for one in session.rest.listed(url, ROLES_API, _filter=f"principalId eq '{principal}'"):
            properties = one.get("properties") or {}
            if properties.get("principalId") == principal:
                role = str(properties.get("roleDefinitionId", "")).rsplit("/", 1)[-1].lower()
                found[str(one["id"]).lower()] = Assignment(str(one["id"]), role, str(properties.get("scope", "")))
    return list(found.values())
