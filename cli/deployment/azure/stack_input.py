"""What a launch template refuses, found before the first call: values of the wrong form, and archives without code."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from operator import ge, le
from typing import Any

from cli.deployment.grants import grants
from cli.deployment.model import OperatorError, Problem
from cli.deployment.terraform.variables import parsed

_PATTERN = re.compile(r'(?<!!)can\(regex\("(.+?)", (?:var\.\w+|one)\)\)')
# By the type of a parameter: the types of its values, and how a person calls one.
_TYPES: Mapping[str, tuple[type, str]] = {
    "string": (str, "text"),
    "int": (int, "a number"),
    "bool": (bool, "true or false"),
    "array": (list, 'a list, such as ["one"]'),
    "object": (dict, 'a map, such as {name = "value"}'),
}
CODE = ("host.json", "function_app.py")


def camel(name: str) -> str:
    """Return the parameter of a variable: `container_name` is containerName."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def refused(values: Mapping[str, Any], parameters: Mapping[str, Any], rules: str) -> list[Problem]:
    """Return a problem for each value that a variable's own rule or a parameter's definition refuses.

    `parameters` are the template's, `rules` the text of the module's variables.tf, whose sentences are the remedies.
    """
    problems = [
        Problem(_title(name, one), message)
        for name, pattern, message in _patterns(rules)
        for one in (values[name] if isinstance(values.get(name), list) else [values.get(name)])
        if one is not None and not re.search(pattern, str(one))
    ]
    problems += [
        Problem(_title(name, values[name]), message)
        for name, fits, message in _lengths(rules)
        if isinstance(values.get(name), str | list | dict) and not fits(len(values[name]))
    ]
    said = _messages(rules)
    known = {one.what for one in problems}
    for name, value in values.items():
        definition = None if _title(name, value) in known else parameters.get(camel(name))
        remedy = "" if definition is None or value is None else _unfit(name, value, definition, said.get(name, ""))
        if remedy:
            problems.append(Problem(_title(name, value), remedy))
    return problems


def granted(values: Mapping[str, Any], group: str) -> dict[str, list[str]]:
    """Return the ids of the grants that a deployment makes with these values, by holder.

    `group` is its management group, "" for listed subscriptions. These are the module's own conditions (identity.tf).
    """
    policy, identity = values.get("policy") == "deploy", bool(values.get("export_identity"))
    holds = {
        "management_group": bool(group),
        "export_key": not identity,
        "export_identity": identity,
        "monitoring": values.get("monitoring_access") != "none",
        "notify": bool(values.get("notify_secret")),
        "activity_log": values.get("events", True) and bool(values.get("activity_log_workspace_id")),
        "deliveries": bool(values.get("delivery_events")),
        "fleet": bool(values.get("fleet")),
        "policy_deploy": policy,
        "policy_deploy_key": policy and not identity,
        "policy_deploy_identity": policy and identity,
    }
    return {
        holder: [one["id"] for one in listed if "when" not in one or holds[one["when"]]]
        for holder, listed in grants("azure").items()
    }


def require_package(package: bytes) -> None:
    """Raise OperatorError for an archive that the app could not load: Azure takes it, and then lists no function."""
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            lacking = [one for one in CODE if one not in archive.namelist()]
    except zipfile.BadZipFile:
        lacking = list(CODE)
    if lacking:
        raise OperatorError(
            Problem(
                f"the package is not an archive of the function: it lacks {' and '.join(lacking)}",
                "Make it with `tailpipe-exports package azure --out dist`, or leave package out: it is built then.",
            )
        )


def _title(name: str, value: Any) -> str:
    return f"{name} = {json.dumps(value)} is refused"


def _unfit(name: str, value: Any, definition: Mapping[str, Any], message: str) -> str:
    """Return what to do about a value that a parameter does not accept, "" for one that it does."""
    kind, called = _TYPES[definition["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        return f"Write {name} as {called}."
    allowed = definition.get("allowedValues")
    low, high = definition.get("minValue"), definition.get("maxValue")
    if allowed and value not in allowed:
        return message or f"Write {name} as one of {', '.join(map(str, allowed))}."
    if (low is not None and value < low) or (high is not None and value > high):
        return message or f"Write {name} as a number from {low} to {high}."
    return ""


def _validations(rules: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the validations of the module's variables, each with its variable."""
    for block in parsed(rules).get("variable", ()):
        for name, body in block.items():
            for rule in body.get("validation", ()):
                yield name, rule


@cache
def _patterns(rules: str) -> tuple[tuple[str, str, str], ...]:
    """Return the patterns of the module's variables: name, regular expression, message."""
    return tuple(
        (name, json.loads(f'"{found[1]}"'), str(rule["error_message"]))
        for name, rule in _validations(rules)
        if (found := _PATTERN.search(str(rule["condition"])))
    )


@cache
def _lengths(rules: str) -> tuple[tuple[str, Callable[[int], bool], str], ...]:
    """Return the limits of lengths among the module's rules: name, whether a length is within the limit, message."""
    return tuple(
        (name, partial(ge if found[1] == "<=" else le, int(found[2])), str(rule["error_message"]))
        for name, rule in _validations(rules)
        for found in re.finditer(rf"(?<![\w(])length\(var\.{name}\) (<=|>=) (\d+)", str(rule["condition"]))
    )


@cache
def _messages(rules: str) -> Mapping[str, str]:
    """Return the message of each variable's first validation."""
    return {name: str(rule["error_message"]) for name, rule in reversed(list(_validations(rules)))}
