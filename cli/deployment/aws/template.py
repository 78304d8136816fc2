"""The CloudFormation template of a deployment: its parameters' rules, and which resources and grants it makes.

CloudFormation itself evaluates the template. Here only its conditions are evaluated, with the functions that they use,
so that a plan can be shown before anything is created.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from cli.deployment.grants import grants
from cli.deployment.model import Problem
from tailpipe_exports import FILES

FOLDER = FILES / "infra" / "aws"
MAIN, HOME = "template.yaml", "home-events.yaml"
# The properties with a resource's name, and those that refer to the resource that another one belongs to.
NAMED = {
    "AWS::CloudFormation::StackSet": "StackSetName",
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::CloudWatch::Dashboard": "DashboardName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::Scheduler::ScheduleGroup": "Name",
}
BELONGING = {
    "AWS::S3::BucketPolicy": "Bucket",
    "AWS::Lambda::EventInvokeConfig": "FunctionName",
    "AWS::Lambda::EventSourceMapping": "EventSourceArn",
}
# The holders in rights.yaml that a condition of the template decides about; the template has no rounds.
HOLDERS = {"function": "", "connector": "Connector", "collector": "Collector"}


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


@cache
def text(name: str = MAIN) -> str:
    """Return a template of this version."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def document(name: str = MAIN) -> dict[str, Any]:
    """Return a template as data, with functions in their long form."""
    found: dict[str, Any] = yaml.load(text(name), _Loader)  # noqa: S506 - a SafeLoader's subclass
    return found


def refused(given: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each value that a parameter of the template refuses, and for each missing one."""
    problems = []
    for name, about in document()["Parameters"].items():
        if name.startswith("Package"):
            continue  # filled in by the command
        if name not in given:
            if "Default" not in about:
                problems.append(Problem(f"parameter {name} is required", f"Add --var {_variable(name)}=VALUE."))
            continue
        values = given[name].split(",") if about["Type"] == "CommaDelimitedList" else [given[name]]
        if any(_is_refused(about, value) for value in values):
            remedy = str(about.get("ConstraintDescription", "")).replace(name, _variable(name))
            problems.append(Problem(f"{_variable(name)} is not valid", remedy))
    problems += [
        Problem(f"the template has no parameter {name}", "Remove the variable.")
        for name in given
        if name not in document()["Parameters"]
    ]
    return problems


def _variable(parameter: str) -> str:
    """Return the variable of a parameter: external_id for ExternalId."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", parameter).lower()


def _is_refused(about: Mapping[str, Any], value: str) -> bool:
    if "AllowedValues" in about and value not in [_plain(one) for one in about["AllowedValues"]]:
        return True
    if "AllowedPattern" in about and not re.fullmatch(str(about["AllowedPattern"]), value):
        return True
    if not int(about.get("MinLength", 0)) <= len(value) <= int(about.get("MaxLength", len(value))):
        return True
    if about["Type"] != "Number":
        return False
    try:
        number = float(value)
    except ValueError:
        return True
    return not float(about.get("MinValue", number)) <= number <= float(about.get("MaxValue", number))


def resources(given: Mapping[str, str], pseudo: Mapping[str, str], name: str = MAIN) -> dict[str, str]:
    """Return the types of the resources that a template makes with these parameters, by logical id."""
    scope = _Scope(document(name), given, pseudo)
    return {
        logical: str(about["Type"])
        for logical, about in document(name)["Resources"].items()
        if "Condition" not in about or scope.holds(about["Condition"])
    }


def granted(given: Mapping[str, str], pseudo: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the ids of the grants that the template makes with these parameters, by holder."""
    scope = _Scope(document(), given, pseudo)
    known = document()["Conditions"]

    def holds(condition: str) -> bool:
        name = "".join(part.capitalize() for part in condition.split("_"))
        return name in known and scope.holds(name)  # what only Terraform's module makes has no condition

    return {
        holder: [one["id"] for one in grants("aws")[holder] if "when" not in one or holds(one["when"])]
        for holder, condition in HOLDERS.items()
        if not condition or scope.holds(condition)
    }


def retained(body: str, logicals: Collection[str] | None = None) -> str:
    """Return a template, as JSON, in which these resources (None: all) are retained by a deletion of the stack."""
    # YAML's keys are limited in length, so that the JSON of an earlier call cannot be read as YAML.
    whole: dict[str, Any] = json.loads(body) if body.lstrip().startswith("{") else yaml.load(body, _Loader)  # noqa: S506 - a SafeLoader's subclass
    for logical, about in whole["Resources"].items():
        if logicals is None or logical in logicals:
            about["DeletionPolicy"] = "Retain"
    return json.dumps(whole)


def subset(
    logicals: Collection[str],
    name: str = MAIN,
    live: Mapping[str, Mapping[str, Any]] | None = None,
    hidden: Collection[str] = (),
) -> str:
    """Return a template, as JSON, of some resources only, for their import: each has a deletion policy, as required.

    Those in `live` have these properties in place of the template's, so that the update which follows sees and makes
    the difference, and a rollback restores them. `hidden` are names of additional parameters that are not shown.
    """
    whole = document(name)
    given = {one: {"Type": "String", "NoEcho": True} for one in hidden}
    whole = {**whole, "Parameters": {**whole["Parameters"], **given}}
    kept = ("AWSTemplateFormatVersion", "Parameters", "Mappings", "Conditions")
    waiting, chosen = list(logicals), dict[str, Any]()
    while waiting:
        logical = waiting.pop()
        if logical in chosen or logical not in whole["Resources"]:
            continue
        about = {"DeletionPolicy": "Retain", **whole["Resources"][logical]}
        if live and logical in live:
            about = {"DeletionPolicy": "Retain", "Type": about["Type"], "Properties": live[logical]}
        needed = about.pop("DependsOn", [])
        still = [one for one in ([needed] if isinstance(needed, str) else needed) if one in logicals]
        chosen[logical] = {**about, **({"DependsOn": still} if still else {})}
        # Under a condition, a resource may refer to one that is not made; it has to be in the template all the same.
        waiting += _references(about)
    return json.dumps({section: whole[section] for section in kept if section in whole} | {"Resources": chosen})


def names(given: Mapping[str, str], pseudo: Mapping[str, str], name: str = MAIN) -> dict[str, str]:
    """Return the names of the resources that a template makes with these parameters, by logical id.

    A resource without a name of its own has that of the one that it belongs to: a policy its bucket's, a mapping its
    queue's, settings of invocations their function's.
    """
    scope = _Scope(document(name), given, pseudo)
    made = resources(given, pseudo, name)
    found = {
        logical: str(scope.value(document(name)["Resources"][logical]["Properties"][NAMED[kind]]))
        for logical, kind in made.items()
        if kind in NAMED
    }
    for logical, kind in made.items():
        if kind in BELONGING:
            owner = document(name)["Resources"][logical]["Properties"][BELONGING[kind]]
            target = next(iter(owner.values()))
            found[logical] = found[target[0] if isinstance(target, list) else target]
    return found


def _references(node: Any) -> Iterator[str]:
    """Yield the names that a part of a template refers to."""
    if isinstance(node, list):
        for one in node:
            yield from _references(one)
    elif isinstance(node, dict):
        for name, body in node.items():
            if name == "Ref":
                yield str(body)
            elif name == "Fn::GetAtt":
                yield str(body[0])
            elif name == "Fn::Sub":
                text_ = body[0] if isinstance(body, list) else body
                yield from (one.partition(".")[0] for one in re.findall(r"\$\{([^!}]+)\}", str(text_)))
                yield from _references(body)
            else:
                yield from _references(body)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Scope:
    """The parameters of a template, by which its conditions are evaluated."""

    def __init__(self, whole: Mapping[str, Any], given: Mapping[str, str], pseudo: Mapping[str, str]) -> None:
        self._whole = whole
        self._names: dict[str, Any] = dict(pseudo)
        for name, about in whole["Parameters"].items():
            value = given.get(name, _plain(about.get("Default", "")))
            self._names[name] = value.split(",") if about["Type"] == "CommaDelimitedList" else value

    def holds(self, condition: str) -> bool:
        return bool(self.value(self._whole["Conditions"][condition]))

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.value(one) for one in node]
        if not isinstance(node, dict):
            return node
        name, body = next(iter(node.items()))
        if name == "Ref":
            return self._names[body]
        if name == "Condition":
            return self.holds(body)
        if name == "Fn::If":
            return self.value(body[1] if self.holds(body[0]) else body[2])
        return _FUNCTIONS[name](self, self.value(body))

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{([^!}]+)\}", lambda match: str(self._names[match[1]]), text)

    def found(self, mapping: str, top: str, second: str) -> Any:
        return self._whole["Mappings"][mapping][top][second]


_FUNCTIONS: dict[str, Callable[[_Scope, Any], Any]] = {
    "Fn::Equals": lambda _scope, values: _plain(values[0]) == _plain(values[1]),
    "Fn::And": lambda _scope, values: all(values),
    "Fn::Or": lambda _scope, values: any(values),
    "Fn::Not": lambda _scope, values: not values[0],
    "Fn::Join": lambda _scope, values: str(values[0]).join(values[1]),
    "Fn::Split": lambda _scope, values: str(values[1]).split(str(values[0])),
    "Fn::Select": lambda _scope, values: values[1][int(values[0])],
    "Fn::Sub": lambda scope, text: scope.filled(text),
    "Fn::FindInMap": lambda scope, values: scope.found(*values),
}
