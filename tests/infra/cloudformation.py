"""Evaluate a CloudFormation template without CloudFormation: parameters, rules, conditions and intrinsic functions.

It is written for the comparison with Terraform, apart from the local AWS's own CloudFormation, so that the two check
each other. A function that it does not know raises NotImplementedError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

ABSENT = object()  # AWS::NoValue
SUFFIXES = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}


class _Loader(yaml.CSafeLoader):
    """Reads the short forms of intrinsic functions as their long forms."""


def _long(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long)


def read(text: str) -> dict[str, Any]:
    """Return a template with its intrinsic functions in their long form."""
    found: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    return found


@dataclass(frozen=True)
class Resource:
    """A resource that would be created: its evaluated properties, without those that are absent."""

    type: str
    properties: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a stack is created."""

    account: str
    region: str
    partition: str


# What Ref and GetAtt return, by type: from the resource's properties and the place.
Named = Callable[[Mapping[str, Any], Place], str]


def _arn(service: str, resource: str, *, regional: bool = True) -> Named:
    def made(properties: Mapping[str, Any], place: Place) -> str:
        where = f"{place.region}:{place.account}" if regional else f":{place.account}"
        return f"arn:{place.partition}:{service}:{where}:{resource.format(**properties)}"

    return made


def _bucket_arn(properties: Mapping[str, Any], place: Place) -> str:
    return f"arn:{place.partition}:s3:::{properties['BucketName']}"


def _url(properties: Mapping[str, Any], place: Place) -> str:
    host = f"sqs.{place.region}.{SUFFIXES.get(place.partition, 'amazonaws.com')}"
    return f"https://{host}/{place.account}/{properties['QueueName']}"


def _property(name: str) -> Named:
    return lambda properties, _: str(properties[name])


REFERENCES: dict[str, dict[str, Named]] = {
    "AWS::CloudFormation::StackSet": {"Ref": _property("StackSetName")},
    "AWS::IAM::Role": {"Ref": _property("RoleName"), "Arn": _arn("iam", "role/{RoleName}", regional=False)},
    "AWS::Lambda::Function": {
        "Ref": _property("FunctionName"),
        "Arn": _arn("lambda", "function:{FunctionName}"),
    },
    "AWS::Logs::LogGroup": {"Ref": _property("LogGroupName")},
    "AWS::S3::Bucket": {"Ref": _property("BucketName"), "Arn": _bucket_arn},
    "AWS::SNS::Topic": {"Ref": _arn("sns", "{TopicName}")},
    "AWS::SQS::Queue": {"Ref": _url, "Arn": _arn("sqs", "{QueueName}"), "QueueName": _property("QueueName")},
    "AWS::Scheduler::Schedule": {"Ref": _property("Name")},
    "AWS::Scheduler::ScheduleGroup": {"Ref": _property("Name"), "Arn": _arn("scheduler", "schedule-group/{Name}")},
}


class Refused(Exception):
    """CloudFormation would refuse these parameters."""


class Stack:
    """A template with parameters, in an account and a region. Raises Refused, as a creation would."""

    def __init__(self, template: Mapping[str, Any], given: Mapping[str, str], place: Place) -> None:
        self._template = template
        self._place = place
        self._pseudo = {
            "AWS::AccountId": place.account,
            "AWS::Region": place.region,
            "AWS::Partition": place.partition,
            "AWS::URLSuffix": SUFFIXES.get(place.partition, "amazonaws.com"),
            "AWS::NoValue": ABSENT,
        }
        self._parameters = self._checked(given)
        self._check_rules()
        self.resources = {
            name: Resource(body["Type"], self._evaluated(body.get("Properties", {})), body)
            for name, body in template["Resources"].items()
            if self._holds(body.get("Condition"))
        }
        self.outputs = {
            name: self._evaluated(body["Value"])
            for name, body in template.get("Outputs", {}).items()
            if self._holds(body.get("Condition"))
        }

    # Parameters and rules

    def _checked(self, given: Mapping[str, str]) -> dict[str, Any]:
        declared = self._template["Parameters"]
        if unknown := given.keys() - declared.keys():
            raise Refused(f"Parameters: [{', '.join(sorted(unknown))}] do not exist in the template")
        missing = [name for name, body in declared.items() if "Default" not in body and name not in given]
        if missing:
            raise Refused(f"Parameters: [{', '.join(missing)}] must have values")
        return {
            name: self._value(name, body, str(given.get(name, body.get("Default")))) for name, body in declared.items()
        }

    def _value(self, name: str, body: Mapping[str, Any], text: str) -> Any:
        items = [one.strip() for one in text.split(",")] if body["Type"] == "CommaDelimitedList" else [text]
        for item in items:
            if not _fits(body, item):
                raise Refused(f"Parameter {name} failed to satisfy constraint: {body.get('ConstraintDescription')}")
        return items if body["Type"] == "CommaDelimitedList" else text

    def _check_rules(self) -> None:
        for rule in self._template.get("Rules", {}).values():
            if "RuleCondition" in rule and not self._true(rule["RuleCondition"]):
                continue
            for one in rule["Assertions"]:
                if not self._true(one["Assert"]):
                    raise Refused(one["AssertDescription"])

    # Conditions

    def _holds(self, name: str | None) -> bool:
        return name is None or self._true(self._template["Conditions"][name])

    def _true(self, expression: Mapping[str, Any]) -> bool:
        [(function, value)] = expression.items()
        if function == "Condition":
            return self._holds(value)
        if function in ("Fn::And", "Fn::Or"):
            assert 2 <= len(value) <= 10, f"{function} takes two to ten conditions"
            found = [self._true(one) for one in value]
            return all(found) if function == "Fn::And" else any(found)
        if function == "Fn::Not":
            [negated] = value
            return not self._true(negated)
        left, right = (self._evaluated(one) for one in value)
        if function == "Fn::Equals":
            return str(left) == str(right)
        if function == "Fn::Contains":
            return str(right) in [str(one) for one in left]
        if function == "Fn::EachMemberEquals":
            return all(str(one) == str(right) for one in left)
        raise NotImplementedError(function)

    # Values

    def _evaluated(self, value: Any) -> Any:
        if isinstance(value, list):
            return [made for one in value if (made := self._evaluated(one)) is not ABSENT]
        if not isinstance(value, Mapping):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            if function == "Ref":
                return self._referred(argument)
            if function.startswith("Fn::"):
                return self._called(function, argument)
        return {key: made for key, one in value.items() if (made := self._evaluated(one)) is not ABSENT}

    def _called(self, function: str, argument: Any) -> Any:
        if function == "Fn::If":
            condition, yes, no = argument
            return self._evaluated(yes if self._holds(condition) else no)
        if function == "Fn::Sub":
            text, values = (argument, {}) if isinstance(argument, str) else argument
            return re.sub(r"\$\{([^!}]+)\}", lambda found: str(self._substituted(found[1], values)), text)
        if function == "Fn::GetAtt":
            return self._attribute(*argument)
        if function == "Fn::FindInMap":
            name, first, second = (self._evaluated(one) for one in argument)
            return self._evaluated(self._template["Mappings"][name][str(first)][second])
        if function == "Fn::Join":
            separator, parts = argument
            return separator.join(str(one) for one in self._evaluated(parts))
        if function == "Fn::Select":
            place, parts = argument
            return self._evaluated(parts)[int(place)]
        if function == "Fn::Split":
            separator, text = argument
            return self._evaluated(text).split(separator)
        raise NotImplementedError(function)

    def _substituted(self, name: str, values: Mapping[str, Any]) -> Any:
        if name in values:
            return self._evaluated(values[name])
        resource, dot, attribute = name.partition(".")
        return self._attribute(resource, attribute) if dot else self._referred(name)

    def _referred(self, name: str) -> Any:
        for known in (self._pseudo, self._parameters):
            if name in known:
                return known[name]
        return self._attribute(name, "Ref")

    def _attribute(self, name: str, attribute: str) -> str:
        body = self._template["Resources"][name]
        assert self._holds(body.get("Condition")), f"{name} is referred to where it does not exist"
        named = REFERENCES[body["Type"]][attribute]
        return named(
            {key: self._evaluated(value) for key, value in body["Properties"].items() if "Name" in key}, self._place
        )


def _fits(body: Mapping[str, Any], text: str) -> bool:
    if "AllowedValues" in body and text not in [str(one) for one in body["AllowedValues"]]:
        return False
    if "AllowedPattern" in body and not re.fullmatch(body["AllowedPattern"], text, re.ASCII):
        return False
    if body["Type"] == "Number":
        try:
            number = float(text)
        except ValueError:
            return False
        return bool(body.get("MinValue", number) <= number <= body.get("MaxValue", number))
    return bool(body.get("MinLength", 0) <= len(text) <= body.get("MaxLength", len(text)))
