"""Blob storage for callers with tokens, through the SDK."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.caller import token_for
from localcloud.azure.platform.deployment import STATE_CONTAINER
from tests.readers.azure import STORAGE, blob_service


@pytest.fixture
def state(azure: LocalAzure, closing: ExitStack) -> ContainerClient:
    """Return the function's state container with the function's identity."""
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = azure.keyless()["STATE_ACCOUNT"]
    return closing.enter_context(blob_service(url, lambda _: token)).get_container_client(STATE_CONTAINER)


def code(call: Callable[[], object]) -> tuple[int, str]:
    """Return status and code of the error that a call raises."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error: Any = caught.value
    return error.status_code, str(getattr(error.error_code, "value", error.error_code))


def test_downloaded_blob_equals_the_uploaded_one(state: ContainerClient) -> None:
    """Data over a megabyte, type, properties and unusual names pass unchanged."""
    data = bytes(range(256)) * 20_000
    for name in ("plain.json", "deep/er/näme with (signs)+&=%25.json"):
        blob = state.get_blob_client(name)
        blob.upload_blob(data, metadata={"own": "yes"})
        assert blob.download_blob().readall() == data
        properties = blob.get_blob_properties()
        assert (properties.size, properties.metadata) == (len(data), {"own": "yes"})
    assert sorted(state.list_blob_names()) == ["deep/er/näme with (signs)+&=%25.json", "plain.json"]
    pages = list(state.list_blobs(results_per_page=1).by_page())
    assert len(pages) == 2
    assert state.get_blob_client("plain.json").download_blob(offset=254, length=4).readall() == bytes([254, 255, 0, 1])


def test_conditional_writes_are_checked(state: ContainerClient) -> None:
    """Azurite evaluates If-Match and If-None-Match, and its errors are passed on."""
    blob = state.get_blob_client("state")
    first = blob.upload_blob(b"1")["etag"]
    with pytest.raises(ResourceExistsError):
        blob.upload_blob(b"2")
    assert blob.upload_blob(b"2", overwrite=True, etag=first, match_condition=MatchConditions.IfNotModified)["etag"]
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"3", overwrite=True, etag=first, match_condition=MatchConditions.IfNotModified)
    blob.delete_blob()
    with pytest.raises(ResourceNotFoundError):
        blob.download_blob()


def test_call_log_has_the_data_action_and_resource_id(azure: LocalAzure, state: ContainerClient) -> None:
    """Denied calls are logged too."""
    azure.calls.clear()
    state.get_blob_client("a/b").upload_blob(b"")
    list(state.list_blobs())
    response = [(call.action.rsplit("/", 2)[1:], call.resource, call.status) for call in azure.calls]
    place = f"{azure.host_account.id}/blobServices/default/containers/{STATE_CONTAINER}"
    assert response == [(["blobs", "write"], f"{place}/blobs/a/b", 201), (["blobs", "read"], place, 200)]
    assert {call.app for call in azure.calls} == {azure.principal}


def test_call_without_permission_is_refused(azure: LocalAzure, closing: ExitStack) -> None:
    """In the destination, the function can read and create the container but not write blobs."""
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{azure.destinations[0].name}"
    container = closing.enter_context(blob_service(url, lambda _: token)).get_container_client("dataexport")
    assert list(container.list_blobs()) == []
    assert code(lambda: container.upload_blob("new", b"")) == (403, "AuthorizationPermissionMismatch")
    assert code(container.delete_container) == (403, "AuthorizationPermissionMismatch")
    assert code(container.create_container) == (409, "ContainerAlreadyExists")


def test_invalid_callers_get_their_documented_errors(azure: LocalAzure, closing: ExitStack) -> None:
    """An expired or missing token is 401, a missing account 404, a missing permission 403."""
    gate = azure.keyless()["BLOB_ENDPOINT"]

    def service(token: str, account: str = azure.host_account.name) -> BlobServiceClient:
        return closing.enter_context(blob_service(f"{gate}/{account}", lambda _: token))

    good = token_for(azure.tenant, azure.principal, STORAGE)
    old = token_for(azure.tenant, azure.principal, STORAGE, life_s=-60)
    assert code(lambda: list(service(old).list_containers())) == (401, "InvalidAuthenticationInfo")
    assert code(lambda: list(service("").list_containers())) == (401, "InvalidAuthenticationInfo")
    assert code(lambda: list(service(good, "nobodys").list_containers())) == (404, "ResourceNotFound")
    assert code(service(good).get_account_information) == (403, "AuthorizationFailure")


def test_shared_key_is_accepted_unless_disabled(azure: LocalAzure, closing: ExitStack) -> None:
    """Calls signed with the key pass unchanged."""
    account = azure.destinations[0]
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{account.name}"
    given = {"account_name": account.name, "account_key": account.key}
    client = closing.enter_context(BlobServiceClient(url, credential=given, retry_total=0))
    assert [one.name for one in client.list_containers()] == ["dataexport"]
    azure.set_shared_key(False)
    assert code(lambda: list(client.list_containers())) == (403, "KeyBasedAuthenticationNotPermitted")


def test_fault_applies_to_storage(azure: LocalAzure, state: ContainerClient) -> None:
    """The error has storage's format."""
    azure.faults.add("*/blobs/read", "ServerBusy", status=503)
    assert code(lambda: list(state.list_blobs())) == (503, "ServerBusy")
    assert list(state.list_blobs()) == []
