"""What Tailpipe's enterprise application can and cannot read on Azure, with the real SDK against the local Azure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from azure_function.clients import drop_clients
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER, TAILPIPE_APP
from localcloud.azure.services.directory import made_up_id
from tests.azure_function.support import local_azure, run
from tests.e2e.azure_rights import Used, differences, granted, used
from tests.readers.azure import MANAGEMENT, STORAGE, Reader, Tokens, blob_service

MISMATCH, FAILED, UNAUTHENTICATED = (
    "AuthorizationPermissionMismatch",
    "AuthorizationFailed",
    "InvalidAuthenticationInfo",
)


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant after a complete run and one delivery, with a foreign container next to ours."""
    with local_azure(subscriptions=3) as cloud:
        run(cloud)
        cloud.deliver()
        with cloud.blob_client() as client:
            client.create_container("others").upload_blob("private", b"")
        yield cloud
        drop_clients()


@pytest.fixture(scope="module")
def closing() -> Iterator[ExitStack]:
    """Close what the tests open."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def reader(azure: LocalAzure, closing: ExitStack) -> Reader:
    """Return Tailpipe's reader, connected."""
    return connected(azure, closing, tailpipe(azure))


@pytest.fixture(scope="module")
def reading(azure: LocalAzure, reader: Reader) -> tuple[Used, list[dict[str, str]]]:
    """Return the permissions that Tailpipe used to read everything it needs, and the rows."""
    azure.world.rights.checks.clear()
    rows = list(reader.rows())
    assert reader.metrics() == ["UsedCapacity"]
    assert set(reader.subscriptions()) == set(azure.subscription_ids)
    return used(azure, principal(azure)), rows


def principal(azure: LocalAzure) -> str:
    """Return the object id of Tailpipe's enterprise application."""
    return azure.world.service_principals[TAILPIPE_APP]


def tailpipe(azure: LocalAzure) -> Tokens:
    """Return a function that gets Tailpipe's tokens from the customer's tenant."""
    return partial(azure.app_token, TAILPIPE_APP)


def connected(azure: LocalAzure, closing: ExitStack, tokens: Tokens) -> Reader:
    """Return a reader with `tokens` and the part of the onboarding document that it needs."""
    account = azure.destinations[0]
    storage = {"accountResourceId": account.id, "container": "dataexport", "blobEndpoint": endpoint(azure)}
    made = Reader(azure.endpoint, tokens, {"storage": storage})
    closing.callback(made.close)
    return made


def endpoint(azure: LocalAzure, account: str = "") -> str:
    """Return the blob endpoint of a storage account, the first destination's by default."""
    return f"{azure.keyless()['BLOB_ENDPOINT']}/{account or azure.destinations[0].name}"


def refused(call: Callable[[], object]) -> str:
    """Return the error code of a refused call."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error: Any = caught.value
    code = getattr(error, "error_code", None) or getattr(error.error, "code", "")
    return str(getattr(code, "value", code))


def test_tailpipe_reads_manifests_rows_and_metrics(
    azure: LocalAzure, reader: Reader, reading: tuple[Used, list[dict[str, str]]]
) -> None:
    """The reader finds every subscription's rows through manifests, and can read metrics."""
    assert len(reader.manifests()) == len(azure.subscription_ids)
    assert {row["SubscriptionId"] for row in reading[1]} == set(azure.subscription_ids)


def test_connector_is_granted_exactly_the_permissions_it_uses(reading: tuple[Used, list[dict[str, str]]]) -> None:
    """Both roles that rights.yaml gives Tailpipe are used at their scopes, and no other role is needed."""
    assert differences(granted("connector", False), reading[0], {}, "Tailpipe") == []


def test_other_applications_cannot_read_the_data(azure: LocalAzure, closing: ExitStack) -> None:
    """Another application of the tenant is refused, and so is Tailpipe's application with another tenant's token."""
    azure.world.service_principals["another app"] = made_up_id("another app")
    stranger = connected(azure, closing, partial(azure.app_token, "another app"))
    assert refused(stranger.manifests) == MISMATCH
    assert refused(stranger.metrics) == FAILED
    assert stranger.subscriptions() == []
    abroad = connected(azure, closing, partial(azure.app_token, TAILPIPE_APP, tenant=made_up_id("another tenant")))
    assert refused(abroad.manifests) == UNAUTHENTICATED
    assert refused(abroad.metrics) == "InvalidAuthenticationTokenTenant"


def test_token_is_valid_for_its_audience_only(azure: LocalAzure, closing: ExitStack) -> None:
    """Storage and Resource Manager refuse each other's tokens and those for Microsoft Graph."""
    swapped = {MANAGEMENT: STORAGE, STORAGE: MANAGEMENT}
    crossed = connected(azure, closing, lambda audience: tailpipe(azure)(swapped[audience]))
    graph = connected(azure, closing, lambda _: tailpipe(azure)("https://graph.microsoft.com"))
    for one in (crossed, graph):
        assert refused(one.manifests) == UNAUTHENTICATED
        assert refused(one.metrics) == "InvalidAuthenticationToken"


def test_anonymous_access_is_refused(azure: LocalAzure, closing: ExitStack) -> None:
    """No container is public."""
    anonymous = closing.enter_context(BlobServiceClient(endpoint(azure), retry_total=0))
    container = anonymous.get_container_client("dataexport")
    assert refused(lambda: list(container.list_blobs())) == UNAUTHENTICATED


def test_state_reports_and_code_cannot_be_read(azure: LocalAzure, reader: Reader, closing: ExitStack) -> None:
    """Tailpipe can neither list nor read the function's state, its reports and its package."""
    host = azure.host_account.name
    with azure.blob_client(host) as own:
        kept = own.get_container_client(STATE_CONTAINER)
        kept.upload_blob("deliveries.bin", b"written by a later run", overwrite=True)
        names = list(kept.list_blob_names())
    assert {name.partition("/")[0] for name in names} == {"known_subscriptions.json", "deliveries.bin", "runs"}
    theirs = closing.enter_context(blob_service(endpoint(azure, host), tailpipe(azure)))
    for container in (STATE_CONTAINER, "app-package"):
        assert refused(partial(list, theirs.get_container_client(container).list_blobs())) == MISMATCH
    state = theirs.get_container_client(STATE_CONTAINER)
    for name in names:
        assert refused(partial(state.download_blob, name)) == MISMATCH


def test_other_containers_cannot_be_read(reader: Reader) -> None:
    """Only the export container is readable. Monitoring Reader lists the other containers, but none of their data."""
    others = reader.storage.get_container_client("others")
    assert refused(lambda: list(others.list_blobs())) == MISMATCH
    assert refused(lambda: others.download_blob("private")) == MISMATCH
    assert {one.name for one in reader.storage.list_containers()} == {"dataexport", "others"}


def test_nothing_can_be_written(azure: LocalAzure, reader: Reader) -> None:
    """No blob or container can be written, locked or deleted, and none has changed."""
    name = reader.manifests()[0]
    blob, new = reader.container.get_blob_client(name), reader.container.get_blob_client("tailpipe/new")
    before = reader.read(name)
    attempts: list[Callable[[], object]] = [
        partial(new.upload_blob, b""),
        partial(blob.upload_blob, b"", overwrite=True),
        blob.delete_blob,
        blob.create_snapshot,
        partial(blob.set_blob_metadata, {"a": "b"}),
        partial(blob.set_blob_tags, {"a": "b"}),
        partial(blob.set_standard_blob_tier, "Archive"),
        partial(new.create_append_blob),
        partial(BlobLeaseClient(blob).acquire, 15),
        partial(reader.container.set_container_metadata, {"a": "b"}),
        reader.container.delete_container,
        partial(reader.storage.create_container, "new"),
    ]
    assert [refused(attempt) for attempt in attempts] == [MISMATCH] * len(attempts)
    assert reader.read(name) == before
    assert len(reader.manifests()) == len(azure.subscription_ids)


def test_resource_manager_refuses_writes_and_secrets(azure: LocalAzure, reader: Reader) -> None:
    """Changes of exports, roles, accounts and containers are refused, as are reads of keys and settings."""
    account, host, site = azure.destinations[0].id, azure.host_account.id, azure.site.id
    (export,) = azure.exports(azure.subscription_ids[0])
    role = {"properties": {"roleDefinitionId": "/x/8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "principalId": str(uuid4())}}
    assigned = "providers/Microsoft.Authorization/roleAssignments"
    calls = [
        ("PUT", export["id"], "2025-03-01", {"properties": export["properties"]}),
        ("DELETE", export["id"], "2025-03-01", None),
        ("POST", f"{export['id']}/run", "2025-03-01", None),
        ("PUT", f"{account}/{assigned}/{uuid4()}", "2022-04-01", role),
        ("PATCH", account, "2023-05-01", {"properties": {"allowSharedKeyAccess": True}}),
        ("DELETE", f"{account}/blobServices/default/containers/dataexport", "2023-05-01", None),
        ("POST", f"{account}/listKeys", "2023-05-01", None),
        ("POST", f"{host}/listKeys", "2023-05-01", None),
        ("POST", f"{site}/config/appsettings/list", "2023-12-01", None),
        ("POST", f"{site}/functions/reconcile_http/listkeys", "2023-12-01", None),
        (
            "POST",
            f"/subscriptions/{azure.subscription_ids[0]}/providers/Microsoft.Storage/register",
            "2022-09-01",
            None,
        ),
    ]
    for one in calls:
        assert refused(partial(reader.call, *one)) == FAILED, one[:2]


def test_account_keys_cannot_be_used(azure: LocalAzure, reader: Reader, closing: ExitStack) -> None:
    """The state's account refuses every key, the destination a wrong key. Tailpipe cannot get a user delegation key."""
    host, account = azure.host_account, azure.destinations[0]
    right = AzureNamedKeyCredential(host.name, host.key)
    own = closing.enter_context(BlobServiceClient(endpoint(azure, host.name), credential=right, retry_total=0))
    assert refused(lambda: list(own.list_containers())) == "KeyBasedAuthenticationNotPermitted"
    wrong = AzureNamedKeyCredential(account.name, "bm8ga2V5")
    guessed = closing.enter_context(BlobServiceClient(endpoint(azure), credential=wrong, retry_total=0))
    assert refused(lambda: list(guessed.list_containers())) == "AuthorizationFailure"
    now = azure.clock.now()
    assert refused(lambda: reader.storage.get_user_delegation_key(now, now.replace(hour=23))) == MISMATCH


def test_access_ends_when_the_role_is_removed(azure: LocalAzure, closing: ExitStack) -> None:
    """Without the role on the container, the next read is refused; the other role gives no access to data."""
    rights = azure.world.rights
    held = next(one for one in rights.of(principal(azure)) if one.scope.endswith("/containers/dataexport"))
    again = connected(azure, closing, tailpipe(azure))
    rights.remove(held.id)
    try:
        assert refused(again.manifests) == MISMATCH
        assert again.metrics() == ["UsedCapacity"]
    finally:
        rights.assign(held.scope, held.principal, held.role, held.id)
    assert again.manifests()
