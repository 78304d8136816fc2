"""The removal of a deployment that a launch template made: resource by resource, rights first, data last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cli.deployment.azure.app import NAME_VARIABLE, SITES_API, TAG, TAGGED, FunctionApp
from cli.deployment.azure.connector import connector, container_of, containers
from cli.deployment.azure.existing import POLICY_API, custom_roles
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.names import names, short_name
from cli.deployment.azure.preflight import ROLES_API, STORAGE_API
from cli.deployment.azure.remove import DATA, IDENTITY, delete_generated
from cli.deployment.azure.session import MANAGEMENT_GROUPS, Session
from cli.deployment.model import Kept, OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.output import number_of
from shared.errors import NotFound

RESOURCES_API = "2021-04-01"
DEPLOYMENTS_API = "2022-09-01"
GROUP = "Microsoft.Resources/resourceGroups"
DEPLOYMENTS = "/providers/Microsoft.Resources/deployments"
# The template's deployment of what is in its resource group: the end of its name.
RESOURCES = "-resources"
# A deployment in any other state goes on, also when the command that began it was interrupted.
ENDED = frozenset({"Succeeded", "Failed", "Canceled"})
POLL_S = 5.0
# The container of the tenant registry, which other principals write to.
REGISTRY = "blobServices/default/containers/tailpipe-registry"
# In the order of their removal: what refers to a resource goes before it.
TYPES = {
    "Microsoft.EventGrid/systemTopics": "2022-06-15",
    "Microsoft.EventGrid/topics": "2022-06-15",
    "Microsoft.Insights/scheduledQueryRules": "2023-12-01",
    "Microsoft.Insights/workbooks": "2023-06-01",
    "Microsoft.Insights/actionGroups": "2023-01-01",
    "Microsoft.Web/sites": SITES_API,
    "Microsoft.Web/serverfarms": SITES_API,
    "Microsoft.Insights/components": "2020-02-02",
    "Microsoft.OperationalInsights/workspaces": "2023-09-01",
    "Microsoft.Network/privateEndpoints": "2024-01-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2023-01-31",
    "Microsoft.Storage/storageAccounts": STORAGE_API,
}


@dataclass(frozen=True)
class Removed:
    """A resource to delete: its id, its type, and the API version to delete it with."""

    id: str
    type: str
    api: str


def unfinished(session: Session) -> list[tuple[str, str]]:
    """Return the template's deployments that left a record, the named one only: id of the resource group, app's name.

    The template tags its resource group, whatever its name is.
    """
    wanted = session.environment.get(NAME_VARIABLE, "").strip().lower()
    found = []
    for group in session.rest.listed(f"{session.path}/resourceGroups", RESOURCES_API):
        if (group.get("tags") or {}).get(TAG) != TAGGED:
            continue
        for one in session.rest.listed(f"{group['id']}{DEPLOYMENTS}", DEPLOYMENTS_API):
            function = str(one["name"]).removesuffix(RESOURCES)
            if function != one["name"] and wanted in ("", function.lower()):
                found.append((str(group["id"]), function))
    return found


def placed(session: Session, app: FunctionApp | None) -> tuple[str, str]:
    """Return the id of a deployment's resource group and the app's name.

    Without an app, as its creation failed or its removal was interrupted, they are those of the template's deployment
    that left a record, else the defaults. Raises OperatorError if several did.
    """
    name = names(session.subscription, {})
    if app is not None:
        return f"{session.path}/resourceGroups/{app.id.split('/')[4]}", app.name
    left = unfinished(session)
    if len(left) > 1:
        several = ", ".join(sorted(function for _, function in left))
        raise OperatorError(
            Problem(f"several deployments lack their function app: {several}", "Choose one of them: --function NAME.")
        )
    return left[0] if left else (f"{session.path}/resourceGroups/{name.group}", name.function)


def wait_until_idle(session: Session, group: str, function: str, tell: Tell) -> None:
    """Wait for the template's deployments that another command began.

    Azure refuses a second deployment of the name (DeploymentActive), and the first one would create again what a
    removal deletes. Source: "Detect active deployments before provisioning", github.com/Azure/azure-dev/pull/7251.
    """
    announced = False
    while active := [one for one in _records(session, group, function) if _state(one) not in ENDED]:
        if not announced:
            tell(f"waiting: Azure carries out deployment {active[0]['name']} of another command")
            announced = True
        session.rest.clock.wait_until(session.rest.clock.monotonic() + POLL_S)


def _state(record: Mapping[str, Any]) -> str:
    return str((record.get("properties") or {}).get("provisioningState", ""))


def removals(session: Session, kept: Sequence[Kept]) -> Iterator[Removed]:
    """Yield what a removal deletes, in its order."""
    held = {address for one in kept for address in one.addresses}
    keeps_data, keeps_identity = set(DATA) <= held, set(IDENTITY) <= held
    app = deployed(session)
    where, function = placed(session, app)
    name = names(session.subscription, {})
    given = _given(session, where, function)
    places = list(dict.fromkeys((*session.scopes, session.path, where, *_elsewhere(given))))
    roles = [one for scope in places for one in _roles(session, scope, function)]
    readers = set() if keeps_identity else _readers(session, app, given)
    read = containers(app) if app else _delivered(given, where)
    ours = {one.id.rsplit("/", 1)[-1].lower() for one in roles}
    yield from _granted(session, app, readers, read, places, ours)
    yield from roles
    if session.group:
        for kind, policy in (
            ("policyAssignments", "deploy-cost-export-a"),
            ("policyDefinitions", "deploy-cost-export"),
        ):
            path = f"{session.scopes[0]}/providers/Microsoft.Authorization/{kind}/{policy}"
            if session.rest.get(path, POLICY_API) is not None:
                yield Removed(path, f"Microsoft.Authorization/{kind}", POLICY_API)
    if session.rest.get(where, RESOURCES_API) is None:
        return
    # Without an app, names do not show which accounts hold data, so only the function's own account is deleted.
    known = app.settings.get("AzureWebJobsStorage__accountName", "") if app else str(given.get("hostName") or "")
    host = (known or name.host).lower()
    found = list(session.rest.pages(f"{where}/resources", RESOURCES_API))
    for kind, api in TYPES.items():
        for one in found:
            tagged = (one.get("tags") or {}).get(TAG) == TAGGED
            stays = keeps_data and str(one["name"]).lower() != host and kind.endswith("storageAccounts")
            if tagged and not stays and str(one["type"]).lower() == kind.lower():
                yield Removed(str(one["id"]), kind, api)
    yield from records(session, where, function, places)
    if not keeps_data and session.rest.get(where, RESOURCES_API) is not None:
        yield Removed(where, GROUP, RESOURCES_API)


def _given(session: Session, group: str, function: str) -> Mapping[str, Any]:
    """Return the parameters of a template's deployment and the names made of them, from its record; {} without one."""
    record = f"{group}{DEPLOYMENTS}/{function}{RESOURCES}"
    found = (session.rest.get(record, DEPLOYMENTS_API) or {}).get("properties") or {}
    given: Mapping[str, Any] = ((found.get("parameters") or {}).get("deployment") or {}).get("value") or {}
    return given


def _readers(session: Session, app: FunctionApp | None, given: Mapping[str, Any]) -> set[str]:
    """Return the object ids of Tailpipe's application: as deployed, and as Microsoft Graph shows it, if it does."""
    shown = connector(session, app).principal if app else ""
    return {shown, str(given.get("connectorObjectId") or "")} - {""}


def _delivered(given: Mapping[str, Any], group: str) -> list[str]:
    """Return the ids of the containers that exports are delivered to, from a template's record."""
    own = [f"{group}/providers/Microsoft.Storage/storageAccounts/{one}" for one in given.get("destinationNames") or ()]
    accounts = [*own, *(given.get("furtherDestinations") or ())]
    return [container_of(one, str(given.get("containerName"))) for one in accounts]


def _elsewhere(given: Mapping[str, Any]) -> list[str]:
    """Return the scopes outside the resource group that a template gave rights in."""
    resources = [given.get(name) or "" for name in ("activityLogWorkspaceId", "notifySecret")]
    return [
        *(given.get("destinationSubscriptions") or ()),
        *(given.get("destinationGroups") or ()),
        *(f"/subscriptions/{one}" for one in given.get("includeSubscriptions") or ()),
        *(f"{MANAGEMENT_GROUPS}/{one}" for one in [given.get("managementGroupId")] if one),
        *(one.partition("/providers/")[0] for one in resources if one),
    ]


def _granted(
    session: Session,
    app: FunctionApp | None,
    readers: set[str],
    delivered: Sequence[str],
    places: Sequence[str],
    roles: set[str],
) -> Iterator[Removed]:
    """Yield the role assignments of a deployment: the function's, Tailpipe's, the registry's, and those of its roles.

    Its roles may have assignments of others: of the policy, and of an app that was replaced by another one. Azure
    deletes no role that is assigned.
    """
    # Tailpipe's application may serve other deployments of this tenant too.
    read = {one.lower() for one in (*delivered, *places)}
    registries = {f"{one.id}/{REGISTRY}".lower() for one in (app.destinations if app else ())}
    seen: set[str] = set()
    for place in places:
        for one in session.rest.listed(f"{place}/providers/Microsoft.Authorization/roleAssignments", ROLES_API):
            properties = one.get("properties") or {}
            scope, who = str(properties.get("scope", "")).lower(), str(properties.get("principalId", ""))
            ours = (
                str(properties.get("roleDefinitionId", "")).rsplit("/", 1)[-1].lower() in roles
                or (app is not None and who == app.principal)
                or (who in readers and scope in read)
                or scope in registries
            )
            if ours and str(one["id"]).lower() not in seen:
                seen.add(str(one["id"]).lower())
                yield Removed(str(one["id"]), "Microsoft.Authorization/roleAssignments", ROLES_API)


def _roles(session: Session, scope: str, function: str) -> Iterator[Removed]:
    path = f"{scope}/providers/Microsoft.Authorization/roleDefinitions"
    for one in custom_roles(session, scope, function):
        yield Removed(f"{path}/{one['name']}", "Microsoft.Authorization/roleDefinitions", ROLES_API)


def records(session: Session, group: str, function: str, more: Sequence[str] = ()) -> Iterator[Removed]:
    """Yield the records of a template's deployments, in its resource group, its subscription, its scopes and `more`."""
    for one in _records(session, group, function, more):
        yield Removed(one["path"], "Microsoft.Resources/deployments", DEPLOYMENTS_API)


def _records(session: Session, group: str, function: str, more: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield these records as Azure shows them, each with its `path`."""
    for scope in dict.fromkeys((group, session.path, *session.scopes, *more)):
        path = f"{scope}{DEPLOYMENTS}"
        for one in session.rest.listed(path, DEPLOYMENTS_API):
            if str(one["name"]) == function or str(one["name"]).startswith(f"{function}-"):
                yield one | {"path": f"{path}/{one['name']}"}


def remove(session: Session, gone: Sequence[Removed], tell: Tell) -> None:
    """Delete resources, in order; what is gone already is skipped, and a group with resources of others stays."""
    app = deployed(session)
    for one in gone:
        if one.type == "Microsoft.Insights/components" and app is not None:
            delete_generated(session.rest, app, tell)
        if one.type == GROUP and (others := list(session.rest.pages(f"{one.id}/resources", RESOURCES_API))):
            tell(f"{one.id.rsplit('/', 1)[-1]} stays: it holds {number_of(others, 'resource')} of others")
            continue
        try:
            session.rest.ask("DELETE", quote(one.id, safe="/"), one.api)
        except NotFound:
            continue
        tell(f"{short_name(one.id)} is deleted")
