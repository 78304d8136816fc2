"""The local Azure after a deployment: the function app, its settings, functions and keys, and the operator."""

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
    """Resource Manager by plain requests, for what the clients at hand have no operation for."""

    def __init__(self, azure: LocalAzure, closing: ExitStack, token: str = "") -> None:
        self._client = Sdk(azure, closing, token=token or azure.operator_token()).client(CostManagementClient)

    def __call__(self, method: str, path: str, body: Any = None, expected: int = 200, query: str = "") -> Any:
        answer = self._client.send_request(HttpRequest(method, f"{path}?api-version=2024-04-01{query}", json=body))
        assert answer.status_code == expected, answer.text()
        return answer.json() if answer.content else None


@pytest.fixture
def arm(azure: LocalAzure, closing: ExitStack) -> Arm:
    """Return Resource Manager for the operator who deploys."""
    return Arm(azure, closing)


@pytest.fixture
def running(clock: VirtualClock, azurite: Azurite, tmp_path: Path) -> Iterator[LocalAzure]:
    """Return a deployed tenant whose function app has a small app's code."""
    (tmp_path / "greeter.py").write_text(APP, encoding="utf-8")

    def start(environment: Mapping[str, str]) -> AzureWorker:
        return AzureWorker("greeter", environment, task_root=tmp_path)

    with LocalAzure(clock=clock, azurite=azurite, start=start) as cloud:
        yield cloud


def test_functions_run_behind_their_address_with_their_key(running: LocalAzure, closing: ExitStack) -> None:
    """The functions are listed; one answers with the key that Resource Manager gives alone, and its log is searched."""
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


def test_new_settings_reach_the_functions_and_can_stop_the_timer(running: LocalAzure, closing: ExitStack) -> None:
    """Settings are replaced whole; the functions see them at once, and a disabled timer does not tick."""
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


def test_an_app_without_code_has_no_functions(azure: LocalAzure, arm: Arm) -> None:
    """Where nothing was published the app is there, lists nothing and answers 404."""
    assert arm("GET", azure.site.id)["properties"]["state"] == "Running"
    assert arm("GET", f"{azure.site.id}/functions")["value"] == []
    assert requests.get(f"{azure.environment()['FUNCTION_ENDPOINT']}/api/status", timeout=HANG_S).status_code == 404


def test_the_functions_roles_are_those_of_the_module(azure: LocalAzure, arm: Arm) -> None:
    """Its custom role at the management group holds the file's actions; without keys it may give roles, else not."""
    grants = yaml.safe_load(RIGHTS.read_text(encoding="utf-8"))["function"]
    wanted = {action for one in grants if one["scope"] == "management_group" for action in one["actions"]}
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    role = arm("GET", f"{root}/providers/Microsoft.Authorization/roleDefinitions/{FUNCTION_ROLE}")
    assert set(role["properties"]["permissions"][0]["actions"]) == wanted
    write = "Microsoft.Authorization/roleAssignments/write"
    assert not azure.world.rights.allows(azure.principal, write, azure.destinations[0].id)


def test_what_is_denied_shows_in_the_rights_and_is_refused(azure: LocalAzure, arm: Arm) -> None:
    """An action denied to the operator is missing from its permissions, and refused until it is allowed again."""
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


def test_an_export_by_key_needs_write_permission_on_the_account(azure: LocalAzure, sdk: Sdk) -> None:
    """A caller who may write exports, but not the storage account that one names, is refused; both are logged."""
    azure.deny("Microsoft.Storage/storageAccounts/write", azure.principal)
    status, code, message = refusal(sdk.create)
    assert (status, code, azure.destinations[0].id in message) == (403, "LinkedAuthorizationFailed", True)
    assert "Microsoft.Storage/storageAccounts/write" in azure.calls.actions(azure.principal)
    azure.allow(azure.principal)
    sdk.create()


def test_accounts_are_made_under_free_names_only(azure: LocalAzure, arm: Arm) -> None:
    """The name of an account is checked and refused as in the whole of Azure; a new one takes containers."""
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


def test_everything_deployed_is_listed_by_its_tag(azure: LocalAzure, arm: Arm) -> None:
    """Resources are found by type and by tag; a kept one is gone once it is deleted."""
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


def test_tailpipes_application_is_in_the_directory(azure: LocalAzure, clock: VirtualClock, closing: ExitStack) -> None:
    """Graph shows the application, whose rights are exactly two, to people with a role; a bare tenant has none."""
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
    """A container that is deleted through Resource Manager is gone for blob clients too."""
    path = f"{azure.destinations[0].id}/blobServices/default/containers/{CONTAINER}"
    arm("DELETE", path)
    arm("GET", path, expected=404)
    assert not closing.enter_context(azure.blob_client()).get_container_client(CONTAINER).exists()
