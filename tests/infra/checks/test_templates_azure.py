"""The launch templates of Azure are valid for Resource Manager, and their forms for the templates."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.azure.templates.expansion import SCHEMAS
from localcloud.azure.templates.expressions import Call, Literal, Node, is_expression, parse
from localcloud.azure.templates.functions import FUNCTIONS
from tests.limits import HANG_S

Json = dict[str, Any]
TEMPLATES = {"template.json": "createUiDefinition.json", "management-group.json": "management-group.form.json"}
EXPRESSION = {"type": "string", "pattern": r"^\[[^\[].*\]$"}
# Azure's own schemas (Azure/azure-resource-manager-schemas: deploymentTemplate.json of 2019-04-01, and those of
# subscriptions and management groups), without what they say of each resource type.
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "$schema": {"enum": [
            "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
            "https://schema.management.azure.com/schemas/2019-08-01/managementGroupDeploymentTemplate.json#",
        ]},
        "contentVersion": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$"},
        "parameters": {
            "type": "object", "additionalProperties": {"$ref": "#/definitions/parameter"}, "maxProperties": 256,
        },
        "variables": {"type": "object", "maxProperties": 512},
        "resources": {"type": "array", "items": {"$ref": "#/definitions/resource"}, "minItems": 1, "maxItems": 800},
        "outputs": {"type": "object", "additionalProperties": {"$ref": "#/definitions/output"}, "maxProperties": 64},
    },
    "required": ["$schema", "contentVersion", "resources"],
    "additionalProperties": False,
    "definitions": {
        "type": {"enum": ["string", "int", "bool", "object", "array", "secureString", "secureObject"]},
        "parameter": {
            "type": "object",
            "properties": {
                "type": {"$ref": "#/definitions/type"},
                "defaultValue": {},
                "allowedValues": {"type": "array", "minItems": 1},
                "minValue": {"type": "integer"}, "maxValue": {"type": "integer"},
                "minLength": {"type": "integer"}, "maxLength": {"type": "integer"},
                "metadata": {"type": "object", "properties": {"description": {"type": "string", "minLength": 1}}},
            },
            "required": ["type"],
            "additionalProperties": False,
        },
        "output": {
            "type": "object",
            "properties": {"type": {"$ref": "#/definitions/type"}, "value": {}, "condition": EXPRESSION},
            "required": ["type", "value"],
            "additionalProperties": False,
        },
        "resource": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "pattern": r"^Microsoft\.[A-Za-z]+(/[A-Za-z]+)+$"},
                "apiVersion": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}(-preview)?$"},
                "name": {"type": "string", "minLength": 1},
                "condition": {"oneOf": [{"type": "boolean"}, EXPRESSION]},
                "location": {"type": "string"},
                "tags": {"oneOf": [{"type": "object"}, EXPRESSION]},
                "dependsOn": {"type": "array", "items": {"type": "string"}},
                "copy": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "count": {"oneOf": [{"type": "integer"}, EXPRESSION]}},
                    "required": ["name", "count"],
                    "additionalProperties": False,
                },
                "scope": EXPRESSION, "subscriptionId": EXPRESSION, "resourceGroup": EXPRESSION,
                "properties": {"type": "object"}, "identity": {"type": "object"}, "sku": {"type": "object"},
                "kind": {"type": "string", "maxLength": 64}, "metadata": {"type": "object"},
            },
            "required": ["type", "apiVersion", "name"],
            "additionalProperties": False,
        },
    },
}  # fmt: skip


# The validator is installed with the scanners.
PYTHON = Path(sys.prefix) / "infra-check" / "bin" / "python"
VALIDATE = """
import json, jsonschema, sys
schema, documents = json.load(sys.stdin)
validator = jsonschema.Draft7Validator(schema)
print(json.dumps([[one.message for one in validator.iter_errors(document)] for document in documents]))
"""


def problems(documents: list[Json]) -> list[list[str]]:
    """Return what the schema refuses in each document."""
    if not PYTHON.exists():
        pytest.skip("the scanners are not installed; tools/setup.sh check installs them")
    done = subprocess.run(
        [str(PYTHON), "-c", VALIDATE], input=json.dumps([SCHEMA, documents]),
        capture_output=True, text=True, timeout=HANG_S, check=True,
    )  # fmt: skip
    found: list[list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def infra(repository: Path) -> Path:
    """Return the folder of the templates."""
    return repository / "infra" / "azure"


def read(path: Path) -> Json:
    """Return a JSON document."""
    document: Json = json.loads(path.read_text(encoding="utf-8"))
    return document


def templates(document: Json) -> Iterator[Json]:
    """Yield a template and those of its nested deployments."""
    yield document
    for one in document["resources"]:
        inner = one.get("properties", {}).get("template")
        if one["type"] == "Microsoft.Resources/deployments" and inner:
            yield from templates(inner)


def expressions(value: Any) -> Iterator[str]:
    """Yield every expression of a template, without those of its nested deployments."""
    if is_expression(value):
        yield value[1:-1]
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in parts:
        if not (name == "template" and "expressionEvaluationOptions" in value):
            yield from expressions(one)


def calls(node: Node) -> Iterator[Call]:
    """Yield every call in an expression."""
    if isinstance(node, Call):
        yield node
    children = node.arguments if isinstance(node, Call) else () if isinstance(node, Literal) else node
    for child in children:
        yield from calls(child)


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_and_its_parts_are_valid(infra: Path, name: str) -> None:
    """Each part has the form that Azure's schema asks for, and at most 4 MB in all."""
    path = infra / name
    assert path.stat().st_size < 4_000_000
    parts = list(templates(read(path)))
    assert [one for one in problems(parts) if one] == []
    assert {str(one["$schema"]).rsplit("/", 1)[-1] for one in parts} <= set(SCHEMAS.values())


def test_schema_finds_what_azure_refuses(infra: Path) -> None:
    """A part that is no part, a resource without a version, and a parameter of an unknown type."""
    wrong = [read(infra / "template.json") for _ in range(3)]
    wrong[0]["resource"] = []
    del wrong[1]["resources"][0]["apiVersion"]
    wrong[2]["parameters"]["location"]["type"] = "text"
    assert [len(one) for one in problems(wrong)] == [1, 1, 1]


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_name_in_an_expression_exists(infra: Path, name: str) -> None:
    """Functions, parameters and variables; and nothing is declared that no expression uses."""
    for one in templates(read(infra / name)):
        used: dict[str, set[str]] = {"parameters": set(), "variables": set()}
        for text in expressions(one):
            assert len(text) <= 24_576
            for call in calls(parse(text)):
                known = {*FUNCTIONS, "if", "map", "filter", "toobject", "lambda"}
                assert call.name.lower() in known, text
                if call.name in used:
                    [argument] = call.arguments
                    assert isinstance(argument, Literal)
                    used[call.name].add(str(argument.value))
        assert used["variables"] == set(one.get("variables", {}))
        assert used["parameters"] == set(one.get("parameters", {}))


@pytest.mark.parametrize(("name", "form"), TEMPLATES.items())
def test_form_gives_every_required_parameter_and_no_other(infra: Path, name: str, form: str) -> None:
    """And each of its outputs names an element that exists, whose pattern is a regular expression."""
    parameters, document = read(infra / name)["parameters"], read(infra / form)["parameters"]
    required = {one for one, body in parameters.items() if "defaultValue" not in body}
    assert required <= set(document["outputs"]) <= set(parameters)
    elements = {"basics": {one["name"] for one in document["basics"]}}
    elements |= {step["name"]: {one["name"] for one in step["elements"]} for step in document["steps"]}
    for output in document["outputs"].values():
        for step, element in re.findall(r"steps\('(\w+)'\)\.(\w+)", output):
            assert element in elements[step], output
        for element in re.findall(r"basics\('(\w+)'\)", output):
            assert element in elements["basics"], output
    for one in [*document["basics"], *(each for step in document["steps"] for each in step["elements"])]:
        for rule in one.get("constraints", {}).get("validations", ()):
            re.compile(rule.get("regex", ""))
            assert rule["message"]
