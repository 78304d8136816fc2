"""The GUIDs that the custom roles, role assignments and workbook of a deployment have, whichever engine made them.

Terraform gives a role and an assignment a random GUID, and the launch template one that follows from what it is for.
Azure refuses a second role of the same title, and a second assignment of the same role to the same principal at the
same scope, so each engine takes over what the other one made under the name that it has. Sources: pull request 685 of
terraform-provider-azurerm; "onlyIfNotExists", discussion 19690 of Azure/bicep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cli.deployment.azure.app import RESOURCES_API, TAG, TAGGED, FunctionApp
from cli.deployment.azure.connector import assignments
from cli.deployment.azure.names import Names
from cli.deployment.azure.preflight import ROLES_API
from cli.deployment.azure.session import Session

POLICY_API, WORKBOOKS_API = "2023-04-01", "2023-06-01"
WORKBOOK = "Microsoft.Insights/workbooks"


def custom_roles(session: Session, scope: str, function: str) -> Iterator[Mapping[str, Any]]:
    """Yield the custom roles of a deployment that can be assigned at a scope; none if it does not exist."""
    path = f"{scope}/providers/Microsoft.Authorization/roleDefinitions"
    for one in session.rest.listed(path, ROLES_API, _filter="type eq 'CustomRole'"):
        properties = one.get("properties") or {}
        title = str(properties.get("roleName", ""))
        made_here = scope.lower() in {str(at).lower() for at in properties.get("assignableScopes") or ()}
        if title.startswith("Tailpipe Exports, ") and title.endswith(f"({function})") and made_here:
            yield one


def workbook(session: Session, group: str, title: str) -> str:
    """Return the id of our workbook in a resource group, "" if there is none.

    It is found by its title, because its name is a GUID.
    """
    for one in session.rest.listed(f"{group}/resources", RESOURCES_API, _filter=f"resourceType eq '{WORKBOOK}'"):
        if (one.get("tags") or {}).get(TAG) == TAGGED:
            found = session.rest.get(str(one["id"]), WORKBOOKS_API) or {}
            if (found.get("properties") or {}).get("displayName") == title:
                return str(one["id"])
    return ""


def existing_names(
    session: Session, name: Names, app: FunctionApp | None, principals: Iterable[str], elsewhere: Iterable[str]
) -> dict[str, str]:
    """Return the templates' parameter `existingNames`: GUIDs by title, or by ``SCOPE|ROLE|PRINCIPAL``.

    `principals` hold rights beside the app and the policy; `elsewhere` are ids of resources in other resource groups
    on which the app has rights.
    """
    group = f"{session.path}/resourceGroups/{name.group}"
    others = [one.partition("/providers/")[0] for one in elsewhere]
    found = {
        str(one["properties"]["roleName"]): str(one["name"])
        for scope in dict.fromkeys((*session.scopes, session.path, group, *others))
        for one in custom_roles(session, scope, name.function)
    }
    policy = _policy_identity(session)
    holders = [*principals, policy, app.principal if app else ""]
    for principal in dict.fromkeys(filter(None, holders)):
        for one in assignments(session, app, principal, [f"/subscriptions/{each.split('/')[2]}" for each in others]):
            guid = one.id.rsplit("/", 1)[-1]
            found[f"{one.scope}|{one.role}|{principal}"] = guid
            if principal == policy:
                found[f"{one.scope}|{one.role}|policy"] = guid
    title = f"Tailpipe Exports: {name.function}"
    made = workbook(session, group, title)
    return found | ({title: made.rsplit("/", 1)[-1]} if made else {})


def _policy_identity(session: Session) -> str:
    """Return the principal of the policy's assignment, "" if it has none."""
    if not session.group:
        return ""
    path = f"{session.scopes[0]}/providers/Microsoft.Authorization/policyAssignments/deploy-cost-export-a"
    found = session.rest.get(path, POLICY_API) or {}
    return str((found.get("identity") or {}).get("principalId") or "")
