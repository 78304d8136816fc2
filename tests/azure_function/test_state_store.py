"""The state blob: the runbook's older one is read once, and nothing bad in its place loses anything."""

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
    """Return the names of the state container's blobs."""
    with cloud.blob_client(cloud.host_account.name) as client:
        return list(client.get_container_client("tailpipe-state").list_blob_names())


@pytest.fixture
def old(azure: LocalAzure) -> LocalAzure:
    """Return a tenant whose runbook knew two subscriptions, one of them in capitals, and kept them with the exports."""
    ids = [azure.subscription_ids[0].upper(), azure.subscription_ids[1]]
    put(azure, json.dumps(ids).encode(), "dataexport", azure.destinations[0].name)
    return azure


def test_the_runbooks_array_is_migrated_once(old: LocalAzure) -> None:
    """Its ids are known scopes, each once; the new blob is the host storage's, and the old one is not touched."""
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


def test_the_runbooks_blob_never_hides_a_missing_export(old: LocalAzure) -> None:
    """A subscription in the old list without an export gets one: the list is memory, the cloud the truth."""
    run(old)
    assert all(len(old.exports(one)) == 1 for one in old.subscription_ids)


def test_garbage_is_kept_aside_and_rebuilt(azure: LocalAzure) -> None:
    """A corrupt state costs calls; a copy of each is kept under another name."""
    garbage = [b"garbage", b'{"version": "x"}', b"", b"[1, 2]"]
    for data in garbage:
        put(azure, data)
        assert run(azure).report["scopes"]["covered"] == 6
        assert json.loads(get(azure))["version"] == 2
        advance(azure, HOUR)
    assert sorted(get(azure, name) for name in names(azure) if "corrupt" in name) == sorted(garbage)


def test_a_corrupt_older_blob_is_kept_aside_too(azure: LocalAzure) -> None:
    """What is set aside is what was read, wherever it lay."""
    put(azure, b"\xff", "dataexport", azure.destinations[0].name)
    assert run(azure).report["scopes"]["covered"] == 6
    assert [get(azure, name) for name in names(azure) if "corrupt" in name] == [b"\xff"]


def test_an_enormous_blob_is_not_read(azure: LocalAzure) -> None:
    """More than the limit is set aside without being parsed."""
    put(azure, b" " * (SIZE_LIMIT + 1))
    assert run(azure).report["scopes"]["covered"] == 6


def test_another_tenants_state_is_refused(azure: LocalAzure) -> None:
    """Nothing is written to it, and nothing is created by it."""
    theirs = json.dumps({"version": 2, "cloud": "azure", "owner": "someone else", "scopes": {}}).encode()
    put(azure, theirs)
    finished = run(azure)
    assert finished.report["status"] == "failed"
    assert "someone else" in messages(finished)
    assert get(azure) == theirs
    assert azure.exports() == []


def test_a_forbidden_state_stops_the_run(azure: LocalAzure, keyless: dict[str, Any]) -> None:
    """Forbidden is neither missing nor empty: nothing is created by a memory that could not be read."""
    mismatch = "AuthorizationPermissionMismatch"
    azure.faults.add("*/blobs/read", mismatch, "not authorized", status=403, times=None, resource="*tailpipe-state*")
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Storage Blob Data Contributor" in messages(finished)
    assert azure.exports() == []


def test_a_state_behind_network_rules_is_no_missing_role(azure: LocalAzure, keyless: dict[str, Any]) -> None:
    """The host's account refuses the function's network: the run fails, and the remedy grants nothing."""
    azure.close_network(account=azure.host_account.name)
    finished = run(azure, **keyless)
    assert finished.report["status"] == "failed"
    assert "Networking" in messages(finished)
    assert "Storage Blob Data Contributor" not in messages(finished)
    assert azure.exports() == []


def test_a_second_run_is_told_who_holds_the_lock(azure: LocalAzure) -> None:
    """Timer and HTTP at once do no harm: the second one is refused with the first one's id."""
    run(azure)
    document = json.loads(get(azure))
    now = azure.clock.now()
    document["running"] = {"run_id": "other", "since": now.isoformat(), "until": now.replace(minute=4).isoformat()}
    put(azure, json.dumps(document).encode())
    with pytest.raises(AnotherRun, match="other"):
        run(azure)
