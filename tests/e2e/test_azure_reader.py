"""What Tailpipe may read on Azure as its enterprise application, and what nobody may: the real SDK and local Azure."""

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

MISMATCH, FAILED, NOBODY = "AuthorizationPermissionMismatch", "AuthorizationFailed", "InvalidAuthenticationInfo"


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant that a run covered, with one delivery, and with somebody else's container beside ours."""
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
    """Return what Tailpipe has used and the rows that it got by reading all it is meant to read."""
    azure.world.rights.checks.clear()
    rows = list(reader.rows())
    assert reader.metrics() == ["UsedCapacity"]
    assert set(reader.subscriptions()) == set(azure.subscription_ids)
    return used(azure, principal(azure)), rows


def principal(azure: LocalAzure) -> str:
    """Return the object id of Tailpipe's enterprise application."""
    return azure.world.service_principals[TAILPIPE_APP]


def tailpipe(azure: LocalAzure) -> Tokens:
    """Return how Tailpipe gets its tokens from the customer's tenant."""
    return partial(azure.app_token, TAILPIPE_APP)


def connected(azure: LocalAzure, closing: ExitStack, tokens: Tokens) -> Reader:
    """Return a reader with these tokens and the part of the onboarding document that it needs."""
    account = azure.destinations[0]
    storage = {"accountResourceId": account.id, "container": "dataexport", "blobEndpoint": endpoint(azure)}
    made = Reader(azure.endpoint, tokens, {"storage": storage})
    closing.callback(made.close)
    return made


def endpoint(azure: LocalAzure, account: str = "") -> str:
    """Return the blob endpoint of a storage account, the first destination's by default."""
    return f"{azure.keyless()['BLOB_ENDPOINT']}/{account or azure.destinations[0].name}"


def refused(call: Callable[[], object]) -> str:
    """Return the code with which a call is refused."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error: Any = caught.value
    code = getattr(error, "error_code", None) or getattr(error.error, "code", "")
    return str(getattr(code, "value", code))


def test_tailpipe_reads_manifests_data_and_metrics(
    azure: LocalAzure, reader: Reader, reading: tuple[Used, list[dict[str, str]]]
) -> None:
    """Every delivered row is read by way of the manifests, for each subscription, and metrics are answered."""
    assert len(reader.manifests()) == len(azure.subscription_ids)
    assert {row["SubscriptionId"] for row in reading[1]} == set(azure.subscription_ids)


def test_the_connectors_rights_are_exactly_those_it_uses(reading: tuple[Used, list[dict[str, str]]]) -> None:
    """Both roles that rights.yaml gives Tailpipe are used, each at its place, and nothing else is needed."""
    assert differences(granted("connector", False), reading[0], {}, "Tailpipe") == []


def test_the_data_are_closed_to_everybody_else(azure: LocalAzure, closing: ExitStack) -> None:
    """Another application of the tenant is refused; one that Tailpipe's own name bears elsewhere is nobody here."""
    azure.world.service_principals["another app"] = made_up_id("another app")
    stranger = connected(azure, closing, partial(azure.app_token, "another app"))
    assert refused(stranger.manifests) == MISMATCH
    assert refused(stranger.metrics) == FAILED
    assert stranger.subscriptions() == []
    abroad = connected(azure, closing, partial(azure.app_token, TAILPIPE_APP, tenant=made_up_id("another tenant")))
    assert refused(abroad.manifests) == NOBODY
    assert refused(abroad.metrics) == "InvalidAuthenticationTokenTenant"


def test_a_token_opens_only_what_it_was_issued_for(azure: LocalAzure, closing: ExitStack) -> None:
    """Storage takes no token of Resource Manager's, Resource Manager none of storage's, and nobody one of Graph's."""
    swapped = {MANAGEMENT: STORAGE, STORAGE: MANAGEMENT}
    crossed = connected(azure, closing, lambda audience: tailpipe(azure)(swapped[audience]))
    graph = connected(azure, closing, lambda _: tailpipe(azure)("https://graph.microsoft.com"))
    for one in (crossed, graph):
        assert refused(one.manifests) == NOBODY
        assert refused(one.metrics) == "InvalidAuthenticationToken"


def test_without_a_token_nothing_is_shown(azure: LocalAzure, closing: ExitStack) -> None:
    """A caller who shows nothing is asked who he is: no container is public."""
    anonymous = closing.enter_context(BlobServiceClient(endpoint(azure), retry_total=0))
    container = anonymous.get_container_client("dataexport")
    assert refused(lambda: list(container.list_blobs())) == NOBODY


def test_state_reports_and_code_cannot_be_read(azure: LocalAzure, reader: Reader, closing: ExitStack) -> None:
    """The function's memory and its reports exist, and Tailpipe is refused them, listed or by name."""
    host = azure.host_account.name
    with azure.blob_client(host) as own:
        kept = own.get_container_client(STATE_CONTAINER)
        kept.upload_blob("deliveries.bin", b"as a later run leaves it", overwrite=True)
        names = list(kept.list_blob_names())
    assert {name.partition("/")[0] for name in names} == {"known_subscriptions.json", "deliveries.bin", "runs"}
    theirs = closing.enter_context(blob_service(endpoint(azure, host), tailpipe(azure)))
    for container in (STATE_CONTAINER, "app-package"):
        assert refused(partial(list, theirs.get_container_client(container).list_blobs())) == MISMATCH
    state = theirs.get_container_client(STATE_CONTAINER)
    for name in names:
        assert refused(partial(state.download_blob, name)) == MISMATCH


def test_other_containers_are_closed(reader: Reader) -> None:
    """On the destination only the export container is open. That others exist may be seen: Monitoring Reader reads the
    description of every resource, and none of its data.
    """
    others = reader.storage.get_container_client("others")
    assert refused(lambda: list(others.list_blobs())) == MISMATCH
    assert refused(lambda: others.download_blob("private")) == MISMATCH
    assert {one.name for one in reader.storage.list_containers()} == {"dataexport", "others"}


def test_nothing_can_be_written(azure: LocalAzure, reader: Reader) -> None:
    """No blob and no container can be written, locked or deleted, and all is as it was."""
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


def test_resource_manager_takes_no_write_and_tells_no_secret(azure: LocalAzure, reader: Reader) -> None:
    """Exports, rights, accounts, settings and keys: each change and each secret is refused."""
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


def test_keys_open_nothing(azure: LocalAzure, reader: Reader, closing: ExitStack) -> None:
    """The state's account takes no key at all, the destination no wrong one, and no key is made of a role."""
    host, account = azure.host_account, azure.destinations[0]
    right = AzureNamedKeyCredential(host.name, host.key)
    own = closing.enter_context(BlobServiceClient(endpoint(azure, host.name), credential=right, retry_total=0))
    assert refused(lambda: list(own.list_containers())) == "KeyBasedAuthenticationNotPermitted"
    wrong = AzureNamedKeyCredential(account.name, "bm8ga2V5")
    guessed = closing.enter_context(BlobServiceClient(endpoint(azure), credential=wrong, retry_total=0))
    assert refused(lambda: list(guessed.list_containers())) == "AuthorizationFailure"
    now = azure.clock.now()
    assert refused(lambda: reader.storage.get_user_delegation_key(now, now.replace(hour=23))) == MISMATCH


def test_access_ends_with_its_role(azure: LocalAzure, closing: ExitStack) -> None:
    """When the role on the container is taken back, the next read is refused; the other role opens no data."""
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
