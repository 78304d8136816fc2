"""Role definitions and assignments: the actions they allow, and their propagation delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple

from localcloud.azure.errors import ArmError
from localcloud.azure.iam.conditions import Attributes, holds
from localcloud.azure.services.directory import Directory, Subscription
from localcloud.common.data_file import read_table

ASSIGNMENT_LIMIT = (
    4000  # per subscription: https://learn.microsoft.com/azure/role-based-access-control/troubleshoot-limits
)
_GROUPS = "/providers/microsoft.management/managementgroups/"
OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
MONITORING_READER = "43d0d8ad-25c7-4714-9337-8ba259a9fe05"
BLOB_DATA_READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
BLOB_DATA_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
BLOB_DATA_OWNER = "b7e6dc6d-f1e8-4753-8033-0f276bb0955b"


@dataclass(frozen=True, slots=True)
class Role:
    """A role definition; `id` is a GUID."""

    id: str
    name: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    custom: bool = False
    # Of a role that was created by a call: where it can be assigned, and its description.
    scopes: tuple[str, ...] = ()
    description: str = ""

    def allows(self, action: str, data: bool = False) -> bool:
        """Return whether the role allows an action; `data` selects data actions, which action wildcards exclude."""
        if data:
            return _allowed(self.data_actions, (), action.lower())
        return _allowed(self.actions, self.not_actions, action.lower())


@lru_cache(maxsize=4096)
def _allowed(actions: tuple[str, ...], not_actions: tuple[str, ...], action: str) -> bool:
    def held(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(action, pattern.lower()) for pattern in patterns)

    return held(actions) and not held(not_actions)


# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = read_table(__file__, "roles.json", tuple[Role, ...])


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role assignment; it takes effect at `since` (clock seconds), and `kind` is the type of its principal."""

    id: str
    scope: str
    principal: str
    role: str
    since: float
    kind: str = "ServicePrincipal"
    condition: str = ""


class Check(NamedTuple):
    """The result of an access check; `by` are the IDs of the assignments that allow the action at the scope."""

    principal: str
    action: str
    scope: str
    data: bool
    by: tuple[str, ...]


class Rights:
    """Role definitions, role assignments and access checks. If `enforced` is false, every action is allowed.

    `withheld` maps principals to patterns of actions that they are denied regardless of their roles. `checks` are the
    distinct access checks made so far.
    """

    def __init__(self, directory: Directory, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self.enforced = True
        self.withheld: dict[str, tuple[str, ...]] = {}
        self.roles: dict[str, Role] = {role.id: role for role in ROLES}
        self.assignments: dict[str, Assignment] = {}
        self.checks: set[Check] = set()
        self._of: dict[str, list[Assignment]] = {}
        self.counts: dict[str, int] = {}
        self.limit = ASSIGNMENT_LIMIT

    def assign(
        self,
        scope: str,
        principal: str,
        role: str,
        identifier: str,
        since: float = -math.inf,
        kind: str = "ServicePrincipal",
        condition: str = "",
    ) -> Assignment:
        """Assign a role. Raises ArmError 409 if it is already assigned, 400 at the limit, 404 for an unknown role."""
        if role not in self.roles:
            raise ArmError(
                404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{role}' does not exist."
            )
        for held in self._of.get(principal, ()):
            if held.scope.lower() == scope.lower() and held.role == role:
                raise ArmError(409, "RoleAssignmentExists", "The role assignment already exists.")
        subscription = subscription_of(scope)
        if subscription and self.counts.get(subscription, 0) >= self.limit:
            raise ArmError(
                400,
                "RoleAssignmentLimitExceeded",
                f"The role assignment limit of {self.limit} for subscription '{subscription}' has been exceeded. No "
                "more role assignments can be created.",
            )
        made = Assignment(identifier, scope, principal, role, since, kind, condition)
        self.assignments[identifier.lower()] = made
        self._of.setdefault(principal, []).append(made)
        if subscription:
            self.counts[subscription] = self.counts.get(subscription, 0) + 1
        return made

    def remove(self, identifier: str) -> Assignment | None:
        removed = self.assignments.pop(identifier.lower(), None)
        if removed:
            self._of[removed.principal].remove(removed)
            subscription = subscription_of(removed.scope)
            if subscription:
                self.counts[subscription] -= 1
        return removed

    def of(self, principal: str) -> tuple[Assignment, ...]:
        return tuple(self._of.get(principal, ()))

    def allows(
        self,
        principal: str,
        action: str,
        scope: str,
        lag: bool = False,
        data: bool = False,
        attributes: Attributes | None = None,
        chooses: bool = False,
    ) -> bool:
        """Return whether the action is allowed at the scope; with `lag`, after Cost Management's longer delay.

        `attributes` are the values for conditions of assignments. With `chooses`, the check only filters a listing, so
        a negative result is not recorded.
        """
        # A caller that is not in the tenant is the local operator.
        if not self.enforced or principal.startswith("app-"):
            return True
        by = tuple(
            held.id
            for held in self._in_force(principal, scope, lag)
            if self._without_denied(self.roles[held.role], principal).allows(action, data)
            and holds(held.condition, action, attributes or {})
        )
        if by or not chooses:
            self.checks.add(Check(principal, action, scope, data, by))
        return bool(by)

    def roles_at(self, principal: str, scope: str, lag: bool = False) -> Iterator[Role]:
        """Yield the roles in effect for a principal at a scope, including inherited ones."""
        for held in self._in_force(principal, scope, lag):
            yield self._without_denied(self.roles[held.role], principal)

    def _in_force(self, principal: str, scope: str, lag: bool) -> Iterator[Assignment]:
        now, wanted = self._now(), scope.lower()
        found = self._directory.subscriptions.get(subscription_of(wanted))
        since = found.cost_lag if lag and found else 0.0
        for held in self._of.get(principal, ()):
            if held.since + since <= now and self._covers(held, wanted, found, lag):
                yield held

    def _without_denied(self, role: Role, principal: str) -> Role:
        withheld = self.withheld.get(principal)
        return replace(role, not_actions=(*role.not_actions, *withheld)) if withheld else role

    def _covers(self, held: Assignment, wanted: str, subscription: Subscription | None, lag: bool) -> bool:
        at = held.scope.lower().rstrip("/")
        if at.startswith(_GROUPS) and subscription is not None:
            since = subscription.rights_from + (subscription.cost_lag if lag else 0.0)
            return since <= self._now() and at[len(_GROUPS) :] in self._directory.chain(subscription.group)
        if at.startswith(_GROUPS) and wanted.startswith(_GROUPS):
            group = wanted[len(_GROUPS) :].split("/", maxsplit=1)[0]
            return group in self._directory.groups and at[len(_GROUPS) :] in self._directory.chain(group)
        return not at or wanted == at or wanted.startswith(f"{at}/")

    def document(self, assignment: Assignment) -> dict[str, Any]:
        scope = assignment.scope.rstrip("/")
        return {
            "id": f"{scope}/providers/Microsoft.Authorization/roleAssignments/{assignment.id}",
            "name": assignment.id,
            "type": "Microsoft.Authorization/roleAssignments",
            "properties": {
                "roleDefinitionId": role_id(assignment.role, subscription_of(scope)),
                "principalId": assignment.principal,
                "principalType": assignment.kind,
                "scope": scope or "/",
                **({"condition": assignment.condition, "conditionVersion": "2.0"} if assignment.condition else {}),
            },
        }


def role_id(role: str, subscription: str = "") -> str:
    """Return the resource ID of a role definition, relative to a subscription if one is given."""
    prefix = f"/subscriptions/{subscription}" if subscription else ""
    return f"{prefix}/providers/Microsoft.Authorization/roleDefinitions/{role}"


def subscription_of(scope: str) -> str:
    """Return the subscription ID in a scope, in lowercase, or "" if the scope has no subscription."""
    parts = scope.split("/", 3)
    return parts[2].lower() if len(parts) > 2 and parts[1].lower() == "subscriptions" else ""
