"""The deployed local Azure: the function app, its settings, functions and keys, and the operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.function_roles import FUNCTION_ROLE
from localcloud.azure.iam.grants import RIGHTS
from localcloud.azure.platform.deployment import CONTAINER, TAILPIPE_APP
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.azure.services.azurite import Azurite
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.azure.helpers import Sdk, refusal, scope

APP = """
import logging
import os
import azure.functions as func
app = func.FunctionApp()

@app.function_name("tick")
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%")
def tick(timer: func.TimerRequest) -> None:
    pass

@app.function_name("greet")
@app.route(route="greet", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
def greet(req: func.HttpRequest) -> func.HttpResponse:
    logging.getLogger("greeter").warning('{"level": "WARNING", "event": "greeted"}')
    return func.HttpResponse('"' + os.environ.get("GREETING", "") + '"', mimetype="application/json")
"""


class Arm:
    """Resource Manager over plain requests, for operations without an SDK client here."""

    def __init__(self, azure: LocalAzure, closing: ExitStack, token: str = "") -> None:
        self._client = Sdk(azure, closing, token=token or azure.operator_token()).client(CostManagementClient)

    def __call__(self, method: str, path: str, body: Any = None, expected: int = 200, query: str = "") -> Any:
        answer = self._client.send_request(HttpRequest(method, f"{path}?api-version=2024-04-01{query}", json=body))
        assert answer.status_code == expected, answer.text()
        return answer.json() if answer.content else None


@pytest.fixture
def arm(azure: LocalAzure, closing: ExitStack) -> Arm:
    """Return Resource Manager with the operator's identity."""
    return Arm(azure, closing)


@pytest.fixture
def running(clock: VirtualClock, azurite: Azurite, tmp_path: Path) -> Iterator[LocalAzure]:
    """Return a deployed tenant whose function app has a small app's code."""
    (tmp_path / "greeter.py").write_text(APP, encoding="utf-8")

    def start(environment: Mapping[str, str]) -> AzureWorker:
        return AzureWorker("greeter", environment, task_root=tmp_path)

    with LocalAzure(clock=clock, azurite=azurite, start=start) as cloud:
        yield cloud


def test_functions_can_be_listed_called_with_their_key_and_searched_in_the_log(
    running: LocalAzure, closing: ExitStack
) -> None:
    """Resource Manager returns the key."""
    arm, site = Arm(running, closing), running.site.id
    listed = {one["properties"]["name"]: one["properties"] for one in arm("GET", f"{site}/functions")["value"]}
    assert {name: one["config"]["bindings"][0]["type"] for name, one in listed.items()} == {
        "tick": "timerTrigger",
        "greet": "httpTrigger",
    }
    assert not any(one["isDisabled"] for one in listed.values())
    key = arm("POST", f"{site}/functions/greet/listkeys")["default"]
    address = running.environment()["FUNCTION_ENDPOINT"]
    assert requests.get(f"{address}/api/greet", timeout=HANG_S).status_code == 401
    assert requests.get(f"{address}/api/greet", params={"code": key}, timeout=HANG_S).status_code == 200
    assert requests.get(f"{address}/api/other", headers={"x-functions-key": key}, timeout=HANG_S).status_code == 404

    workspace = f"{site.split('/providers/')[0]}/providers/Microsoft.OperationalInsights/workspaces/{running.site.name}"
    query = "AppTraces | where SeverityLevel >= 2 | take 9 | project SeverityLevel, Message"
    (table,) = arm("POST", f"{workspace}/query", {"query": query})["tables"]
    assert [one["name"] for one in table["columns"]] == ["SeverityLevel", "Message"]
    assert table["rows"] == [[2, '{"level": "WARNING", "event": "greeted"}']]
    for unknown in ("AppRequests", "AppTraces | summarize count()", "AppTraces | where Message startswith 'a'"):
        arm("POST", f"{workspace}/query", {"query": unknown}, expected=501)
    arm("POST", f"{workspace}/query", {}, expected=400)
    arm("POST", f"{workspace}-other/query", {"query": query}, expected=404)


def test_new_settings_apply_immediately_and_can_disable_the_timer(running: LocalAzure, closing: ExitStack) -> None:
    """All settings are replaced together."""
    arm, site = Arm(running, closing), running.site.id
    settings = arm("POST", f"{site}/config/appsettings/list")["properties"]
    assert settings["DESTINATION"] == running.environment()["DESTINATION"]
    assert running.tick()
    changed = {**settings, "GREETING": "hello", "AzureWebJobs.tick.Disabled": "true"}
    arm("PUT", f"{site}/config/appsettings", {"properties": changed})
    key = arm("POST", f"{site}/functions/greet/listkeys")["default"]
    address = running.environment()["FUNCTION_ENDPOINT"]
    assert requests.get(f"{address}/api/greet", headers={"x-functions-key": key}, timeout=HANG_S).json() == "hello"
    listed = {
        one["properties"]["name"]: one["properties"]["isDisabled"] for one in arm("GET", f"{site}/functions")["value"]
    }
    assert listed == {"tick": True, "greet": False}
    assert not running.tick()
    arm("PUT", f"{site}/config/appsettings", {"properties": {"number": 1}}, expected=400)


def test_app_without_code_has_no_functions(azure: LocalAzure, arm: Arm) -> None:
    """Its list is empty, and its address is 404."""
    assert arm("GET", azure.site.id)["properties"]["state"] == "Running"
    assert arm("GET", f"{azure.site.id}/functions")["value"] == []
    assert requests.get(f"{azure.environment()['FUNCTION_ENDPOINT']}/api/status", timeout=HANG_S).status_code == 404


def test_function_has_the_roles_of_the_module(azure: LocalAzure, arm: Arm) -> None:
    """The custom role at the management group has the file's actions; it may assign roles only without keys."""
    grants = yaml.safe_load(RIGHTS.read_text(encoding="utf-8"))["function"]
    expected = {action for one in grants if one["scope"] == "management_group" for action in one["actions"]}
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    role = arm("GET", f"{root}/providers/Microsoft.Authorization/roleDefinitions/{FUNCTION_ROLE}")
    assert set(role["properties"]["permissions"][0]["actions"]) == expected
    write = "Microsoft.Authorization/roleAssignments/write"
    assert not azure.world.rights.allows(azure.principal, write, azure.destinations[0].id)


def test_denied_action_is_missing_from_the_permissions_and_refused(azure: LocalAzure, arm: Arm) -> None:
    """Allowing the action restores both."""
    group = f"{scope(azure)}/resourceGroups/new"
    azure.deny("Microsoft.Resources/subscriptions/resourceGroups/*")
    held = arm("GET", f"{scope(azure)}/providers/Microsoft.Authorization/permissions")["value"]
    assert [pattern for one in held for pattern in one["notActions"]] == [
        "Microsoft.Resources/subscriptions/resourceGroups/*"
    ]
    refusal = arm("PUT", group, {"location": "westeurope"}, expected=403)
    assert refusal["error"]["code"] == "AuthorizationFailed"
    azure.allow()
    arm("PUT", group, {"location": "westeurope", "tags": {"a": "b"}}, expected=201)
    assert arm("GET", group)["tags"] == {"a": "b"}


def test_export_with_a_key_needs_write_permission_on_the_account(azure: LocalAzure, sdk: Sdk) -> None:
    """Permission to write exports is not sufficient; both checks are logged."""
    azure.deny("Microsoft.Storage/storageAccounts/write", azure.principal)
    status, code, message = refusal(sdk.create)
    assert (status, code, azure.destinations[0].id in message) == (403, "LinkedAuthorizationFailed", True)
    assert "Microsoft.Storage/storageAccounts/write" in azure.calls.actions(azure.principal)
    azure.allow(azure.principal)
    sdk.create()


def test_storage_account_name_must_be_available_in_all_of_azure(azure: LocalAzure, arm: Arm) -> None:
    """A new account accepts containers."""
    check = f"{scope(azure)}/providers/Microsoft.Storage/checkNameAvailability"
    azure.take_name("elsewhere")

    def asked(name: str) -> tuple[bool, str]:
        answer = arm("POST", check, {"name": name, "type": "Microsoft.Storage/storageAccounts"})
        return answer["nameAvailable"], answer.get("reason", "")

    assert asked("elsewhere") == asked(azure.host_account.name) == (False, "AlreadyExists")
    assert asked("Not-a-name") == (False, "AccountNameInvalid")
    assert asked("brandnew") == (True, "")
    path = f"{azure.host_account.id.rsplit('/', 1)[0]}/brandnew"
    body = {"location": "westeurope", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, "tags": {"a": "b"}}
    body["properties"] = {"allowSharedKeyAccess": False}
    made = arm("PUT", path, body)
    assert (made["properties"]["allowSharedKeyAccess"], made["tags"]) == (False, {"a": "b"})
    arm("PUT", f"{path}/blobServices/default", {"properties": {"isVersioningEnabled": True}})
    assert arm("GET", f"{path}/blobServices/default")["properties"]["isVersioningEnabled"] is True
    container = f"{path}/blobServices/default/containers/things"
    arm("GET", container, expected=404)
    arm("PUT", container, {}, expected=201)
    arm("GET", container)
    taken = arm("PUT", f"{azure.host_account.id.rsplit('/', 1)[0]}/elsewhere", body, expected=409)
    assert taken["error"]["code"] == "StorageAccountAlreadyTaken"


def test_deployed_resources_are_listed_by_type_and_tag(azure: LocalAzure, arm: Arm) -> None:
    """A retained resource is gone once it is deleted."""
    azure.world.behavior.page_size = 3
    listed = f"{scope(azure)}/resources"
    sites = arm("GET", listed, query="&$filter=resourceType eq 'Microsoft.Web/sites'")["value"]
    assert [(one["name"], one["tags"]["managed-by"]) for one in sites] == [(azure.site.name, "tailpipe-exports")]
    query = "&$filter=tagName eq 'managed-by' and tagValue eq 'tailpipe-exports'"
    first = arm("GET", listed, query=query)
    assert (len(first["value"]), "nextLink" in first) == (3, True)
    plan = f"{azure.site.id.rsplit('/providers/', 1)[0]}/providers/Microsoft.Web/serverFarms/{azure.site.name}"
    arm("GET", plan)
    arm("DELETE", plan)
    arm("GET", plan, expected=404)


def test_graph_returns_tailpipes_application(azure: LocalAzure, clock: VirtualClock, closing: ExitStack) -> None:
    """Callers with a role see its two roles; a bare tenant has no application."""
    graph, header = azure.environment()["GRAPH_ENDPOINT"], {"Authorization": f"Bearer {azure.operator_token()}"}
    url = f"{graph}/v1.0/servicePrincipals(appId='{TAILPIPE_APP}')"
    found = requests.get(url, headers=header, timeout=HANG_S).json()
    held = azure.world.rights.of(found["id"])
    assert sorted(one.scope.rsplit("/", 1)[1] for one in held) == sorted([CONTAINER, azure.tenant])
    refused = requests.get(url, headers={"Authorization": f"Bearer {azure.token()}"}, timeout=HANG_S)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "Authorization_RequestDenied")
    bare = closing.enter_context(LocalAzure(clock=clock, bare=True))
    url = url.replace(graph, bare.environment()["GRAPH_ENDPOINT"])
    header = {"Authorization": f"Bearer {bare.operator_token()}"}
    assert requests.get(url, headers=header, timeout=HANG_S).json()["error"]["code"] == "Request_ResourceNotFound"


def test_data_is_deleted_with_its_container(azure: LocalAzure, arm: Arm, closing: ExitStack) -> None:
    """After deletion through Resource Manager, blob clients do not find the container."""
    path = f"{azure.destinations[0].id}/blobServices/default/containers/{CONTAINER}"
    arm("DELETE", path)
    arm("GET", path, expected=404)
    assert not closing.enter_context(azure.blob_client()).get_container_client(CONTAINER).exists()
