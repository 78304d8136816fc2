"""Deliveries on Google Cloud: each copy is a document beside it, and an event on a Pub/Sub topic."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import msgspec
import pytest

from gcp_function.clients import RATES, warm_clients
from gcp_function.deliveries import CopyDeliveries
from gcp_function.errors import translate
from gcp_function.handler import open_deliveries
from gcp_function.settings import read_settings
from localcloud.gcp.cloud import LocalGcp
from shared.deliveries.document import Current, DeliveryDocument, Series
from shared.errors import Denied, SettingsError
from shared.reconcile import RunResult
from shared.runtime.context import RunContext
from tests.gcp_function.support import Lines, accounts, day_of, local_gcp, manifest, run, settings_of

YESTERDAY = day_of(1)
DAYS = [day_of(back) for back in (2, 1, 0)]


@pytest.fixture
def cloud() -> Iterator[LocalGcp]:
    """Return a project with one account, whose three partitions are not copied yet, and a topic with a subscription."""
    with local_gcp(accounts=1, done=1) as opened:
        opened.announce_deliveries()
        yield opened


def reconcile(cloud: LocalGcp, sink: Lines | None = None, **settings: str) -> RunResult:
    """Run once with deliveries announced; the copies are those of the standard export."""
    topic = cloud.deployment.delivery_topic
    given = {"EXPORTS": "standard", "COPY": "standard", "DELTAS": "1", "DELIVERY_TOPIC": topic, **settings}
    return run(cloud, sink=sink, environment=given)


def events(cloud: LocalGcp) -> list[DeliveryDocument]:
    """Return the events that the subscription gets now."""
    return [msgspec.json.decode(base64.b64decode(one["data"]), type=DeliveryDocument) for one in cloud.published()]


def series_of(cloud: LocalGcp, day: str = YESTERDAY) -> Series:
    """Return the series of the only account's copies of a day."""
    return Series(accounts(cloud)[0], "standard", day)


def stored(cloud: LocalGcp, series: Series) -> list[DeliveryDocument]:
    """Return the documents of a series, oldest first."""
    names = cloud.objects(prefix=f"deltas/{series.path}/")
    return [msgspec.json.decode(cloud.read_object(name), type=DeliveryDocument) for name in names]


def current(cloud: LocalGcp, series: Series) -> Current:
    """Return the document of a series' newest delivery."""
    return msgspec.json.decode(cloud.read_object(f"deliveries/{series.path}.json"), type=Current)


def source(cloud: LocalGcp) -> CopyDeliveries:
    """Return the source of deliveries as a run has it."""
    settings = settings_of(cloud, EXPORTS="standard", COPY="standard")
    context = RunContext("gcp", settings.engine, Lines(), cloud.clock, 900, RATES, translate)
    return CopyDeliveries(settings, warm_clients(settings), context)


def codes(lines: Lines, event: str) -> list[str]:
    """Return the codes of the log lines of one event."""
    return [fields.get("code", "") for _, name, fields in lines.lines if name == event]


def test_a_new_copy_is_announced_in_the_run_that_makes_it(cloud: LocalGcp) -> None:
    """The event is the stored document: all files with bytes and checksum, the watermark, and what was added."""
    lines = Lines()
    assert reconcile(cloud, lines).report["status"] == "ok"
    found = {one.data.period: one for one in events(cloud)}
    assert sorted(found) == sorted(DAYS)
    event, written = found[YESTERDAY], manifest(cloud, accounts(cloud)[0], YESTERDAY)
    assert [(one.name, one.bytes) for one in event.data.files] == [
        (one["name"], one["bytes"]) for one in written["files"]
    ]
    bucket = cloud.world.buckets.find(cloud.deployment.bucket)
    for one in event.data.files:
        assert one.checksum == f"crc32c:{bucket.objects.get(bucket.name, one.name).crc32c}"
    assert event.data.location == f"gs://{cloud.deployment.bucket}/"
    assert event.data.schema == written["schema"] != ""
    assert event.data.watermark is not None
    assert event.data.delta.added == tuple(one.name for one in event.data.files)
    assert stored(cloud, series_of(cloud)) == [event]
    assert current(cloud, series_of(cloud)) == Current({"topic": 1}, event)
    assert codes(lines, "delivery-announced") == [""] * 3


def test_a_message_has_the_attributes_and_the_ordering_key_of_its_event(cloud: LocalGcp) -> None:
    """A subscription can filter by type and subject without reading the data."""
    reconcile(cloud)
    message = next(one for one in cloud.published() if YESTERDAY in one["orderingKey"])
    event = json.loads(base64.b64decode(message["data"]))
    assert message["orderingKey"] == event["subject"] == series_of(cloud).path
    attributes = message["attributes"]
    assert attributes["content-type"] == "application/cloudevents+json; charset=utf-8"
    for name in ("id", "source", "specversion", "subject", "time", "type"):
        assert attributes[f"ce-{name}"] == event[name]


def test_late_rows_are_a_second_delivery_with_what_changed(cloud: LocalGcp) -> None:
    """It names the one before; the files of that one are gone from the set, although they still exist for a while."""
    reconcile(cloud)
    (first,) = [one for one in events(cloud) if one.data.period == YESTERDAY]
    cloud.advance(3600)
    cloud.late_data(accounts(cloud)[0], YESTERDAY)
    reconcile(cloud)
    (second,) = events(cloud)
    assert second.data.sequence == 2
    assert second.data.previous is not None
    assert (second.data.previous.id, second.data.previous.document) == (first.id, first.data.document)
    assert second.data.delta.gone == tuple(one.name for one in first.data.files)
    assert second.data.delta.added == tuple(one.name for one in second.data.files)


def test_a_steady_run_makes_no_call_for_deliveries(cloud: LocalGcp) -> None:
    """The second run looks once at what was announced; then the calls are the same as without deliveries."""
    for _ in range(2):
        reconcile(cloud)
        cloud.advance(3600)
    cloud.clear_calls()
    steady = reconcile(cloud).report["calls"]
    made = cloud.calls.by_method()
    assert not [call for call in cloud.calls.select() if "deltas" in call.path or "deliveries%2F" in call.path]
    reconcile(cloud, DELTAS="0", DELIVERY_TOPIC="")
    cloud.clear_calls()
    assert reconcile(cloud, DELTAS="0", DELIVERY_TOPIC="").report["calls"] == steady
    assert cloud.calls.by_method() == made


def test_without_the_setting_nothing_is_written_or_published(cloud: LocalGcp) -> None:
    """Neither documents nor messages."""
    assert reconcile(cloud, DELTAS="0", DELIVERY_TOPIC="").report["status"] == "ok"
    assert cloud.objects(prefix="del") == []
    assert events(cloud) == []


def test_without_a_topic_the_documents_are_stored_alone(cloud: LocalGcp) -> None:
    """A topic that is added later gets what follows."""
    assert reconcile(cloud, DELIVERY_TOPIC="").report["status"] == "ok"
    assert current(cloud, series_of(cloud)).published == {}
    assert events(cloud) == []


def test_a_topic_that_refuses_delays_events_and_nothing_else(cloud: LocalGcp) -> None:
    """Copies and documents are made; the next run publishes them under the same ids, in order."""
    lines = Lines()
    cloud.deny("pubsub.topics.publish")
    refused = reconcile(cloud, lines)
    assert refused.report["status"] == "ok"
    assert set(codes(lines, "delivery-unannounced")) <= {"access-denied", "delivery-topic-refuses"}
    assert codes(lines, "delivery-unannounced")
    assert events(cloud) == []
    waiting = {one.id for day in DAYS for one in stored(cloud, series_of(cloud, day))}
    assert len(waiting) == 3
    cloud.advance(3600)
    left = {metric.name: metric.value for metric in reconcile(cloud).metrics}
    assert left["deliveries_unannounced"] == 3
    cloud.allow("pubsub.topics.publish")
    cloud.advance(3600)
    left = {metric.name: metric.value for metric in reconcile(cloud).metrics}
    assert left["deliveries_unannounced"] == 0
    assert {one.id for one in events(cloud)} == waiting


def test_a_lost_event_and_a_repeated_one_leave_the_same_documents(cloud: LocalGcp) -> None:
    """What a reader missed on the topic it finds beside the data; a repeated event has the same id."""
    cloud.event_faults(loss=1)
    reconcile(cloud)
    assert events(cloud) == []
    cloud.event_faults(copies=2)
    cloud.advance(3600)
    cloud.late_data(accounts(cloud)[0], YESTERDAY)
    reconcile(cloud)
    assert len({one.id for one in events(cloud)}) == 1
    assert [one.data.sequence for one in stored(cloud, series_of(cloud))] == [1, 2]


def test_older_copies_are_announced_by_a_later_run_if_their_own_could_not(cloud: LocalGcp) -> None:
    """The history of an account is compared again until all of its copies are announced."""
    cloud.faults.add("storage.objects.get", 403, "forbidden", times=None, path="*deltas*")
    reconcile(cloud, COPY_DAYS="1")
    assert cloud.objects(prefix=f"{accounts(cloud)[0]}/{DAYS[0]}/")
    assert events(cloud) == []
    cloud.faults.clear()
    for _ in range(2):
        cloud.advance(3600)
        reconcile(cloud, COPY_DAYS="1")
    assert sorted({one.data.period for one in events(cloud)}) == sorted(DAYS)


def test_a_copy_that_is_deleted_with_its_rows_is_gone(cloud: LocalGcp) -> None:
    """Its last delivery has no files, and names all that were there."""
    reconcile(cloud)
    (first,) = [one for one in events(cloud) if one.data.period == YESTERDAY]
    cloud.delete_rows(accounts(cloud)[0], YESTERDAY)
    cloud.delete_copy(accounts(cloud)[0], YESTERDAY)
    cloud.advance(3600)
    reconcile(cloud)
    (last,) = events(cloud)
    assert last.data.files == ()
    assert last.data.delta.gone == tuple(one.name for one in first.data.files)


def test_a_set_that_is_not_whole_is_not_announced(cloud: LocalGcp) -> None:
    """A file is missing, the manifest is foreign or missing, or it is replaced between the two calls."""
    reconcile(cloud, DELTAS="0", DELIVERY_TOPIC="")
    found, series = source(cloud), series_of(cloud)
    folder = f"{series.scope}/{YESTERDAY}/standard/"
    whole = found.files(series)
    assert whole is not None
    assert whole.files
    text = cloud.read_object(f"{folder}manifest.json")
    cloud.faults.before("storage.objects.list", lambda: cloud.put_object(f"{folder}manifest.json", text), times=1)
    assert found.files(series) is None
    cloud.put_object(f"{folder}manifest.json", '{"format": "another"}')
    assert found.files(series) is None
    cloud.delete_objects(prefix=f"{folder}manifest.json")
    assert found.files(series) is None
    cloud.put_object(f"{folder}manifest.json", text)
    cloud.delete_objects(prefix=whole.files[0].name)
    assert found.files(series) is None
    cloud.delete_objects(prefix=folder)
    gone = found.files(series)
    assert gone is not None
    assert gone.files == ()


@pytest.mark.parametrize(
    "series",
    [
        Series("012345-6789AB-CDEF01", "standard", "2026-11"),
        Series("012345-6789AB-CDEF01", "focus", YESTERDAY),
        Series("tailpipe-dataexport", "standard", YESTERDAY),
        Series("012345-6789AB-CDEF01", "standard", "2026-02-30"),
    ],
)
def test_only_days_of_copied_exports_are_announced(cloud: LocalGcp, series: Series) -> None:
    """The ledger also knows months of tables, which nothing is copied for."""
    assert source(cloud).announces(series_of(cloud))
    assert not source(cloud).announces(series)


def test_documents_are_listed_by_name_and_time(cloud: LocalGcp) -> None:
    """A reader, and the operator's command, find them without knowing the series."""
    reconcile(cloud)
    series = series_of(cloud)
    store, _ = open_deliveries(cloud.environment(), Lines(), cloud.clock)
    names = list(store.names("deltas/"))
    assert [name for name, _ in names] == [f"deltas/standard/{series.scope}/{day}/00000001.json" for day in DAYS]
    assert all(written == cloud.clock.now() for _, written in names)


def test_without_a_bucket_there_are_no_documents(cloud: LocalGcp) -> None:
    """The operator's command finds nothing, and fails only if it may not look."""
    store, _ = open_deliveries(cloud.environment(), Lines(), cloud.clock)
    cloud.deny("storage.objects.list")
    with pytest.raises(Denied, match="the deliveries in bucket"):
        list(store.names("deltas/"))
    cloud.allow("storage.objects.list")
    cloud.delete_bucket()
    assert list(store.names("deltas/")) == []


def test_the_webhook_gets_deliveries_that_the_topic_refuses(cloud: LocalGcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each receiver has its own place in the chain: the topic gets the same events later, the webhook none twice."""
    sent: list[str] = []
    monkeypatch.setattr(
        "gcp_function.deliveries.WebhookTopic.publish", lambda _self, _event, event_id, _key: sent.append(event_id)
    )
    name = f"projects/{cloud.project}/secrets/tailpipe-webhook"
    cloud.deny("pubsub.topics.publish")
    reconcile(cloud, NOTIFY_URL=name)
    assert len(sent) == 3
    cloud.allow("pubsub.topics.publish")
    cloud.advance(3600)
    reconcile(cloud, NOTIFY_URL=name)
    assert {one.id for one in events(cloud)} == set(sent)
    assert len(sent) == 3


def test_settings_that_contradict_each_other_are_refused() -> None:
    """A topic without documents, and documents without copies; each message names both settings."""
    base = {"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"}
    with pytest.raises(SettingsError, match=r"DELIVERY_TOPIC: .*DELTAS=1"):
        read_settings({**base, "DELIVERY_TOPIC": "projects/p-1/topics/deliveries"})
    with pytest.raises(SettingsError, match=r"DELTAS: .*COPY"):
        read_settings({**base, "DELTAS": "1", "COPY": "off"})
    with pytest.raises(SettingsError, match="DELIVERY_TOPIC: 'deliveries' is not"):
        read_settings({**base, "DELTAS": "1", "DELIVERY_TOPIC": "deliveries"})
