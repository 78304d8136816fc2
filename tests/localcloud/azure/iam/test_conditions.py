"""Conditions of role assignments, evaluated as Azure does."""

from __future__ import annotations

import pytest

from localcloud.azure.iam.conditions import BLOB_PATH, holds
from localcloud.azure.iam.grants import conditions_of, read_grants

WRITE, DELETE, READ = (f"Microsoft.Authorization/roleAssignments/{verb}" for verb in ("write", "delete", "read"))
ROLE = "Microsoft.Authorization/roleAssignments:RoleDefinitionId"
KIND = "Microsoft.Authorization/roleAssignments:PrincipalType"
WRITER, OTHER = "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
(SHIPPED,) = [one.condition for one in read_grants("function", conditions_of(True)) if one.condition]


def values(of: str, role: str = WRITER, kind: str = "ServicePrincipal") -> dict[str, str]:
    """Return the attributes of an assignment, for a request or an existing resource."""
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
def test_shipped_condition_limits_writes_and_deletions(action: str, attributes: dict[str, str], expected: bool) -> None:
    """A write is checked by the request, a deletion by the resource; other actions are not checked."""
    assert holds(SHIPPED, action, attributes) is expected


def test_assignment_without_a_condition_allows_everything() -> None:
    """Only its role limits it."""
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
def test_operators_have_the_documented_precedence(condition: str, expected: bool) -> None:
    """Parentheses first, then `!`, then AND, then OR."""
    assert holds(condition, "a/b", {}) is expected


@pytest.mark.parametrize(
    "condition",
    ["@Request[a:B] StringLike {'x'}", "(ActionMatches{'a'}", "ActionMatches{'a'} XOR", "ActionMatches 'a'", "true"],
)
def test_unsupported_condition_is_an_error(condition: str) -> None:
    """It never grants a permission."""
    with pytest.raises(ValueError, match="condition"):
        holds(condition, "a", {})


@pytest.mark.parametrize(("path", "allowed"), [("deltas/a/b", True), ("deltas", False), ("other/deltas/a", False)])
def test_path_of_a_blob_is_compared_by_wildcard(path: str, allowed: bool) -> None:
    """`*` matches any characters, from the start of the path on; without a path nothing matches."""
    condition = f"(!(ActionMatches{{'a/write'}})) OR ({BLOB_PATH} StringLike 'deltas/*')"
    assert holds(condition, "a/write", {BLOB_PATH: path}) is allowed
    assert not holds(condition, "a/write", {})
    assert holds(condition, "a/read", {})
