"""Deployments of templates: rights, order, failures, what-if, and the refusal of what is not supported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from azure.mgmt.costmanagement import CostManagementClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from tests.localcloud.azure.helpers import Sdk
from tests.localcloud.azure.services.test_tenant import send
from tests.localcloud.azure.templates.test_expressions import SCHEMA

Put = Callable[..., Any]
PLAN = {"type": "Microsoft.Web/serverFarms", "apiVersion": "2024-04-01", "location": "westeurope"}
GROUPS = {"type": "Microsoft.Insights/actionGroups", "apiVersion": "2023-01-01", "location": "global"}


@pytest.fixture
def ask(azure: LocalAzure, closing: ExitStack) -> Put:
    """Return a function that sends a template to an operation of a deployment in the resource group."""
    client = Sdk(azure, closing, token=azure.operator_token()).client(CostManagementClient)
    where = azure.site.id.partition("/providers/")[0]
    path = f"{where}/providers/Microsoft.Resources/deployments/mine"

    def asked(*resources: Any, method: str = "PUT", rest: str = "", expected: int = 201, **properties: Any) -> Any:
        document = {"$schema": SCHEMA, "contentVersion": "1.0.0.0", "resources": list(resources)}
        body = {"properties": {"mode": "Incremental", "template": document, **properties}}
        return send(client, method, f"{path}{rest}", None if method == "GET" else body, expected)

    return asked


def test_deployment_makes_what_is_missing_and_what_if_shows_it(azure: LocalAzure, ask: Put) -> None:
    """Create, then nothing; a changed tag is a modification, and what a template does not set stays."""
    one = {**PLAN, "name": "one", "tags": {"a": "1"}}
    shown = ask(one, method="POST", rest="/whatIf", expected=200)["properties"]["changes"]
    assert [(each["changeType"], each["resourceId"].rsplit("/", 1)[-1]) for each in shown] == [("Create", "one")]
    ask(one)
    assert ask(method="GET", expected=200)["properties"]["provisioningState"] == "Succeeded"
    assert ask(one, method="POST", rest="/whatIf", expected=200)["properties"]["changes"][0]["changeType"] == "NoChange"
    [changed] = ask({**one, "tags": {"a": "2"}}, method="POST", rest="/whatIf", expected=200)["properties"]["changes"]
    assert (changed["changeType"], changed["delta"][0]["path"]) == ("Modify", "tags.a")


def test_missing_right_is_found_before_anything_is_made(azure: LocalAzure, ask: Put) -> None:
    """The whole template is checked first, in the deployment as in its validation."""
    azure.world.rights.withheld[OPERATOR] = ("Microsoft.Insights/actionGroups/write",)
    resources = ({**PLAN, "name": "one"}, {**GROUPS, "name": "two"})
    error = ask(*resources, expected=403)["error"]
    assert (error["code"], "Microsoft.Insights/actionGroups/write" in error["message"]) == (
        "InvalidTemplateDeployment",
        True,
    )
    assert ask(*resources, method="POST", rest="/validate", expected=400)["error"] == error
    assert not any(name.endswith("/one") for name in azure.world.resources)


def test_failure_leaves_the_rest_deployed_and_names_its_resource(azure: LocalAzure, ask: Put) -> None:
    """What depends on it is not tried; the next deployment makes it."""
    azure.fault("Microsoft.Insights/actionGroups/write", "Odd", "not now", status=400)
    resources = (
        {**GROUPS, "name": "two"},
        {**PLAN, "name": "after", "dependsOn": ["two"]},
        {**PLAN, "name": "apart"},
    )
    ask(*resources)
    found = ask(method="GET", expected=200)["properties"]
    assert (found["provisioningState"], found["error"]["details"][0]["code"]) == ("Failed", "Odd")
    operations = ask(method="GET", rest="/operations", expected=200)["value"]
    states = {
        one["properties"]["targetResource"]["resourceName"]: one["properties"]["provisioningState"]
        for one in operations
    }
    assert states == {"two": "Failed", "apart": "Succeeded"}
    ask(*resources, expected=200)
    assert ask(method="GET", expected=200)["properties"]["provisioningState"] == "Succeeded"


@pytest.mark.parametrize(
    ("resource", "properties", "said"),
    [
        ({}, {"mode": "Complete"}, "the mode Incremental only"),
        ({}, {"template": None, "templateLink": {"uri": "https://example.com"}}, "reads no linked template"),
    ],
)
def test_what_is_not_supported_is_said(ask: Put, resource: Any, properties: dict[str, Any], said: str) -> None:
    """With the status 501; nothing is ignored."""
    assert said in ask(expected=501, **properties)["error"]["message"]


def test_unknown_type_fails_the_deployment(ask: Put) -> None:
    """It is no silent success."""
    ask({"type": "Microsoft.Nothing/here", "apiVersion": "2023-01-01", "name": "x"})
    found = ask(method="GET", expected=200)["properties"]
    assert (found["provisioningState"], found["error"]["details"][0]["code"]) == ("Failed", "NotImplemented")
