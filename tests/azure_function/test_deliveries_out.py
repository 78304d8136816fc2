"""Deliveries are announced: documents beside the data, and events on the Event Grid topic."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from azure_function.clients import drop_clients
from azure_function.invocation import announce_once, open_deliveries, run_once
from azure_function.settings import read_settings
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.event_grid import ACTION
from shared.deliveries.document import Current, DeliveryDocument
from shared.errors import SettingsError
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.azure_function.support import DAY, HOUR, Lines, advance, local_azure

CONTAINER = "dataexport"


@pytest.fixture
def announcing(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a tenant with three subscriptions, whose function announces deliveries with its own rights."""
    with local_azure(deliveries=True) as cloud:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, cloud.environment()[name])
        yield cloud
        drop_clients()


def environment(cloud: LocalAzure, **settings: str) -> dict[str, str]:
    """Return the function's environment, in which it uses only its managed identity."""
    return {**cloud.environment(), **cloud.keyless(), **settings}


def run(cloud: LocalAzure, lines: Lines | None = None, **settings: str) -> RunResult:
    """Run once as scheduled."""
    return run_once(RunRequest(), environment(cloud, **settings), lines or Lines(), cloud.clock, None, seed=1)


def push(cloud: LocalAzure, lines: Lines | None = None, **settings: str) -> int:
    """Deliver the events that are due to the function; return how many deliveries could not be announced."""
    events = [one.event for one in cloud.world.manifest_events.take(cloud.clock.now())]
    return announce_once(events, environment(cloud, **settings), lines or Lines(), cloud.clock, seed=1)


def documents(cloud: LocalAzure, prefix: str = "deltas/") -> dict[str, bytes]:
    """Return the stored documents below a prefix, by name."""
    with cloud.blob_client() as client:
        container = client.get_container_client(CONTAINER)
        names = sorted(container.list_blob_names(name_starts_with=prefix))
        return {name: container.download_blob(name).readall() for name in names}


def chain(cloud: LocalAzure, subscription: str) -> list[DeliveryDocument]:
    """Return the documents of a subscription's deliveries, oldest first."""
    found = (msgspec.json.decode(data, type=DeliveryDocument) for data in documents(cloud).values())
    return [one for one in found if one.data.scope == subscription]


def published(cloud: LocalAzure) -> list[Mapping[str, Any]]:
    """Return the events that the topic has accepted, oldest first."""
    return [one.event for one in cloud.world.published]


def delivered(cloud: LocalAzure) -> str:
    """Create the exports, let them deliver, and return the first subscription."""
    run(cloud)
    cloud.deliver()
    return cloud.subscription_ids[0]


def test_written_manifest_is_announced_at_once(announcing: LocalAzure) -> None:
    """The document names the files with bytes and checksum; the event on the topic is the same document."""
    first = delivered(announcing)
    assert push(announcing) == 0
    (document,) = chain(announcing, first)
    data = document.data
    assert (data.cloud, data.dataset, data.period, data.sequence) == (
        "azure",
        f"TailpipeDataExport-{first[-6:]}",
        "2026-11",
        1,
    )
    (file,) = data.files
    assert data.delta.added == (file.name,)
    assert file.checksum.startswith(("md5:", "etag:"))
    with announcing.blob_client() as client:
        assert len(client.get_blob_client(CONTAINER, file.name).download_blob().readall()) == file.bytes
    assert data.location.endswith(f"/{CONTAINER}/")
    events = {one["id"]: one for one in published(announcing)}
    assert len(events) == 3
    assert events[document.id] == json.loads(document.encode())
    assert "sig=" not in json.dumps(published(announcing))


def test_run_announces_what_no_event_named_and_then_makes_no_call(announcing: LocalAzure) -> None:
    """Lost events cost latency only; once all is announced, a run reads and publishes nothing for it."""
    announcing.event_faults(loss=1.0)
    first = delivered(announcing)
    assert push(announcing) == 0
    advance(announcing, HOUR)
    assert run(announcing).report["status"] == "ok"
    assert len(chain(announcing, first)) == 1
    assert len(published(announcing)) == 3
    announcing.calls.clear()
    advance(announcing, HOUR)
    run(announcing)
    assert len(published(announcing)) == 3
    assert [one for one in announcing.calls if "deltas/" in one.resource or "deliveries/" in one.resource] == []


def test_next_delivery_names_what_it_replaced(announcing: LocalAzure) -> None:
    """Azure writes each run to a new folder and deletes the old one: the old files are gone, the new ones added."""
    first = delivered(announcing)
    push(announcing)
    advance(announcing, DAY)
    announcing.deliver()
    assert push(announcing) == 0
    before, after = chain(announcing, first)
    assert after.data.previous is not None
    assert (after.data.previous.id, after.data.sequence) == (before.id, 2)
    assert after.data.delta.added == tuple(one.name for one in after.data.files)
    assert after.data.delta.gone == tuple(one.name for one in before.data.files)


def test_repeated_late_and_reordered_events_change_nothing(announcing: LocalAzure) -> None:
    """Whatever arrives when, there is one document and one event for each delivery."""
    announcing.event_faults(copies=3, spread_s=3 * HOUR)
    first = delivered(announcing)
    for _ in range(4):
        advance(announcing, HOUR)
        assert push(announcing) == 0
    assert len(chain(announcing, first)) == 1
    assert len({one["id"] for one in published(announcing)}) == len(published(announcing)) == 3


def test_deleted_data_is_announced_as_gone(announcing: LocalAzure) -> None:
    """A month whose files were deleted has a document without files."""
    first = delivered(announcing)
    push(announcing)
    run(announcing)
    with announcing.blob_client() as client:
        container = client.get_container_client(CONTAINER)
        for name in container.list_blob_names(name_starts_with=f"tailpipe/subscriptions/{first}/"):
            container.delete_blob(name)
    for _ in range(2):
        advance(announcing, DAY)
        run(announcing)
    gone = chain(announcing, first)[-1]
    assert gone.data.files == ()
    assert len(gone.data.delta.gone) == 1


def test_set_that_is_not_whole_is_not_announced(announcing: LocalAzure) -> None:
    """A missing or empty file, a newer file, and a manifest that is gone or unreadable are no delivery yet."""
    first = delivered(announcing)
    prefix = f"tailpipe/subscriptions/{first}/"
    events = [one.event for one in announcing.world.manifest_events.take(announcing.clock.now())]
    with announcing.blob_client() as client:
        container = client.get_container_client(CONTAINER)
        manifest, part = sorted(container.list_blob_names(name_starts_with=prefix))
        original = {name: container.download_blob(name).readall() for name in (manifest, part)}

        def announce() -> int:
            return announce_once(events, environment(announcing), Lines(), announcing.clock, seed=1)

        container.delete_blob(part)
        assert announce() == 0
        container.upload_blob(part, b"")
        assert announce() == 0
        advance(announcing, 60)
        container.upload_blob(part, original[part], overwrite=True)
        assert announce() == 0  # the file is newer than its manifest
        container.upload_blob(manifest, b"{", overwrite=True)
        assert announce() == 1
        assert chain(announcing, first) == []
        container.upload_blob(manifest, original[manifest], overwrite=True)
        assert announce() == 0
    assert len(chain(announcing, first)) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"eventType": "Microsoft.Storage.BlobDeleted"}, "event-unknown"),
        ({"eventType": None}, "event-malformed"),
        ({"subject": 7}, "event-malformed"),
        ({"subject": "x" * 100_000}, "event-malformed"),
        ({"topic": "/subscriptions/x/resourceGroups/y/providers/Microsoft.Storage/storageAccounts/z"}, None),
        ({"subject": "/blobServices/default/containers/other/blobs/tailpipe/subscriptions/a/b/c/manifest.json"}, None),
        ({"subject": "/blobServices/default/containers/dataexport/blobs/elsewhere/manifest.json"}, None),
        ({"subject": "/blobServices/default/containers/dataexport/blobs/deltas/../manifest.json"}, None),
        (
            {
                "subject": "/blobServices/default/containers/dataexport/blobs/tailpipe/subscriptions/"
                "11111111-2222-3333-4444-555555555555/TailpipeDataExport-666666/20261101-20261130/r/manifest.json"
            },
            None,
        ),
    ],
)
def test_events_of_anything_else_are_refused(announcing: LocalAzure, change: dict[str, Any], code: str | None) -> None:
    """They are logged by their code and dropped, and the events beside them are announced all the same."""
    delivered(announcing)
    events = [one.event for one in announcing.world.manifest_events.take(announcing.clock.now())]
    forged, lines = {**events[0], **change}, Lines()
    announcing.calls.clear()
    assert announce_once([forged, events[1]], environment(announcing), lines, announcing.clock, seed=1) == 0
    refused = [fields for _, event, fields in lines.lines if event == "event-refused"]
    assert [(one["code"], one["count"]) for one in refused] == [(code or "event-of-another-resource", 1)]
    assert len(published(announcing)) == 1


def test_event_of_a_delivery_that_is_gone_changes_nothing(announcing: LocalAzure) -> None:
    """An old event of a month that was never announced and has no files any more leads to no document."""
    first = delivered(announcing)
    events = [one.event for one in announcing.world.manifest_events.take(announcing.clock.now())]
    with announcing.blob_client() as client:
        client.delete_container(CONTAINER)
    assert announce_once(events, environment(announcing), Lines(), announcing.clock, seed=1) == 0
    with announcing.blob_client() as client:
        client.create_container(CONTAINER)
    advance(announcing, 30 * DAY)
    assert announce_once(events, environment(announcing), Lines(), announcing.clock, seed=1) == 0
    assert chain(announcing, first) == []
    assert published(announcing) == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_events_the_newest_documents_are_the_same(announcing: LocalAzure, seed: int) -> None:
    """Lost, repeated, late and reordered events over three days: after a run they name the files that are there."""
    delivered(announcing)
    rng = random.Random(seed)
    for _ in range(3):
        announcing.event_faults(
            loss=rng.random(), copies=rng.randint(1, 3), delay_s=rng.uniform(0, DAY), spread_s=rng.uniform(0, DAY)
        )
        advance(announcing, DAY)
        announcing.deliver()
        push(announcing)
        if rng.random() < 0.5:
            run(announcing)
    advance(announcing, HOUR)
    push(announcing)
    run(announcing)
    newest = [msgspec.json.decode(one, type=Current).newest for one in documents(announcing, "deliveries/").values()]
    named = sorted(file.name for one in newest if one is not None for file in one.data.files)
    with announcing.blob_client() as client:
        there = client.get_container_client(CONTAINER).list_blob_names(name_starts_with="tailpipe/")
        assert named == sorted(name for name in there if not name.endswith("manifest.json"))
    files: dict[str, set[str]] = {}
    for data in documents(announcing).values():
        document = msgspec.json.decode(data, type=DeliveryDocument).data
        of_scope = files.setdefault(document.scope, set())
        of_scope -= set(document.delta.gone)
        of_scope |= set(document.delta.added)
    assert sorted(name for one in files.values() for name in one) == named


def test_topic_that_refuses_loses_nothing(announcing: LocalAzure) -> None:
    """The documents are stored; a later event or run publishes them, in order and under the same ids."""
    first = delivered(announcing)
    announcing.fault(ACTION, "Forbidden", "no", status=403, times=None)
    lines = Lines()
    assert push(announcing, lines) == 3
    (warning,) = [fields for _, event, fields in lines.lines if event == "delivery-unannounced"]
    assert warning["code"] == "rights-missing"
    advance(announcing, DAY)
    announcing.deliver()
    assert push(announcing) == 3
    assert published(announcing) == []
    announcing.clear_faults()
    run(announcing)
    sent = [one for one in published(announcing) if one["data"]["scope"] == first]
    assert [one["data"]["sequence"] for one in sent] == [1, 2]
    assert [one["id"] for one in sent] == [one.id for one in chain(announcing, first)]
    assert all(
        msgspec.json.decode(data, type=Current).published for data in documents(announcing, "deliveries/").values()
    )


def test_without_a_topic_documents_alone_are_written(announcing: LocalAzure) -> None:
    """A reader can poll them."""
    first = delivered(announcing)
    assert push(announcing, DELIVERY_TOPIC="") == 0
    assert len(chain(announcing, first)) == 1
    assert published(announcing) == []


def test_function_may_write_the_two_folders_only(announcing: LocalAzure) -> None:
    """With its own rights it writes no document elsewhere in the container."""
    delivered(announcing)
    assert push(announcing) == 0
    written = {
        one.resource.partition(f"/containers/{CONTAINER}/blobs/")[2].partition("/")[0]
        for one in announcing.calls
        if one.app == announcing.principal and one.action.endswith("blobs/write") and f"/{CONTAINER}/" in one.resource
    }
    assert written == {"deltas", "deliveries"}
    rights, container = announcing.world.rights, f"{announcing.destinations[0].id}/blobServices/default/containers"
    write = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"
    path = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]"
    for name, allowed in (("deltas/a", True), ("deliveries/b", True), ("tailpipe/c", False), ("deltas", False)):
        place = f"{container}/{CONTAINER}/blobs/{name}"
        assert rights.allows(announcing.principal, write, place, data=True, attributes={path: name}) is allowed


def test_off_by_default(azure: LocalAzure) -> None:
    """Without the setting nothing is written or published, and no call is made for it."""
    lines = Lines()
    run_once(RunRequest(), azure.environment(), lines, azure.clock, None, seed=1)
    azure.deliver()
    run_once(RunRequest(), azure.environment(), lines, azure.clock, None, seed=1)
    assert documents(azure) == documents(azure, "deliveries/") == {}
    assert announce_once([], azure.environment(), lines, azure.clock) == 0


def test_operator_finds_the_documents(announcing: LocalAzure) -> None:
    """They are listed by name and time, and without a delivery there are none."""
    first = delivered(announcing)
    stored, _ = open_deliveries(environment(announcing), Lines(), announcing.clock)
    assert list(stored.names("deltas/")) == []
    push(announcing)
    listed = {name: stored.load(10**6, name).data for name, _ in stored.names("deltas/")}
    assert listed == documents(announcing)
    assert [one.data.sequence for one in chain(announcing, first)] == [1]


def test_billing_export_is_announced_by_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder does not name the whole billing scope, which the state does."""
    with local_azure(deliveries=True) as cloud:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, cloud.environment()[name])
        cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": cloud.subscription_ids})
        cloud.grant_billing()
        run(cloud, BILLING_SCOPES="auto")
        cloud.deliver()
        assert push(cloud, BILLING_SCOPES="auto") == 0
        (scope,) = {one["data"]["scope"] for one in published(cloud)}
        assert scope.startswith("/providers/Microsoft.Billing/billingAccounts/8611537")
        drop_clients()


@pytest.mark.parametrize("answer", [b"<html>signed in?</html>", b"<!doctype html><p>proxy"])
def test_page_of_a_proxy_is_no_acceptance(announcing: LocalAzure, answer: bytes) -> None:
    """What a gateway answers with 200 does not count as published, and the next run publishes it."""
    delivered(announcing)
    announcing.faults.corrupt("POST /eventgrid/*", answer, times=None)
    assert push(announcing) == 3
    announcing.faults.restore()
    announcing.world.published.clear()
    run(announcing)
    assert len(published(announcing)) == 3


def test_topic_without_documents_is_a_setting_error() -> None:
    """Both settings are named."""
    settings = {
        "DESTINATION": "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/"
        "Microsoft.Storage/storageAccounts/account",
        "STATE_ACCOUNT": "host",
        "DELIVERY_TOPIC": "https://deliveries.westeurope-1.eventgrid.azure.net/api/events",
    }
    assert read_settings({**settings, "DELTAS": "1"}).delivery_topic == settings["DELIVERY_TOPIC"]
    with pytest.raises(SettingsError, match=r"DELIVERY_TOPIC.*DELTAS=1"):
        read_settings(settings)
    with pytest.raises(SettingsError, match="DELIVERY_TOPIC"):
        read_settings({**settings, "DELTAS": "1", "DELIVERY_TOPIC": "https://example.com/api/events"})
