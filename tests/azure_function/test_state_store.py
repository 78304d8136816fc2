"""The state blob: migration from the legacy runbook, damaged and foreign states, and the lock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.azure.cloud import LocalAzure
from shared.errors import AnotherRun
from shared.state.document import SIZE_LIMIT
from tests.azure_function.support import HOUR, advance, messages, run

STATE = "known_subscriptions.json"


def put(cloud: LocalAzure, data: bytes, container: str = "tailpipe-state", account: str = "") -> None:
    """Write the state blob."""
    with cloud.blob_client(account or cloud.host_account.name) as client:
        client.get_blob_client(container, STATE).upload_blob(data, overwrite=True)


def get(cloud: LocalAzure, name: str = STATE) -> bytes:
    """Read a blob of the state container."""
    with cloud.blob_client(cloud.host_account.name) as client:
        return client.get_blob_client("tailpipe-state", name).download_blob().readall()


def names(cloud: LocalAzure) -> list[str]:
    """Return the names of the blobs in the state container."""
    with cloud.blob_client(cloud.host_account.name) as client:
        return list(client.get_container_client("tailpipe-state").list_blob_names())


@pytest.fixture
def old(azure: LocalAzure) -> LocalAzure:
    """Return a tenant whose legacy runbook left a list of two ids, one in upper case, in the export container."""
    ids = [azure.subscription_ids[0].upper(), azure.subscription_ids[1]]
    put(azure, json.dumps(ids).encode(), "dataexport", azure.destinations[0].name)
    return azure


def test_runbooks_list_is_migrated_once(old: LocalAzure) -> None:
    """Its ids become known scopes without duplicates.

    The new blob is in the function app's storage account, and the old one is not changed.
    """
    finished = run(old)
    assert finished.report["status"] == "ok", finished.report["failures"]
    document = json.loads(get(old))
    assert document["version"] == 2
    assert set(document["scopes"]) == set(old.subscription_ids)
    with old.blob_client() as client:
        stored = client.get_blob_client("dataexport", STATE).download_blob().readall()
    assert len(json.loads(stored)) == 2
    put(old, b"garbage", "dataexport", old.destinations[0].name)
    assert run(old).report["status"] == "ok"


def test_subscription_in_the_runbooks_list_gets_a_missing_export(old: LocalAzure) -> None:
    """The list does not prove that an export exists."""
    run(old)
    assert all(len(old.exports(one)) == 1 for one in old.subscription_ids)


def test_corrupt_state_is_set_aside_and_rebuilt(azure: LocalAzure) -> None:
    """A copy of each corrupt state is kept under another name."""
    garbage = [b"garbage", b'{"version": "x"}', b"", b"[1, 2]"]
    for data in garbage:
        put(azure, data)
        assert run(azure).report["scopes"]["covered"] == 6
        assert json.loads(get(azure))["version"] == 2
        advance(azure, HOUR)
    assert sorted(get(azure, name) for name in names(azure) if "corrupt" in name) == sorted(garbage)


def test_corrupt_list_of_the_runbook_is_set_aside(azure: LocalAzure) -> None:
    """The copy is made from the container that the blob was read from."""
    put(azure, b"\xff", "dataexport", azure.destinations[0].name)
    assert run(azure).report["scopes"]["covered"] == 6
    assert [get(azure, name) for name in names(azure) if "corrupt" in name] == [b"\xff"]


def test_state_over_the_size_limit_is_not_read(azure: LocalAzure) -> None:
    """It is set aside without being parsed."""
    put(azure, b" " * (SIZE_LIMIT + 1))
    assert run(azure).report["scopes"]["covered"] == 6


def test_state_of_another_owner_fails_the_run(azure: LocalAzure) -> None:
    """Neither the state nor an export is written."""
    theirs = json.dumps({"version": 2, "cloud": "azure", "owner": "someone else", "scopes": {}}).encode()
    put(azure, theirs)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert "someone else" in messages(finished)
    assert get(azure) == theirs
    assert azure.exports() == []


def test_unreadable_state_fails_the_run(azure: LocalAzure, keyless: dict[str, Any]) -> None:
    """It is neither missing nor empty, so no export is created."""
    mismatch = "AuthorizationPermissionMismatch"
    azure.faults.add("*/blobs/read", mismatch, "not authorized", status=403, times=None, resource="*tailpipe-state*")
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Storage Blob Data Contributor" in messages(finished)
    assert azure.exports() == []


def test_state_behind_network_rules_is_not_reported_as_a_missing_role(
    azure: LocalAzure, keyless: dict[str, Any]
) -> None:
    """The remedy concerns the network of the storage account."""
    azure.close_network(account=azure.host_account.name)
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Networking" in messages(finished)
    assert "Storage Blob Data Contributor" not in messages(finished)
    assert azure.exports() == []


def test_concurrent_run_raises_with_the_id_of_the_lock_holder(azure: LocalAzure) -> None:
    """A timer and an HTTP request at the same time do not both run."""
    run(azure)
    document = json.loads(get(azure))
    now = azure.clock.now()
    document["running"] = {"run_id": "other", "since": now.isoformat(), "until": now.replace(minute=4).isoformat()}
    put(azure, json.dumps(document).encode())
    with pytest.raises(AnotherRun, match="other"):
        run(azure)
