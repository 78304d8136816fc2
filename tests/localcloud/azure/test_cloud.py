"""The local Azure as a whole: settings, processes, control actions and closing."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
from contextlib import ExitStack
from contextlib import closing as closing_of
from pathlib import Path

import pytest
from azure.identity import ManagedIdentityCredential
from azure.storage.blob import BlobServiceClient

from localcloud.azure.cloud import KEY, LocalAzure
from localcloud.azure.platform.deployment import CONTAINER, STATE_CONTAINER
from localcloud.azure.services.azurite import Azurite, AzuriteError
from localcloud.azure.state import Behavior
from localcloud.common.local_cloud import serve
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S
from tests.localcloud.azure.helpers import Sdk, refusal, scope
from tests.localcloud.common.serving import serving
from tests.localcloud.control_client import ControlClient, ControlError


def test_environment_describes_the_deployment(azure: LocalAzure, closing: ExitStack) -> None:
    """The values lead to Resource Manager and both storage accounts, whose containers exist."""
    environment = azure.environment()
    assert environment["ARM_ENDPOINT"] == azure.endpoint
    assert environment["DESTINATION"] == azure.destinations[0].id
    for account, container in ((azure.destinations[0].name, CONTAINER), (azure.host_account.name, STATE_CONTAINER)):
        url = f"{environment['BLOB_ENDPOINT']}/{account}"
        credential = {"account_name": account, "account_key": environment["BLOB_KEY"]}
        client = closing.enter_context(BlobServiceClient(url, credential=credential))
        assert client.get_container_client(container).exists()
    assert len(list(Sdk(azure, closing, environment["ARM_TOKEN"]).subscriptions.subscriptions.list())) == 3


def test_bare_tenant_has_no_deployment(clock: VirtualClock, closing: ExitStack) -> None:
    """It exports no settings, has no container, and the function has no permission."""
    cloud = closing.enter_context(LocalAzure(clock=clock, bare=True))
    assert "DESTINATION" not in cloud.environment()
    client = closing.enter_context(cloud.blob_client())
    assert not client.get_container_client(CONTAINER).exists()
    assert refusal(Sdk(cloud, closing).exports.list, scope(cloud))[:2] == (403, "AuthorizationFailed")


def test_azure_identity_finds_the_managed_identity(
    azure: LocalAzure, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two variables identify the endpoint, and the token is the function's."""
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.setenv(name, azure.environment()[name])
    credential = closing.enter_context(ManagedIdentityCredential())
    token = credential.get_token("https://management.azure.com/.default").token
    Sdk(azure, closing, token).exports.list(scope(azure))
    assert azure.calls.count(app=azure.principal) == 1


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        pytest.param("expired", "ExpiredAuthenticationToken", id="expired"),
        pytest.param("wrong-tenant", "InvalidAuthenticationTokenTenant", id="another tenant's"),
    ],
)
def test_expired_or_foreign_token_is_401(azure: LocalAzure, sdk: Sdk, mode: str, code: str) -> None:
    """The error has the documented code, and a new token is accepted."""
    azure.break_identity(mode)
    assert refusal(sdk.exports.list, scope(azure))[:2] == (401, code)
    azure.break_identity("well")
    assert sdk.exports.list(scope(azure)).value == []


def test_request_without_a_token_is_refused(azure: LocalAzure, closing: ExitStack) -> None:
    """This holds for every request."""
    assert refusal(Sdk(azure, closing, token=" ").exports.list, scope(azure))[:2] == (401, "AuthenticationFailed")


def test_control_actions_work_over_http(azure: LocalAzure) -> None:
    """Another process changes the same state; an unknown or invalid action is refused."""
    remote = ControlClient(azure.endpoint)
    joined = remote.join_subscription(name="from afar")
    assert joined in azure.subscription_ids
    assert remote.advance(seconds=60) == "2026-01-05T00:01:00Z"
    for action, arguments in (("no_such", {}), ("suspend_subscription", {"subscription": "x"}), ("deliver", {"x": 1})):
        with pytest.raises(ControlError):
            remote.act(action, arguments)
    with pytest.raises(ValueError, match="not a local cloud"):
        ControlClient("https://management.azure.com")


def test_control_actions_refuse_browsers(azure: LocalAzure) -> None:
    """A web page can post to 127.0.0.1, and must change nothing."""
    connection = http.client.HTTPConnection(azure.endpoint.removeprefix("http://"), timeout=HANG_S)
    with closing_of(connection):
        body = json.dumps({"name": "from a page"})
        connection.request("POST", "/_local/join_subscription", body, {"Origin": "https://example.com"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (403, {"error": "requests from browsers are refused"})
    assert len(azure.subscription_ids) == len(azure.subscriptions()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_the_environment_and_exits_cleanly(number: signal.Signals) -> None:
    """It answers on the printed port, and exits with 0 on either signal."""
    with serving("azure.cloud.LocalAzure(subscriptions=2)") as (process, values):
        assert len(ControlClient(values["ARM_ENDPOINT"]).subscriptions()) == 2
        blob_port = int(values["BLOB_ENDPOINT"].rpartition(":")[2])
        process.send_signal(number)
        assert process.wait(HANG_S) == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", blob_port)):
        pass


def test_port_in_use_is_an_error(azure: LocalAzure) -> None:
    """Serving on it raises OSError and prints nothing."""
    out = io.StringIO()
    with pytest.raises(OSError, match="in use"):
        serve(LocalAzure(subscriptions=1, port=int(azure.endpoint.rpartition(":")[2])), out=out)
    assert out.getvalue() == ""


def test_missing_node_or_azurite_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    with pytest.raises(AzuriteError, match="make venv"):
        Azurite({"account": KEY}, root=tmp_path)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(AzuriteError, match=r"Node\.js 20"):
        Azurite({"account": KEY})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"agreements": {"gold": 1}}, "agreements gold", id="agreement"),
        pytest.param({"subscriptions": 1, "storage_accounts": 2}, "cannot hold 2 storage accounts", id="accounts"),
        pytest.param({"subscriptions": 0}, "0 subscriptions", id="no subscriptions"),
    ],
)
def test_invalid_settings_are_refused(options: dict[str, object], words: str) -> None:
    """Nothing is started."""
    with pytest.raises(ValueError, match=words):
        LocalAzure(**options)  # type: ignore[arg-type]  # deliberately wrong


def test_cloud_without_a_clock_uses_real_time(closing: ExitStack) -> None:
    """Executions deliver once they are settled."""
    cloud = closing.enter_context(LocalAzure(subscriptions=1, behavior=Behavior()))
    cloud.create_exports()
    assert cloud.deliver() == 1
    with pytest.raises(RuntimeError, match="system clock cannot be advanced"):
        cloud.advance(1)


def test_storage_accounts_through_resource_manager(azure: LocalAzure, closing: ExitStack) -> None:
    """Shared-key access can be read and changed, and a container is created once; an unknown account is 404."""
    admin = Sdk(azure, closing, token="whoever-runs-this")
    resources = admin.resources(azure.subscription_ids[0]).resources
    account = azure.destinations[0]
    version = "2023-05-01"
    assert resources.get_by_id(account.id, api_version=version).properties["allowSharedKeyAccess"] is True
    change = {"properties": {"allowSharedKeyAccess": False}}
    resources.begin_update_by_id(account.id, change, api_version=version).result()
    assert account.shared_key is False
    path = f"{account.id}/blobServices/default/containers/more"
    assert refusal(resources.get_by_id, path, api_version=version)[:2] == (404, "ContainerNotFound")
    for _ in range(2):
        resources.begin_create_or_update_by_id(path, {}, api_version=version).result()
    assert admin.blobs.get_container_client("more").exists()
    assert refusal(resources.get_by_id, account.id + "x", api_version=version)[:2] == (404, "ResourceNotFound")


def test_resource_groups_can_be_listed_and_created(azure: LocalAzure, closing: ExitStack) -> None:
    """An unknown group is 404."""
    groups = Sdk(azure, closing, token="whoever-runs-this").resources(azure.subscription_ids[0]).resource_groups
    groups.create_or_update("mine", {"location": "westeurope"})
    assert {one.name for one in groups.list()} == {"tailpipe-dataexport", "mine"}
    assert refusal(groups.get, "missing")[:2] == (404, "ResourceGroupNotFound")


def test_removed_subscription_is_not_found(azure: LocalAzure, sdk: Sdk) -> None:
    """It is not listed, and its exports are gone."""
    sdk.create(2)
    gone = azure.subscription_ids[2]
    azure.remove_subscription(gone)
    assert gone not in azure.subscriptions()
    assert azure.exports() == []
    assert refusal(sdk.exports.list, f"/subscriptions/{gone}")[:2] == (404, "SubscriptionNotFound")
