"""Blob storage for callers with tokens, through the real SDK."""

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
    """Return the function's own container, as its identity sees it."""
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = azure.keyless()["STATE_ACCOUNT"]
    return closing.enter_context(blob_service(url, lambda _: token)).get_container_client(STATE_CONTAINER)


def code(call: Callable[[], object]) -> tuple[int, str]:
    """Return the status and code of the error that a call ends with."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error: Any = caught.value
    return error.status_code, str(getattr(error.error_code, "value", error.error_code))


def test_blobs_come_back_as_they_went(state: ContainerClient) -> None:
    """Data, type, properties and names with unusual characters pass unchanged, more than a megabyte too."""
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


def test_conditional_writes_hold(state: ContainerClient) -> None:
    """If-Match and If-None-Match are Azurite's to judge, and their refusals come through with their codes."""
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


def test_each_call_is_logged_with_its_right(azure: LocalAzure, state: ContainerClient) -> None:
    """The log names the data action and the blob's resource id, for refused calls as well."""
    azure.calls.clear()
    state.get_blob_client("a/b").upload_blob(b"")
    list(state.list_blobs())
    response = [(call.action.rsplit("/", 2)[1:], call.resource, call.status) for call in azure.calls]
    place = f"{azure.host_account.id}/blobServices/default/containers/{STATE_CONTAINER}"
    assert response == [(["blobs", "write"], f"{place}/blobs/a/b", 201), (["blobs", "read"], place, 200)]
    assert {call.app for call in azure.calls} == {azure.principal}


def test_what_is_not_held_is_refused(azure: LocalAzure, closing: ExitStack) -> None:
    """On the destination the function reads and makes the container, and writes no blob."""
    token = token_for(azure.tenant, azure.principal, STORAGE)
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{azure.destinations[0].name}"
    container = closing.enter_context(blob_service(url, lambda _: token)).get_container_client("dataexport")
    assert list(container.list_blobs()) == []
    assert code(lambda: container.upload_blob("new", b"")) == (403, "AuthorizationPermissionMismatch")
    assert code(container.delete_container) == (403, "AuthorizationPermissionMismatch")
    assert code(container.create_container) == (409, "ContainerAlreadyExists")


def test_bad_callers_get_different_errors(azure: LocalAzure, closing: ExitStack) -> None:
    """An expired token and none at all are 401, an account that is not there 404, an operation without a right 403."""
    gate = azure.keyless()["BLOB_ENDPOINT"]

    def service(token: str, account: str = azure.host_account.name) -> BlobServiceClient:
        return closing.enter_context(blob_service(f"{gate}/{account}", lambda _: token))

    good = token_for(azure.tenant, azure.principal, STORAGE)
    old = token_for(azure.tenant, azure.principal, STORAGE, life_s=-60)
    assert code(lambda: list(service(old).list_containers())) == (401, "InvalidAuthenticationInfo")
    assert code(lambda: list(service("").list_containers())) == (401, "InvalidAuthenticationInfo")
    assert code(lambda: list(service(good, "nobodys").list_containers())) == (404, "ResourceNotFound")
    assert code(service(good).get_account_information) == (403, "AuthorizationFailure")


def test_a_key_opens_an_account_that_takes_keys(azure: LocalAzure, closing: ExitStack) -> None:
    """Calls signed by the key pass as they are; they do not where keys are off."""
    account = azure.destinations[0]
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{account.name}"
    given = {"account_name": account.name, "account_key": account.key}
    client = closing.enter_context(BlobServiceClient(url, credential=given, retry_total=0))
    assert [one.name for one in client.list_containers()] == ["dataexport"]
    azure.set_shared_key(False)
    assert code(lambda: list(client.list_containers())) == (403, "KeyBasedAuthenticationNotPermitted")


def test_faults_reach_storage_too(azure: LocalAzure, state: ContainerClient) -> None:
    """An ordered fault answers in storage's own form."""
    azure.faults.add("*/blobs/read", "ServerBusy", status=503)
    assert code(lambda: list(state.list_blobs())) == (503, "ServerBusy")
    assert list(state.list_blobs()) == []
