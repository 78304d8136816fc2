"""Render the IAM roles of a CloudFormation template for one account.

Supports what role definitions use: parameters, pseudo parameters, conditions, Ref, Sub, Join, If, GetAtt of a role
in the same template, and the boolean functions. Other resources are ignored, because tests inspect only roles.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml


class TemplateError(ValueError):
    """The template cannot be read or rendered."""


class _Loader(yaml.SafeLoader):
    """A YAML loader that supports CloudFormation's short forms."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)
# YAML parses a policy's Version as a date; CloudFormation reads it as text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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


def read(body: str) -> dict[str, Any]:
    """Return the template as a mapping. Raises TemplateError."""
    try:
        document = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, _Loader)  # noqa: S506 - a SafeLoader's subclass
    except (ValueError, yaml.YAMLError) as error:
        raise TemplateError(f"Template format error: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict) or not document["Resources"]:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    return document


def parameters(document: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """Return the value of every parameter. Raises TemplateError for missing or unknown parameters."""
    declared = document.get("Parameters", {})
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise TemplateError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {
        name: given.get(name, str(about["Default"]) if "Default" in about else None) for name, about in declared.items()
    }
    missing = sorted(name for name, value in values.items() if value is None)
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    return {name: str(value) for name, value in values.items()}


def needs_named_iam(document: dict[str, Any]) -> bool:
    """Return whether the template names an IAM resource, which requires CAPABILITY_NAMED_IAM."""
    return any(
        str(resource.get("Type", "")).startswith("AWS::IAM::") and "RoleName" in resource.get("Properties", {})
        for resource in document["Resources"].values()
    )


# difference: AWS-3
def roles(document: dict[str, Any], given: dict[str, str], pseudo: dict[str, str]) -> list[Role]:
    """Return the template's roles; `pseudo` has `AWS::AccountId` and other pseudo parameters. Raises TemplateError."""
    scope = _Scope(document, parameters(document, given) | pseudo)
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


_NOTHING = object()


class _Scope:
    """The parameters and pseudo parameters of a template while it is rendered."""

    def __init__(self, document: dict[str, Any], names: dict[str, str]) -> None:
        self._names = names
        self._conditions = document.get("Conditions", {})
        self._resources = document["Resources"]

    def holds(self, condition: str | None) -> bool:
        if condition is None:
            return True
        if condition not in self._conditions:
            raise TemplateError(f"Template format error: Unresolved condition {condition}")
        return bool(self.value(self._conditions[condition]))

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [item for item in map(self.value, node) if item is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            name, body = next(iter(node.items()))
            if name in ("Ref", "Condition") or str(name).startswith("Fn::"):
                return self._function(str(name), body)
        rendered = {key: self.value(item) for key, item in node.items()}
        return {key: item for key, item in rendered.items() if item is not _NOTHING}

    def _function(self, name: str, body: Any) -> Any:
        if name == "Condition" and isinstance(body, str):
            return self.holds(body)
        if name == "Condition":  # an IAM statement's Condition block, not CloudFormation's
            return {"Condition": self.value(body)}
        if name == "Ref":
            return _NOTHING if body == "AWS::NoValue" else self._name(str(body))
        if name == "Fn::Sub":
            text, local = (body[0], self.value(body[1])) if isinstance(body, list) else (body, {})
            return re.sub(r"\$\{([^!}][^}]*)\}", lambda m: str(local.get(m[1]) or self._name(m[1])), text)
        if name == "Fn::Join":
            return str(body[0]).join(str(part) for part in self.value(body[1]))
        if name == "Fn::If":
            return self.value(body[1] if self.holds(body[0]) else body[2])
        if name == "Fn::GetAtt":
            return self._name(".".join(body))
        if name in ("Fn::Not", "Fn::And", "Fn::Or", "Fn::Equals"):
            values = self.value(body)
            if name == "Fn::Equals":
                return values[0] == values[1]
            return all(values) if name == "Fn::And" else any(values) != (name == "Fn::Not")
        raise TemplateError(f"the local cloud does not support {name}")

    def _name(self, name: str) -> str:
        if name in self._names:
            return self._names[name]
        logical, _, attribute = name.partition(".")
        resource = self._resources.get(logical, {})
        if resource.get("Type") == "AWS::IAM::Role":
            role = self.value(resource.get("Properties", {}).get("RoleName", logical))
            partition, account = (
                self._names.get("AWS::Partition", "aws"),
                self._names.get("AWS::AccountId", ""),
            )
            return f"arn:{partition}:iam::{account}:role/{role}" if attribute == "Arn" else str(role)
        raise TemplateError(f"Template format error: Unresolved resource dependencies [{name}]")
