"""Conditions of role assignments as Azure means them."""

from __future__ import annotations

import pytest

from localcloud.azure.iam.conditions import holds
from localcloud.azure.iam.grants import conditions_of, read_grants

WRITE, DELETE, READ = (f"Microsoft.Authorization/roleAssignments/{verb}" for verb in ("write", "delete", "read"))
ROLE = "Microsoft.Authorization/roleAssignments:RoleDefinitionId"
KIND = "Microsoft.Authorization/roleAssignments:PrincipalType"
WRITER, OTHER = "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
(SHIPPED,) = [one.condition for one in read_grants("function", conditions_of(True)) if one.condition]


def values(of: str, role: str = WRITER, kind: str = "ServicePrincipal") -> dict[str, str]:
    """Return the attributes of an assignment, of a request or of what is there."""
    return {f"@{of}[{ROLE}]": role, f"@{of}[{KIND}]": kind}


@pytest.mark.parametrize(
    ("action", "attributes", "expected"),
    [
        (WRITE, values("Request"), True),
        (WRITE, values("Request", kind="serviceprincipal"), True),
        (WRITE, values("Request", role=WRITER.upper()), True),
        (WRITE, values("Request", role=OTHER), False),
        (WRITE, values("Request", kind="User"), False),
        (WRITE, values("Resource"), False),
        (WRITE, {}, False),
        (DELETE, values("Resource"), True),
        (DELETE, values("Resource", role=OTHER), False),
        (DELETE, values("Request"), False),
        (READ, {}, True),
        (READ.upper(), {}, True),
        ("Microsoft.Authorization/permissions/read", {}, True),
    ],
)
def test_the_shipped_condition(action: str, attributes: dict[str, str], expected: bool) -> None:
    """It asks a write about what is sent and a deletion about what is there, and asks nothing else."""
    assert holds(SHIPPED, action, attributes) is expected


def test_no_condition_lets_everything_through() -> None:
    """An assignment without a condition is as wide as its role."""
    assert holds("", DELETE, {})


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("ActionMatches{'a/*'} AND !(ActionMatches{'a/b'})", False),
        ("ActionMatches{'a/*'} OR ActionMatches{'c'} AND ActionMatches{'d'}", True),
        ("(ActionMatches{'a/b'} OR ActionMatches{'c'}) AND ActionMatches{'d'}", False),
        ("!!ActionMatches{'a/b', 'c'}", True),
    ],
)
def test_and_binds_stronger_than_or(condition: str, expected: bool) -> None:
    """Brackets first, then `!`, then AND, then OR."""
    assert holds(condition, "a/b", {}) is expected


@pytest.mark.parametrize(
    "condition",
    ["@Request[a:B] StringLike {'x'}", "(ActionMatches{'a'}", "ActionMatches{'a'} XOR", "ActionMatches 'a'", "true"],
)
def test_what_is_not_understood_is_refused(condition: str) -> None:
    """A condition that this cloud cannot judge is an error and never a permission."""
    with pytest.raises(ValueError, match="condition"):
        holds(condition, "a", {})
