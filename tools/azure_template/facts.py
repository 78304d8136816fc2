"""The facts of the Azure module that the templates are made from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cli.deployment.terraform.variables import parsed
from tools import modules

# "Azure built-in roles", Microsoft Learn.
BUILT_IN = {
    "EventGrid Data Sender": "d5a91429-5739-47e2-a06b-3470a27159e7",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
    "Monitoring Reader": "43d0d8ad-25c7-4714-9337-8ba259a9fe05",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
TYPES = {"string": "string", "number": "int", "bool": "bool", "map(string)": "object"}
# What a template cannot do, or does differently. docs/azure.md says what takes its place.
WITHOUT_PARAMETER = {
    "package": "A template reads no file of the operator's; packageUri names an address that Azure reads.",
    "delete_data_on_destroy": "A deployment in incremental mode deletes nothing.",
    "register_providers": "Azure registers the providers of a template's resources; one command registers the other.",
}
# The policy lies in the management group, which the template of a subscription cannot reach.
OF_GROUP = ("policy",)
# Descriptions whose variable means something else than the parameter.
CHANGED = {
    "connector_object_id": "Object id of Tailpipe's enterprise application in this tenant. `az ad sp create --id` with "
    "Tailpipe's application id adds it, and prints it as id.",
}
# What a message of the module quotes, in words: a rule of a template is a fixed text.
FILLED_IN = (
    (': ${join(", ", setintersection(var.include_subscriptions, var.exclude_subscriptions))}', ""),
    ('policy = "${var.policy}"', "a policy"),
    ("${local.registry_container}", "tailpipe-registry"),
    ('replication = "${var.replication}"', "this replication"),
    (
        '${join(", ", setintersection(keys(var.settings), keys(local.own_settings)))}',
        "the names of this template's own settings",
    ),
)
_INTERPOLATED = re.compile(r"\$\{local\.(\w+)\}")


@dataclass(frozen=True)
class Parameter:
    """A variable as a parameter: its name in the template, its definition, and the pattern of its text.

    `message` is the module's sentence for a value of the wrong form, in the template's words.
    """

    variable: str
    name: str
    definition: Mapping[str, Any]
    pattern: str
    message: str


@dataclass(frozen=True)
class Facts:
    """The module's facts. `refusals` are the sentences of its preconditions, in order, in the template's words."""

    parameters: Mapping[str, Parameter]
    refusals: Sequence[str]
    rights: Mapping[str, Sequence[Mapping[str, Any]]]
    role_titles: Mapping[str, str]
    applications: Mapping[str, str]
    alarms: Sequence[Mapping[str, Any]]
    queries: Mapping[str, str]
    figures: str
    function: Mapping[str, Any]


def camel(name: str) -> str:
    """Return a variable's name as a parameter's: `container_name` is containerName."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def read_facts(folder: Path) -> Facts:
    """Return the facts of the module in a folder."""
    module = modules.read(folder)
    known = set(module.variables)
    figures, rounds = str(module.locals["figures"]), str(module.locals["rounds"])
    text = {"figures": figures, "rounds": rounds}
    rights = (folder / "rights.yaml").read_text(encoding="utf-8")
    rights = rights.replace("${blob_data_contributor}", BUILT_IN["Storage Blob Data Contributor"])
    return Facts(
        parameters={
            name: _parameter(name, body, known)
            for name, body in module.variables.items()
            if name not in WITHOUT_PARAMETER
        },
        refusals=[_said(one["error_message"], known) for one in _preconditions(module)],
        rights=yaml.load(rights, yaml.CSafeLoader),
        role_titles=module.locals["role_titles"],
        applications=_object(_before_index(str(module.locals["tailpipe_app_id"]))),
        alarms=list(_alarms(module, text)),
        queries=_queries(module, text),
        figures=figures,
        function=json.loads((folder / "function.arm.json").read_text(encoding="utf-8")),
    )


def _parameter(name: str, body: Mapping[str, Any], known: set[str]) -> Parameter:
    kind = modules.type_of(body)
    definition: dict[str, Any] = {"type": TYPES.get(kind, "array")}
    rules = body.get("validation", ())
    if "default" in body:
        empty = 0 if definition["type"] == "int" else ""
        definition["defaultValue"] = empty if body["default"] is None else body["default"]
    pattern, message = "", ""
    for rule in rules:
        condition = str(rule["condition"])
        if chosen := re.search(r"contains\((\[.*?\]), var\.\w+\)", condition):
            null = [""] if body.get("default", "") is None else []
            definition["allowedValues"] = [*null, *json.loads(chosen[1])]
        for sign, key in ((">=", "minValue"), ("<=", "maxValue")):
            if bound := re.search(rf"var\.{name} {sign} (\d+)", condition):
                definition[key] = int(bound[1])
        found = re.search(r'(?<!!)can\(regex\("(.+?)", (?:var\.\w+|one)\)\)', condition)
        if found and not pattern:
            pattern = json.loads(f'"{found[1]}"')
        message = message or _said(rule["error_message"], known)
    if name == "archive_after_days":
        definition["minValue"] = 0  # stands for null, which no parameter of a template can be
    if name == "connector_object_id":
        del definition["defaultValue"]  # a template adds no enterprise application
    description = _said(body["description"], known)
    definition["metadata"] = {"description": CHANGED.get(name, description)}
    return Parameter(name, camel(name), definition, pattern, message)


def _said(text: str, known: set[str]) -> str:
    """Return a sentence of the module in the template's words: parameters instead of variables."""
    for expression, words in FILLED_IN:
        text = text.replace(expression, words)
    text = re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda found: camel(found[0]) if found[0] in known else found[0], text)
    text = re.sub(r"(archiveAfterDays = |coolAfterDays, or |to 36500, or )null", r"\g<1>0", text)
    return (
        re.sub(r"\bnull\b", "empty", text)
        .replace("the module", "this template")
        .replace("this module", "this template")
    )


def _preconditions(module: modules.Module) -> list[Mapping[str, Any]]:
    checks = module.resources["terraform_data.checks"]["lifecycle"]
    found = checks[0] if isinstance(checks, list) else checks
    listed: list[Mapping[str, Any]] = found["precondition"]
    return listed


def _object(text: str) -> dict[str, Any]:
    """Return an object that the parser left as text."""
    value: dict[str, Any] = parsed(f"value = {text}\n")["value"]
    return value


def _before_index(text: str) -> str:
    return text.removeprefix("${").rpartition("[")[0]


def _chosen(text: str) -> str:
    """Return the object of `${condition ? {…} : {}}`."""
    return text.removeprefix("${").partition(" ? ")[2].removesuffix(" : {}}")


def _alarms(module: modules.Module, text: Mapping[str, str]) -> list[dict[str, Any]]:
    groups = (
        ("", module.locals["alarms"]),
        ("deliveryEvents", _object(_chosen(str(module.locals["delivery_alarms"])))),
        ("fleet", _object(_chosen(str(module.locals["fleet_alarms"])))),
    )
    made = []
    for group, alarms in groups:
        for name, one in alarms.items():
            when = "events" if name == "events" else group
            runbook = module.locals["runbook"][name]
            made.append({**one, "name": name, "when": when, "runbook": runbook, "query": _filled(one["query"], text)})
    return made


def _filled(query: str, text: Mapping[str, str]) -> str:
    return _INTERPOLATED.sub(lambda found: text[found[1]], query)


def _queries(module: modules.Module, text: Mapping[str, str]) -> dict[str, str]:
    written = str(module.locals["dashboard_queries"])
    others = _object(written[written.rindex(", {") + 2 : written.rindex("}") - 1])
    hourly = {
        title: f"{text['figures']} | summarize {', '.join(f'{name} = max(todouble(f.{name}))' for name in names)}"
        " by bin(timestamp, 1h)"
        for title, names in module.locals["dashboard_metrics"].items()
    }
    others |= module.locals["tenant_queries"]
    filled = {**text, "tenant_rows": str(module.locals["tenant_rows"])}
    return {**hourly, **{title: _filled(query, filled) for title, query in others.items()}}
