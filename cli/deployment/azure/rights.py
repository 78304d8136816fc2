"""The permissions that deploying and removing require on Azure, from operator.yaml, and how to grant them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from azure_function.resources.permissions import PERMISSIONS_API, allows
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.session import Session
from cli.deployment.grants import OPERATOR_FILE, grants
from cli.deployment.model import Finding, OperatorError
from cli.deployment.terraform.root_module import INFRA
from shared.errors import NotFound, ReportedError

ROLE = INFRA / "azure" / "operator-role.json"
ROLE_NAME = "Tailpipe Exports Operator"
PLACEHOLDER = "MANAGEMENT_GROUP"
APP_IDS = {"prod": "f5f07900-0484-4506-a34d-ec781138342a", "uat": "071b0391-48e8-483c-b652-a8a6cd43a018"}
# Ids of the directory roles that may add an enterprise application ("Microsoft Entra built-in roles").
DIRECTORY_ROLES = {
    "62e90394-69f5-4237-9190-012177145e10": "Global Administrator",
    "9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3": "Application Administrator",
    "158c047a-c907-4556-b7ef-446551a6b5f7": "Cloud Application Administrator",
}
OPTIONAL = {
    "policy": "policy = audit or deploy",
    "storage_closed": "storage_closed = true",
    "delivery_events": "delivery_events = true",
    "fleet": "fleet = true",
    "native": "--with native",
    "delete_exports": "--delete-exports",
}
SHOWN = 3


def role_document(listed: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the custom role that holds every action of the grants, as `az role definition create` takes it.

    Its assignable scope has a placeholder for the management group, which covers the subscriptions below it.
    """
    actions = sorted({action for some in listed.values() for one in some for action in one.get("actions", ())})
    return {
        "Name": ROLE_NAME,
        "IsCustom": True,
        "Description": "Deploys and removes Tailpipe Exports, and nothing else.",
        "Actions": actions,
        "NotActions": [],
        "DataActions": [],
        "NotDataActions": [],
        "AssignableScopes": [f"/providers/Microsoft.Management/managementGroups/{PLACEHOLDER}"],
    }


def rights(session: Session) -> list[Finding]:
    """Check each grant; a missing one has the command that grants it as its remedy."""
    held: dict[str, list[Mapping[str, Any]] | str] = {}
    found = []
    for verb, listed in grants("azure", OPERATOR_FILE).items():
        for grant in listed:
            what = f"{verb}: {grant['id']}"
            if grant["scope"] == "directory":
                found.append(_directory(session.rest, what, grant))
                continue
            scopes = (session.path,) if grant["scope"] == "subscription" else session.scopes
            for scope in scopes:
                if scope not in held:
                    held[scope] = _permissions(session.rest, scope)
                found.append(_judged(session, what, grant, scope, held[scope]))
    return found


def _permissions(rest: Rest, scope: str) -> list[Mapping[str, Any]] | str:
    """Return the caller's permissions at a scope as Azure reports them, or why they cannot be read."""
    try:
        return list(rest.pages(f"{scope}/providers/Microsoft.Authorization/permissions", PERMISSIONS_API))
    except NotFound as error:
        return error.message
    except OperatorError as error:
        return str(error)


def _judged(
    session: Session, what: str, grant: Mapping[str, Any], scope: str, held: list[Mapping[str, Any]] | str
) -> Finding:
    title = f"{what} on {scope.rsplit('/providers/', 1)[-1].lstrip('/')}"
    if isinstance(held, str):
        return Finding(title, None, f"your permissions there could not be read: {held}", _remedy(session, scope))
    lacking = [one for one in grant["actions"] if not any(allows(permission, one) for permission in held)]
    if not lacking:
        if any(one.get("condition") for one in held) and any("roleAssignments" in one for one in grant["actions"]):
            return Finding(title, None, "held under a condition, which may not allow the roles that are granted")
        return Finding(title, True, str(grant["why"]))
    detail = f"missing {_cut(lacking)}. {grant['why']}"
    wanted = {
        "policy": session.policy,
        "storage_closed": session.closed,
        "delivery_events": session.announces,
        "fleet": session.fleet,
    }
    if grant.get("when") in OPTIONAL and not wanted.get(grant["when"]):
        return Finding(title, None, f"{detail} Needed for {OPTIONAL[grant['when']]} alone.", _remedy(session, scope))
    return Finding(title, False, detail, _remedy(session, scope))


def _remedy(session: Session, scope: str) -> str:
    """Return the commands that create the role once, and then assign it."""
    group = session.group or session.tenant
    kind = "User" if session.user else "ServicePrincipal"
    return (
        f"az role definition create --role-definition \"$(sed 's/{PLACEHOLDER}/{group}/' infra/azure/{ROLE.name})\" "
        f'(once), then az role assignment create --role "{ROLE_NAME}" '
        f"--assignee-object-id {session.caller or 'YOUR-OBJECT-ID'} --assignee-principal-type {kind} --scope {scope}"
    )


def _directory(rest: Rest, what: str, grant: Mapping[str, Any]) -> Finding:
    """Check whether Tailpipe's application exists, and whether the caller could add it."""
    title = f"{what} in Microsoft Entra ID"
    present, unread = [], ""
    for environment, app in APP_IDS.items():
        try:
            rest.graph(f"/v1.0/servicePrincipals(appId='{app}')")
            present.append(environment)
        except NotFound:
            continue
        except ReportedError as error:
            unread = error.message
    if present:
        return Finding(title, True, f"Tailpipe's application ({', '.join(present)}) already exists")
    remedy = (
        f"Have an administrator run az ad sp create --id {APP_IDS['prod']} (prod) or {APP_IDS['uat']} (uat) once, or "
        f"assign you the directory role {grant['role']}."
    )
    try:
        held = rest.graph("/v1.0/me/transitiveMemberOf/microsoft.graph.directoryRole").get("value", ())
    except ReportedError as error:
        return Finding(title, None, f"your directory roles could not be read: {unread or error.message}", remedy)
    mine = [DIRECTORY_ROLES[one["roleTemplateId"]] for one in held if one.get("roleTemplateId") in DIRECTORY_ROLES]
    if mine:
        return Finding(title, True, f"you are {mine[0]}")
    return Finding(title, False, f"none of your directory roles may add it. {grant['why']}", remedy)


def _cut(actions: Iterable[str]) -> str:
    listed = list(actions)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more
