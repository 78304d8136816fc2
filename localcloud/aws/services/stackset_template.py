"""Render the IAM roles of a StackSet's template for one account; other resources are ignored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from localcloud.aws.stacks.template import Evaluator, TemplateError, parameters, read, unresolved

__all__ = ["Role", "TemplateError", "needs_named_iam", "parameters", "read", "roles"]


@dataclass(frozen=True)
class Role:
    """A role as IAM stores it; `policies` maps names to JSON documents, `logical` is its logical id."""

    logical: str
    name: str
    path: str
    description: str
    trust: str
    policies: dict[str, str]
    managed: tuple[str, ...]
    boundary: str | None
    session_s: int
    tags: dict[str, str]


def needs_named_iam(document: dict[str, Any]) -> bool:
    """Return whether the template names an IAM resource, which requires CAPABILITY_NAMED_IAM."""
    return any(
        str(resource.get("Type", "")).startswith("AWS::IAM::") and "RoleName" in resource.get("Properties", {})
        for resource in document["Resources"].values()
    )


# difference: AWS-3
def roles(document: dict[str, Any], given: dict[str, str], pseudo: dict[str, str]) -> list[Role]:
    """Return the template's roles; `pseudo` has `AWS::AccountId` and other pseudo parameters. Raises TemplateError."""
    scope = Evaluator(document, parameters(document, given) | pseudo, _role_reference)
    made = []
    for logical, resource in document["Resources"].items():
        if resource.get("Type") == "AWS::IAM::Role" and scope.holds(resource.get("Condition")):
            made.append(_role(logical, scope.value(resource.get("Properties", {})), pseudo))
    return made


def _role(logical: str, about: dict[str, Any], pseudo: dict[str, str]) -> Role:
    if "AssumeRolePolicyDocument" not in about:
        raise TemplateError(f"{logical}: AssumeRolePolicyDocument is required")
    return Role(
        logical=logical,
        name=str(about.get("RoleName") or f"{pseudo.get('AWS::StackName', 'stack')}-{logical}"),
        path=str(about.get("Path", "/")),
        description=str(about.get("Description", "")),
        trust=json.dumps(about["AssumeRolePolicyDocument"]),
        policies={one["PolicyName"]: json.dumps(one["PolicyDocument"]) for one in about.get("Policies", [])},
        managed=tuple(about.get("ManagedPolicyArns", [])),
        boundary=about.get("PermissionsBoundary"),
        session_s=int(about.get("MaxSessionDuration", 3600)),
        tags={str(tag["Key"]): str(tag["Value"]) for tag in about.get("Tags", [])},
    )


def _role_reference(evaluator: Evaluator, logical: str, attribute: str) -> str:
    """Return the name or the ARN of a role of the same template. Raises TemplateError for other resources."""
    resource = evaluator.document["Resources"].get(logical, {})
    if resource.get("Type") != "AWS::IAM::Role":
        return str(unresolved(evaluator, logical, attribute))
    role = evaluator.value(resource.get("Properties", {}).get("RoleName", logical))
    partition, account = evaluator.names.get("AWS::Partition", "aws"), evaluator.names.get("AWS::AccountId", "")
    return f"arn:{partition}:iam::{account}:role/{role}" if attribute == "Arn" else str(role)
