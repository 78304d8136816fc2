"""The IAM roles that stacks create in accounts.

They are written to moto's IAM on the account's next IAM or STS request, so that thousands of stack instances cost
nothing until they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.iam.models import iam_backends

from localcloud.aws.errors import AwsError, denied
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.policy import Access, allows
from localcloud.aws.services.stackset_template import Role

_CHAINED_S = 3600
Stack = tuple[str, str]
Render = Callable[[str], list[Role]]


class MemberRoles:
    """The roles of each stack (StackSet id, region) in each account."""

    def __init__(self, partition: str) -> None:
        self._partition = partition
        self._wanted: dict[str, dict[Stack, Render]] = {}
        self._made: dict[str, dict[Stack, list[str]]] = {}
        # Logical id to role name, as last deployed: CloudFormation compares a new template with this.
        self._resources: dict[tuple[str, Stack], dict[str, str]] = {}
        self._deleted: set[tuple[str, Stack]] = set()
        self._dirty: set[str] = set()

    def deploy(self, account: str, stack: Stack, render: Render) -> str | None:
        """Create or update a stack's roles. Returns the reason if that fails, or None.

        CloudFormation creates new resources before it deletes removed ones, so a role that keeps its name under
        another logical id is refused. A deleted role is not created again while its resource is unchanged.
        """
        place = (account, stack)
        resources = {role.logical: role.name for role in render(account)}
        before = self._resources.get(place, {})
        held = {name: logical for logical, name in before.items()}
        for logical, name in resources.items():
            if held.get(name, logical) != logical:
                return _exists(logical, name)
        stacks = self._wanted.setdefault(account, {})
        if len(stacks) > (stack in stacks) or dict.__contains__(iam_backends, account):
            self.materialize(account)
            own = set(self._made.get(account, {}).get(stack, []))
            existing = {role.name for role in self._iam(account).get_roles()}
            for logical, name in resources.items():
                if name in existing - own:
                    return _exists(logical, name)
        self._resources[place] = resources
        stacks[stack] = render
        self._dirty.add(account)
        return None

    def remove(self, account: str, stack: Stack) -> None:
        """Delete a stack and its roles."""
        self._resources.pop((account, stack), None)
        self._deleted.discard((account, stack))
        if self._wanted.get(account, {}).pop(stack, None) is not None:
            self._dirty.add(account)

    def delete_roles_only(self, account: str, stack: Stack) -> None:
        """Delete a stack's roles but not the stack, as an administrator of the account can."""
        self._deleted.add((account, stack))
        self._dirty.add(account)

    # difference: AWS-14
    def drifted(self, account: str, stack: Stack) -> bool:
        """Return whether the account's roles differ from the stack."""
        return (account, stack) in self._deleted

    def delete_keeping_roles(self, account: str, stack: Stack) -> None:
        """Delete a stack but keep its roles, as deleting an instance with RetainStacks does."""
        self.materialize(account)
        self._resources.pop((account, stack), None)
        self._wanted.get(account, {}).pop(stack, None)
        self._made.get(account, {}).pop(stack, None)

    def materialize(self, account: str) -> None:
        """Write an account's pending role changes to moto's IAM."""
        if account not in self._dirty:
            return
        self._dirty.discard(account)
        iam = self._iam(account)
        made = self._made.setdefault(account, {})
        wanted = self._wanted.get(account, {})
        before: dict[tuple[Stack, str], Any] = {}
        for stack in list(made):
            before |= {(stack, name): _delete_role(iam, name) for name in made.pop(stack)}
        for stack, render in wanted.items():
            if (account, stack) in self._deleted:
                continue
            made[stack] = [_create_role(iam, role, before.get((stack, role.name))) for role in render(account)]

    def check_trust(self, attempt: Attempt) -> None:
        """Check an AssumeRole request. Raises AwsError if the role is missing or does not trust the caller.

        A session of a role cannot get one of more than an hour. Source: "Role chaining" in "Roles terms and concepts",
        IAM User Guide.
        """
        if attempt.identity.session is not None and int(attempt.params.get("DurationSeconds") or 0) > _CHAINED_S:
            message = (
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            )
            raise AwsError("ValidationError", message, 400)
        arn = str(attempt.params.get("RoleArn", ""))
        access = Access(attempt.principal, "AWS", "sts:AssumeRole", "", attempt.context)
        if not self.trusts(arn, access):
            raise denied("sts", attempt.identity.arn, "sts:AssumeRole", arn)

    def trusts(self, arn: str, access: Access) -> bool:
        """Return whether a role exists and its trust policy allows the caller."""
        parts = arn.split(":")
        account = parts[4] if len(parts) > 5 else ""
        self.materialize(account)
        roles = self._iam(account).get_roles() if account else []
        role = next((role for role in roles if role.arn == arn), None)
        return role is not None and allows(role.assume_role_policy_document, access)

    def exists(self, arn: str) -> bool:
        """Return whether an ARN's role or user exists; those of other accounts count as existing."""
        account, _, path = arn.split(":", 4)[4].partition(":")
        kind, name = path.partition("/")[0], path.rpartition("/")[2]
        if kind not in ("role", "user") or not dict.__contains__(iam_backends, account):
            return True
        self.materialize(account)
        held = self._iam(account).get_roles() if kind == "role" else self._iam(account).users.values()
        return any(one.name == name for one in held)

    def _iam(self, account: str) -> Any:
        return iam_backends[account][self._partition]


def _exists(logical: str, name: str) -> str:
    return (
        f"ResourceLogicalId:{logical}, ResourceType:AWS::IAM::Role, ResourceStatusReason:Resource handler returned "
        f'message: "Role with name {name} already exists." (HandlerErrorCode: AlreadyExists).'
    )


def _create_role(iam: Any, role: Role, before: Any) -> str:
    """Create a role; it keeps the id of `before` with the same path, as CloudFormation then updates in place."""
    stored = iam.create_role(
        role_name=role.name,
        assume_role_policy_document=role.trust,
        path=role.path,
        permissions_boundary=role.boundary,
        description=role.description,
        tags=[{"Key": key, "Value": value} for key, value in role.tags.items()],
        max_session_duration=str(role.session_s),
    )
    if before is not None and before.path == role.path:
        iam.roles[before.id] = iam.roles.pop(stored.id)
        stored.id = before.id
    for name, document in role.policies.items():
        stored.put_policy(name, document)
    for arn in role.managed:
        iam.attach_role_policy(arn, role.name)
    return role.name


def _delete_role(iam: Any, name: str) -> Any:
    """Delete a role and return its record, or None if it does not exist."""
    role = next((role for role in iam.get_roles() if role.name == name), None)
    return iam.roles.pop(role.id, None) if role is not None else None
