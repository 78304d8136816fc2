"""CloudFormation's template language: reading a template, checking its parameters and rules, evaluating its functions.

Sources: "Intrinsic function reference", "Rule-specific intrinsic functions" and "CloudFormation template Parameters
syntax" in the CloudFormation user guide. Transforms, macros and parameters of Systems Manager are refused.

The module is over 350 lines because checking and evaluating need the same reading of a template.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml


class TemplateError(ValueError):
    """The template cannot be read or rendered."""


class UnsupportedError(Exception):
    """The template is valid on AWS, and the local cloud cannot carry it out."""


class _Loader(yaml.CSafeLoader):
    """A YAML loader that supports CloudFormation's short forms."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
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

SECTIONS = frozenset(
    {
        *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings", "Conditions"),
        *("Resources", "Outputs"),
    }
)
ATTRIBUTES = frozenset(
    {"Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata"}
)
POLICIES = frozenset({"Delete", "Retain", "RetainExceptOnCreate", "Snapshot"})
LISTS = ("CommaDelimitedList", "List<Number>")
PSEUDO = frozenset(
    {
        *("AWS::AccountId", "AWS::NotificationARNs", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackId"),
        *("AWS::StackName", "AWS::URLSuffix"),
    }
)
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
_LITERAL = re.compile(r"\$\{!([^}]*)\}")
NOTHING = object()


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
    values = {name: given.get(name, _default(about)) for name, about in declared.items()}
    missing = sorted(name for name, value in values.items() if value is None)
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    return {name: str(value) for name, value in values.items()}


def _default(about: Mapping[str, Any]) -> str | None:
    if "Default" not in about:
        return None
    value = about["Default"]
    return str(value).lower() if isinstance(value, bool) else str(value)


def check(document: dict[str, Any]) -> None:
    """Check the structure of a stack's template. Raises TemplateError, and UnsupportedError for transforms."""
    if "Transform" in document or any(name == "Fn::Transform" for name, _ in functions(document)):
        raise UnsupportedError("the local cloud carries out no transforms")
    unknown = sorted(str(one) for one in set(document) - SECTIONS)
    if unknown:
        raise TemplateError(f"Invalid template property or properties [{', '.join(unknown)}]")
    for name, about in document.get("Parameters", {}).items():
        if str(about.get("Type", "")).startswith("AWS::"):
            raise UnsupportedError(f"the local cloud reads no parameters of type {about['Type']} ({name})")
    resources, conditions = document["Resources"], document.get("Conditions", {})
    known = {*resources, *document.get("Parameters", {}), *PSEUDO}
    for logical, resource in resources.items():
        if not isinstance(resource, dict) or "Type" not in resource:
            raise TemplateError(
                f"Template format error: [/Resources/{logical}] Every resource must have a Type member."
            )
        strange = sorted(str(one) for one in set(resource) - ATTRIBUTES)
        if strange:
            raise UnsupportedError(f"the local cloud carries out no {', '.join(strange)} of {logical}")
        for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
            if resource.get(policy, "Delete") not in POLICIES:
                raise TemplateError(
                    f"Template format error: Unrecognized {policy} {resource[policy]} for resource {logical}"
                )
        wrong = sorted({one for one in references(resource) if one not in known})
        if wrong:
            raise TemplateError(
                "Template format error: Unresolved resource dependencies "
                f"[{', '.join(wrong)}] in the Resources block of the template"
            )
    for about in (*resources.values(), *document.get("Outputs", {}).values()):
        used = {str(body[0]) for name, body in functions(about) if name == "Fn::If"}
        used |= {str(about["Condition"])} if "Condition" in about else set()
        lacking = sorted(used - set(conditions))
        if lacking:
            raise TemplateError(f"Template format error: Unresolved condition {lacking[0]}")
    order(document)


def functions(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the functions below a node: their names and arguments."""
    if isinstance(node, list):
        for one in node:
            yield from functions(one)
    elif isinstance(node, dict):
        if len(node) == 1:
            name, body = next(iter(node.items()))
            if name == "Ref" or str(name).startswith("Fn::"):
                yield str(name), body
        for one in node.values():
            yield from functions(one)


def references(resource: Any) -> Iterator[str]:
    """Yield the names that a resource refers to: parameters, pseudo parameters and logical ids."""
    depends = resource.get("DependsOn", []) if isinstance(resource, dict) else []
    yield from [depends] if isinstance(depends, str) else depends
    for name, body in functions(resource):
        if name == "Ref":
            yield str(body)
        elif name == "Fn::GetAtt":
            yield str(body[0] if isinstance(body, list) else str(body).partition(".")[0])
        elif name == "Fn::Sub":
            text, local = (body[0], body[1]) if isinstance(body, list) else (body, {})
            yield from (one.partition(".")[0] for one in _VARIABLE.findall(str(text)) if one not in local)


def order(document: dict[str, Any]) -> list[str]:
    """Return the logical ids, each after those that it depends on. Raises TemplateError for a circle."""
    resources = document["Resources"]
    waiting = {logical: {one for one in references(about) if one in resources} for logical, about in resources.items()}
    done: list[str] = []
    while waiting:
        ready = [logical for logical, needs in waiting.items() if needs <= set(done)]
        if not ready:
            raise TemplateError(f"Circular dependency between resources: [{', '.join(sorted(waiting))}]")
        for logical in ready:
            del waiting[logical]
        done += ready
    return done


def check_parameters(document: dict[str, Any], values: Mapping[str, str]) -> None:
    """Raise TemplateError for the first value that a constraint of its parameter refuses."""
    for name, about in document.get("Parameters", {}).items():
        for one in _items(about, values[name]):
            problem = _refusal(name, about, one)
            if problem:
                described = about.get("ConstraintDescription")
                text = f"Parameter {name} failed to satisfy constraint: {described}" if described else problem
                raise TemplateError(text)


def _items(about: Mapping[str, Any], value: str) -> list[str]:
    return value.split(",") if about.get("Type") in LISTS else [value]


def _refusal(name: str, about: Mapping[str, Any], value: str) -> str:
    allowed = [str(one).lower() if isinstance(one, bool) else str(one) for one in about.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"Parameter '{name}' must be one of AllowedValues"
    if "AllowedPattern" in about and not re.fullmatch(str(about["AllowedPattern"]), value):
        return f"Parameter '{name}' must match pattern {about['AllowedPattern']}"
    if len(value) < int(about.get("MinLength", 0)):
        return f"Parameter '{name}' must contain at least {about['MinLength']} characters"
    if len(value) > int(about.get("MaxLength", len(value))):
        return f"Parameter '{name}' must contain at most {about['MaxLength']} characters"
    if "Number" in str(about.get("Type")):
        try:
            number = float(value)
        except ValueError:
            return f"Parameter '{name}' must be a number"
        if number < float(about.get("MinValue", number)):
            return f"Parameter '{name}' must be a number not less than {about['MinValue']}"
        if number > float(about.get("MaxValue", number)):
            return f"Parameter '{name}' must be a number not greater than {about['MaxValue']}"
    return ""


def typed(document: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Return the values as functions see them: lists as lists, everything else as text."""
    declared = document.get("Parameters", {})
    return {
        name: [one.strip() for one in value.split(",")] if declared[name].get("Type") in LISTS else value
        for name, value in values.items()
    }


Reference = Callable[["Evaluator", str, str], Any]
"""Returns what `Ref` (with "" as attribute) or `GetAtt` of a resource is; raises TemplateError."""


class Evaluator:
    """Evaluates a template's functions with the values of its parameters and pseudo parameters.

    `exported` are the values of other stacks' outputs, for `ImportValue`.
    """

    def __init__(
        self,
        document: dict[str, Any],
        names: Mapping[str, Any],
        reference: Reference,
        exported: Mapping[str, str] | None = None,
    ) -> None:
        self.document = document
        self.names = names
        self._reference = reference
        self._exported = exported or {}
        self._conditions = document.get("Conditions", {})

    def holds(self, condition: str | None) -> bool:
        if condition is None:
            return True
        if condition not in self._conditions:
            raise TemplateError(f"Template format error: Unresolved condition {condition}")
        return bool(self.value(self._conditions[condition]))

    def check_rules(self) -> None:
        """Raise TemplateError with the description of the first assertion that does not hold."""
        for name, rule in self.document.get("Rules", {}).items():
            if "RuleCondition" in rule and not self.value(rule["RuleCondition"]):
                continue
            for assertion in rule.get("Assertions", []):
                if not self.value(assertion["Assert"]):
                    described = assertion.get("AssertDescription", "an assertion does not hold")
                    raise TemplateError(f"Template error: rule {name} failed: {described}")

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [item for item in map(self.value, node) if item is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            name, body = next(iter(node.items()))
            if name in ("Ref", "Condition") or str(name).startswith("Fn::"):
                return self._function(str(name), body)
        rendered = {key: self.value(item) for key, item in node.items()}
        return {key: item for key, item in rendered.items() if item is not NOTHING}

    def _function(self, name: str, body: Any) -> Any:
        if name == "Condition":  # an IAM statement's Condition block is no function
            return self.holds(body) if isinstance(body, str) else {"Condition": self.value(body)}
        if name == "Ref":
            return NOTHING if body == "AWS::NoValue" else self._name(str(body))
        if name == "Fn::If":
            return self.value(body[1] if self.holds(body[0]) else body[2])
        if name == "Fn::GetAtt":
            logical, attribute = body if isinstance(body, list) else str(body).split(".", 1)
            return self._reference(self, str(logical), str(self.value(attribute)))
        if name == "Fn::Sub":
            return self._sub(body)
        found = _FUNCTIONS.get(name)
        if found is not None:
            return found(self.value(body))
        if name == "Fn::FindInMap":
            return self._found(*self.value(body)[:3])
        if name == "Fn::ImportValue":
            wanted = str(self.value(body))
            if wanted not in self._exported:
                raise TemplateError(f"No export named {wanted} found.")
            return self._exported[wanted]
        raise TemplateError(f"the local cloud does not support {name}")

    def _sub(self, body: Any) -> str:
        text, local = (body[0], self.value(body[1])) if isinstance(body, list) else (body, {})

        def replaced(match: re.Match[str]) -> str:
            name = match[1].strip()
            value = local[name] if name in local else self._name(name)
            if isinstance(value, list):
                raise TemplateError(
                    f"Template error: variable {name} in Fn::Sub expression does not resolve to a string"
                )
            return str(value)

        return _LITERAL.sub(r"${\1}", _VARIABLE.sub(replaced, str(text)))

    def _found(self, mapping: str, top: str, second: str) -> Any:
        try:
            return self.value(self.document.get("Mappings", {})[mapping][top][second])
        except KeyError as error:
            raise TemplateError(f"Template error: Unable to get mapping for {mapping}::{top}::{second}") from error

    def _name(self, name: str) -> Any:
        if name in self.names:
            return self.names[name]
        logical, _, attribute = name.partition(".")
        return self._reference(self, logical, attribute)


def unresolved(_evaluator: Evaluator, logical: str, attribute: str) -> Any:
    """Refuse a reference to a resource where only parameters may be used."""
    name = f"{logical}.{attribute}" if attribute else logical
    raise TemplateError(f"Template format error: Unresolved resource dependencies [{name}]")


def _split(values: Any) -> list[str]:
    return str(values[1]).split(str(values[0]))


def _select(values: Any) -> Any:
    place, items = int(values[0]), values[1]
    if not 0 <= place < len(items):
        raise TemplateError("Template error: Fn::Select cannot select nonexistent value at index " + str(place))
    return items[place]


def _same(one: Any, other: Any) -> bool:
    return str(one) == str(other)


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Fn::Base64": lambda value: base64.b64encode(str(value).encode()).decode(),
    "Fn::Join": lambda values: str(values[0]).join(str(one) for one in values[1]),
    "Fn::Split": _split,
    "Fn::Select": _select,
    "Fn::Equals": lambda values: _same(values[0], values[1]),
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Not": lambda values: not values[0],
    "Fn::Contains": lambda values: any(_same(one, values[1]) for one in values[0]),
    "Fn::EachMemberEquals": lambda values: all(_same(one, values[1]) for one in values[0]),
    "Fn::EachMemberIn": lambda values: all(any(_same(one, other) for other in values[1]) for one in values[0]),
}
