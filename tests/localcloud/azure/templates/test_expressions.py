"""The language of ARM templates, as Microsoft's reference describes it."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.azure.errors import ArmError
from localcloud.azure.templates.expansion import Place, expand
from localcloud.azure.templates.expressions import Unknown

SUBSCRIPTION = "00000000-0000-0000-0000-00000000aaaa"
PLACE = Place("resourceGroup", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/one", "tenant", "westeurope")
SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"


def output(expression: Any, parameters: dict[str, Any] | None = None, **variables: Any) -> Any:
    """Return the value of an expression as the output of a template."""
    document = {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": {name: {"type": "object", "defaultValue": value} for name, value in (parameters or {}).items()},
        "variables": variables,
        "resources": [],
        "outputs": {"one": {"type": "object", "value": expression}},
    }
    expansion = expand(document, {}, PLACE)
    return expansion.answered(expansion.scope.reference)["one"]["value"]


def template(*resources: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Return a template of storage accounts, each with a name and more."""
    base = {"type": "Microsoft.Storage/storageAccounts", "apiVersion": "2023-05-01"}
    return {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "resources": [{**base, **one} for one in resources],
        **parts,
    }


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("plain", "plain"),
        ("[[left to another language]", "[left to another language]"),
        ("[concat('it''s ', string(1), string(true()))]", "it's 1True"),
        ("[concat(createArray(1), createArray(2, 3))]", [1, 2, 3]),
        ("[if(equals(1, 1), 'yes', fail('never'))]", "yes"),
        ("[first(filter(createArray(1, 5), lambda('n', greater(lambdaVariables('n'), 2))))]", 5),
        ("[map(range(2, 2), lambda('n', padLeft(string(lambdaVariables('n')), 2, '0')))]", ["02", "03"]),
        ("[union(createArray('a', 'b'), createArray('b'))]", ["a", "b"]),
        (
            "[union(createObject('a', createObject('b', 1)), createObject('a', createObject('c', 2)))]",
            {"a": {"b": 1, "c": 2}},
        ),
        ("[items(createObject('b', 1, 'a', 2))]", [{"key": "a", "value": 2}, {"key": "b", "value": 1}]),
        ("[toObject(createArray('x'), lambda('n', lambdaVariables('n')), lambda('n', 1))]", {"x": 1}),
        ("[intersection(createArray(1, 2), createArray(2))]", [2]),
        ("[take('ab', 22)]", "ab"),
        ("[div(7200, 3600)]", 2),
        ("[resourceGroup().name]", "one"),
        ("[substring(subscription().subscriptionId, 30, 6)]", "00aaaa"),
        (
            "[resourceId('Microsoft.Web/sites/config', 'a', 'b')]",
            f"{PLACE.id}/providers/Microsoft.Web/sites/a/config/b",
        ),
        ("[subscriptionResourceId('A.B/c', 'd')]", f"/subscriptions/{SUBSCRIPTION}/providers/A.B/c/d"),
        ("[tenantResourceId('A.B/c', 'd')]", "/providers/A.B/c/d"),
        # The documented example of the function guid.
        ("[length(guid('a', 'b'))]", 36),
    ],
)
def test_expressions_are_evaluated(expression: str, value: Any) -> None:
    """Texts, arrays, objects, lambdas and ids."""
    assert output(expression) == value


@pytest.mark.parametrize(
    ("expression", "status", "said"),
    [
        ("[notAFunction(1)]", 501, "does not implement the template function 'notAFunction'"),
        ("[concat('a'", 0, ""),
        ("[concat('a')b]", 400, "unexpected text"),
        ("[parameters('none')]", 400, "the template parameter 'none' is not found"),
        ("[variables('none')]", 400, "the template variable 'none' is not found"),
        ("[createObject('a', 1).b]", 400, "'b' doesn't exist, available properties are 'a'"),
        ("[managementGroup().id]", 400, "is not expected at this location"),
        ("[fail('Write less.')]", 400, "Deployment template validation failed: 'Write less.'."),
        ("[copyIndex()]", 400, "'copyIndex' is not expected"),
        ("[resourceId('A.B/c/d', 'one')]", 400, "takes 2 names, and 1 are given"),
    ],
)
def test_mistakes_in_expressions_are_refused(expression: str, status: int, said: str) -> None:
    """With the status and the name of what is wrong; a text that does not end is no expression."""
    if not status:
        assert output(expression) == expression
        return
    with pytest.raises(ArmError) as refused:
        output(expression)
    assert (refused.value.status, said in refused.value.message) == (status, True), refused.value.message


def test_what_exists_later_is_unknown_and_makes_unknown() -> None:
    """A name that needs it is unknown, and a choice that does not is made."""
    found = output("[guid(reference('/a', '2020-01-01').b)]")
    assert isinstance(found, Unknown)
    assert output("[if(false(), reference('/a', '2020-01-01'), 'known')]") == "known"


def test_resources_are_copied_chosen_and_ordered() -> None:
    """By copy, condition and dependsOn, which names an id, a name or a loop."""
    document = template(
        {"name": "last", "dependsOn": ["many", "[resourceId('Microsoft.Storage/storageAccounts', 'off')]"]},
        {"name": "[concat('n', copyIndex())]", "copy": {"name": "many", "count": 2}},
        {"name": "off", "condition": False},
    )
    assert [one.name for one in expand(document, {}, PLACE).in_order()] == ["n0", "n1", "last"]


@pytest.mark.parametrize(
    ("document", "given", "said"),
    [
        (template({"name": "a", "dependsOn": ["b"]}), {}, "The resource 'b' is not defined in the template"),
        (template({"name": "a", "dependsOn": ["b"]}, {"name": "b", "dependsOn": ["a"]}), {}, "Circular dependency"),
        (template({"name": "a/b"}), {}, "has incorrect segment lengths"),
        (template(functions=[]), {}, "does not support 'functions'"),
        (template(parameters={"p": {"type": "int"}}), {}, "'p' is not provided"),
        (template(), {"q": {"value": 1}}, "do not correspond to any parameters defined in the template: 'q'"),
        (template(parameters={"p": {"type": "int"}}), {"p": {"value": "1"}}, "Expected 'Int'"),
        (
            template(parameters={"p": {"type": "int", "maxValue": 1}}),
            {"p": {"value": 2}},
            "greater than the maximum '1'",
        ),
        (
            template(parameters={"p": {"type": "string", "allowedValues": ["a"]}}),
            {"p": {"value": "b"}},
            "'b' is not part of the allowed value(s): 'a'",
        ),
        (
            {**template(), "$schema": "https://x/subscriptionDeploymentTemplate.json#"},
            {},
            "not supported at this scope",
        ),
    ],
)
def test_mistakes_in_templates_are_refused(document: dict[str, Any], given: dict[str, Any], said: str) -> None:
    """Before anything is deployed."""
    with pytest.raises(ArmError) as refused:
        list(expand(document, given, PLACE).in_order())
    assert said in refused.value.message
