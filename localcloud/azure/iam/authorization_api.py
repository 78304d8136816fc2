"""Resource Manager's operations on role assignments and role definitions."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.iam.conditions import ROLE_OF, TYPE_OF, Attributes, holds
from localcloud.azure.iam.rights import Rights, Role, role_id, subscription_of
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

_PRINCIPAL = re.compile(r"(?:principalId eq|assignedTo\()\s*'([^']+)'", re.IGNORECASE)
ASSIGNED = "Microsoft.Authorization/roleAssignments"


def role_attributes(request: Request, rights: Rights) -> Attributes:
    """Return the attributes that conditions can test in a call on one role assignment: role and principal type.

    A write uses the values in the request, any other call those of the existing assignment. Raises ArmError 400 for an
    invalid body.
    """
    if request.method == "PUT":
        sent = request.json().get("properties")
        properties = sent if isinstance(sent, dict) else {}
        return role_values(
            "Request", str(properties.get("roleDefinitionId", "")), str(properties.get("principalType", ""))
        )
    held = rights.assignments.get(request.path.rstrip("/").rsplit("/", 1)[-1].lower())
    return role_values("Resource", held.role, held.kind) if held else {}


def role_values(of: str, role: str, kind: str) -> Attributes:
    """Return the attributes of a role assignment; `of` is Request or Resource, `role` a resource ID or a GUID."""
    return {f"@{of}[{ROLE_OF}]": role.rsplit("/", 1)[-1], f"@{of}[{TYPE_OF}]": kind}


class AuthorizationApi:
    """Role definitions and assignments. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World) -> None:
        self._world = world

    def assignments(self, request: Request) -> Answer:
        """List assignments at, above and below a scope.

        `$filter` can contain `atScope()`, `principalId eq` and `assignedTo()`.
        """
        scope = "/" + request.path_args[0].strip("/").lower()
        text = request.query.get("$filter", "")
        match = _PRINCIPAL.search(text)
        chosen = []
        for one in self._world.rights.assignments.values():
            at = one.scope.lower().rstrip("/")
            above = self._applies(at, scope)
            below = at.startswith(f"{scope}/") and "atscope()" not in text.lower()
            if (above or below) and (match is None or one.principal == match[1]):
                chosen.append(self._world.rights.document(one))
        return Answer({"value": chosen})

    def assignment(self, request: Request) -> Answer:
        found = self._world.rights.assignments.get(request.path_args[1].lower())
        if found is None:
            raise not_found("RoleAssignmentNotFound", f"The role assignment '{request.path_args[1]}' is not found.")
        return Answer(self._world.rights.document(found))

    def put_assignment(self, request: Request) -> Answer:
        """Assign a role; it takes effect after `rights_delay_s`."""
        scope, name = "/" + request.path_args[0].strip("/"), request.path_args[1]
        properties = request.json().get("properties") or {}
        try:
            UUID(name)
            role = str(properties["roleDefinitionId"]).rsplit("/", 1)[-1]
            principal = str(properties["principalId"])
            kind = str(properties.get("principalType") or "ServicePrincipal")
            condition = str(properties.get("condition") or "")
        except (ValueError, KeyError, TypeError) as cause:
            raise ArmError(
                400, "InvalidRoleAssignment", "A role assignment needs a GUID, a role and a principal."
            ) from cause
        held = self._world.rights.assignments.get(name.lower())
        if held is not None:
            if (held.principal, held.role, held.scope.lower()) != (principal, role.lower(), scope.lower()):
                raise ArmError(
                    400,
                    "RoleAssignmentUpdateNotPermitted",
                    "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
                )
            return Answer(self._world.rights.document(held))
        _check_condition(condition)
        since = self._world.clock.monotonic() + self._world.behavior.rights_delay_s
        made = self._world.rights.assign(scope, principal, role.lower(), name, since, kind, condition)
        return Answer(self._world.rights.document(made), 201)

    def delete_assignment(self, request: Request) -> Answer:
        removed = self._world.rights.remove(request.path_args[1])
        return Answer(self._world.rights.document(removed)) if removed else Answer(status=204)

    def definitions(self, request: Request) -> Answer:
        subscription = subscription_of("/" + request.path_args[0].strip("/"))
        wanted = re.search(r"roleName eq '([^']*)'", request.query.get("$filter", ""), re.IGNORECASE)
        roles = [one for one in self._world.rights.roles.values() if wanted is None or one.name == wanted[1]]
        return Answer({"value": [self._definition(one, subscription) for one in roles]})

    def definition(self, request: Request) -> Answer:
        role = self._world.rights.roles.get(request.path_args[1].lower())
        if role is None:
            raise not_found("RoleDefinitionDoesNotExist", f"There is no role definition '{request.path_args[1]}'.")
        return Answer(self._definition(role, subscription_of("/" + request.path_args[0].strip("/"))))

    def put_definition(self, request: Request) -> Answer:
        """Create or update a custom role. Raises ArmError 400 for a scope that it does not name, 409 for its name."""
        scope, name = "/" + request.path_args[0].strip("/"), request.path_args[1].lower()
        properties = request.json().get("properties") or {}
        scopes = tuple(str(one) for one in properties.get("assignableScopes") or ())
        granted = (properties.get("permissions") or [{}])[0]
        title = str(properties.get("roleName", ""))
        if scope.lower() not in {one.lower() for one in scopes}:
            message = "The role definition's assignable scopes do not contain the scope that it is created in."
            raise ArmError(400, "InvalidRoleDefinitionScope", message)
        if granted.get("dataActions") and any("/managementgroups/" in one.lower() for one in scopes):
            message = "A custom role with data actions cannot be assigned in a management group."
            raise ArmError(400, "RoleDefinitionWithDataActionsCannotHaveManagementGroupScope", message)
        roles = self._world.rights.roles
        if any(one.name == title and one.id != name for one in roles.values()):
            message = f"A custom role with the same name '{title}' already exists in this directory."
            raise ArmError(409, "RoleDefinitionWithSameNameExists", message)
        new = name not in roles
        roles[name] = Role(
            name,
            title,
            tuple(granted.get("actions") or ()),
            tuple(granted.get("notActions") or ()),
            tuple(granted.get("dataActions") or ()),
            custom=True,
            scopes=scopes,
            description=str(properties.get("description", "")),
        )
        return Answer(self._definition(roles[name], subscription_of(scope)), 201 if new else 200)

    def delete_definition(self, request: Request) -> Answer:
        """Delete a custom role. Raises ArmError 409 while it is assigned."""
        name = request.path_args[1].lower()
        if any(one.role == name for one in self._world.rights.assignments.values()):
            raise ArmError(
                409,
                "RoleDefinitionHasAssignments",
                "There are existing role assignments referencing role (code: RoleDefinitionHasAssignments).",
            )
        removed = self._world.rights.roles.pop(name, None)
        return Answer(self._definition(removed, "")) if removed else Answer(status=204)

    def permissions(self, request: Request) -> Answer:
        """Return the caller's own permissions at a scope."""
        scope = "/" + request.path_args[0].strip("/")
        roles = self._world.rights.roles_at(request.caller.principal, scope)
        return Answer({"value": [_permissions(role) for role in roles]})

    def _applies(self, at: str, scope: str) -> bool:
        if not at or scope == at or scope.startswith(f"{at}/"):
            return True
        found = self._world.directory.subscriptions.get(subscription_of(scope))
        chain = self._world.directory.chain(found.group) if found else ()
        return at.startswith("/providers/microsoft.management/managementgroups/") and at.rsplit("/", 1)[-1] in chain

    def _definition(self, role: Role, subscription: str) -> dict[str, Any]:
        return {
            "id": role_id(role.id, subscription),
            "name": role.id,
            "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {
                "roleName": role.name,
                "type": "CustomRole" if role.custom else "BuiltInRole",
                "description": role.description,
                "assignableScopes": list(role.scopes)
                or (
                    [f"/providers/Microsoft.Management/managementGroups/{self._world.tenant}"] if role.custom else ["/"]
                ),
                "permissions": [_permissions(role)],
            },
        }


def _check_condition(condition: str) -> None:
    try:
        holds(condition, "", {})
    except ValueError as error:
        raise ArmError(400, "RoleAssignmentConditionNotValid", str(error)) from error


def _permissions(role: Role) -> dict[str, Any]:
    return {
        "actions": list(role.actions),
        "notActions": list(role.not_actions),
        "dataActions": list(role.data_actions),
        "notDataActions": [],
    }
