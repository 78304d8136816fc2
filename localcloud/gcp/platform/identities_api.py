"""The methods that create an account which deploys: service accounts, custom roles, and policies that bind them.

Sources: the references of the IAM API v1 and the Resource Manager API v1, and "Create and manage custom roles".
"""

from __future__ import annotations

import re
from typing import Any

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.iam.policies import ROLES
from localcloud.gcp.platform.resources_api import name_of, owner_of

_ACCOUNT = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])")
_ROLE = re.compile(r"[a-zA-Z0-9_.]{3,64}")
_POLICIES = {
    "cloudresourcemanager.projects.setIamPolicy": ("projects", "resourcemanager.projects.setIamPolicy"),
    "cloudresourcemanager.organizations.setIamPolicy": ("organizations", "resourcemanager.organizations.setIamPolicy"),
}


class IdentitiesApi:
    """Creates service accounts and custom roles, and replaces the policies of a project and an organization."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {
            "iam.projects.serviceAccounts.create": self._account,
            "iam.projects.roles.create": self._role,
            "iam.organizations.roles.create": self._role,
            "iam.permissions.queryTestablePermissions": self._testable,
            **dict.fromkeys(_POLICIES, self._bind),
        }

    def _account(self, context: Context) -> Answer:
        parent = owner_of(name_of(context))
        _need(context, "iam.serviceAccounts.create", parent)
        account = str(context.body.get("accountId", ""))
        if not (6 <= len(account) <= 30 and _ACCOUNT.fullmatch(account)):
            raise GoogleError(400, "badRequest", f"Invalid service account ID {account[:80]}.")
        project = parent.partition("/")[2]
        email = f"{account}@{project}.iam.gserviceaccount.com"
        unique = str(10**20 + len(context.world.platform.all))
        given = {key: str(one) for key, one in (context.body.get("serviceAccount") or {}).items()}
        made = {**given, "projectId": project, "email": email, "uniqueId": unique, "oauth2ClientId": unique}
        return _add(context, f"{parent}/serviceAccounts/{email}", made, f"Service account {account}")

    def _role(self, context: Context) -> Answer:
        parent = owner_of(name_of(context))
        _need(context, "iam.roles.create", parent)
        role = str(context.body.get("roleId", ""))
        if not _ROLE.fullmatch(role):
            raise GoogleError(400, "badRequest", f"The role_id {role[:80]} must match {_ROLE.pattern}.")
        made = {"stage": "ALPHA", **(context.body.get("role") or {})}
        return _add(context, f"{parent}/roles/{role}", made, f"A role named {role} in {parent}")

    def _testable(self, context: Context) -> Answer:
        """Return no permission: gcloud only warns about listed ones that are in testing or whose API is off."""
        del context
        return {}

    def _bind(self, context: Context) -> Answer:
        kind, permission = _POLICIES[context.method]
        resource = f"{kind}/{context.ids[0]}"
        _need(context, permission, resource)
        iam = context.world.iam
        wanted = _bindings(context.body.get("policy") or {})
        held = _bindings(iam.policy(resource))
        for role, identity, _ in held.keys() - wanted.keys():
            iam.revoke(identity, role, resource)
        for key in wanted.keys() - held.keys():
            role, identity, _ = key
            iam.grant(identity, role, resource, permissions=_permissions(context, role), condition=wanted[key] or None)
        return iam.policy(resource)


def _need(context: Context, permission: str, resource: str) -> None:
    context.need(permission, resource, f"Permission '{permission}' denied on resource '{resource}'.")


def _add(context: Context, name: str, document: dict[str, Any], title: str) -> Answer:
    """Add a resource and return it. Raises GoogleError 409 if it exists."""
    if name in context.world.platform.all:
        raise GoogleError(409, "alreadyExists", f"{title} already exists.")
    context.world.platform.add(name, document)
    return context.world.platform.find(name)


def _bindings(policy: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, str]]:
    """Return the conditions of a policy's bindings by role, identity and the condition's expression."""
    return {
        (one["role"], member.partition(":")[2] or member, (one.get("condition") or {}).get("expression", "")): dict(
            one.get("condition") or {}
        )
        for one in policy.get("bindings") or ()
        for member in one["members"]
    }


def _permissions(context: Context, role: str) -> list[str]:
    """Return the permissions of a custom role; none for a predefined one. Raises GoogleError 400 for an unknown one."""
    if role in ROLES:
        return []
    found = context.world.platform.all.get(role)
    if found is None:
        raise GoogleError(400, "badRequest", f"Role {role[:120]} is not supported for this resource.")
    return list(found.get("includedPermissions", ()))
