"""Deliveries are announced: a document beside the exports, and an event on the topic."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aws_lambda.clients import RATES, warm_clients
from aws_lambda.deliveries import ExportDeliveries
from aws_lambda.errors import translate
from aws_lambda.handler import open_deliveries
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from shared.deliveries.document import Series
from shared.errors import NotUnderstood
from shared.runtime.context import RunContext
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import EXPORT, HOUR, Lines, local_aws, run

MONTH = "2026-11"
FILE = f"dataexport/{EXPORT}/data/BILLING_PERIOD={MONTH}/{EXPORT}-00001.csv.gz"
MANIFEST = f"dataexport/{EXPORT}/metadata/BILLING_PERIOD={MONTH}/{EXPORT}-Manifest.json"


@pytest.fixture
def cloud() -> Iterator[LocalAws]:
    """Return a standalone account whose export has not delivered yet."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        run(cloud)
        yield cloud


@pytest.fixture
def subscriber(cloud: LocalAws) -> Subscriber:
    """Return a subscriber of the topic."""
    return Subscriber(cloud)


def series(cloud: LocalAws) -> Series:
    """Return the series of this month."""
    return Series(cloud.account, EXPORT, MONTH)


def source(cloud: LocalAws) -> ExportDeliveries:
    """Return the source of a run in the local cloud."""
    settings = read_settings(cloud.environment())
    context = RunContext("aws", settings.engine, Lines(), cloud.clock, 900, RATES, translate, seed=1)
    return ExportDeliveries(settings, cloud.account, warm_clients(settings, cloud.environment()), context)


def deliver(cloud: LocalAws) -> None:
    """Let an hour pass, then deliver."""
    cloud.advance(HOUR)
    cloud.deliver()


def documents(cloud: LocalAws) -> list[dict[str, Any]]:
    """Return the stored documents, oldest first."""
    s3 = cloud.client("s3")
    found = s3.list_objects_v2(Bucket=cloud.deployment.bucket, Prefix="dataexport/deltas/").get("Contents", [])
    bodies = [s3.get_object(Bucket=cloud.deployment.bucket, Key=one["Key"])["Body"] for one in found]
    texts = []
    for body in bodies:
        with body:
            texts.append(body.read())
    return [json.loads(text) for text in texts]


def test_a_run_announces_what_was_delivered_since_the_last_one(cloud: LocalAws, subscriber: Subscriber) -> None:
    """Each delivery is one document and one event, which are equal; the second replaces the file of the first."""
    for _ in range(2):
        deliver(cloud)
        done = run(cloud, **subscriber.settings)
        assert {one.name: one.value for one in done.metrics}["deliveries_unannounced"] == 0
    events = subscriber.received()
    assert events == documents(cloud)
    first, second = (one["data"] for one in events)
    assert [one["name"] for one in first["files"]] == [FILE]
    assert (first["scope"], first["dataset"], first["period"]) == tuple(series(cloud))
    assert (first["delta"]["added"], second["delta"]["added"]) == ([FILE], [])
    assert second["delta"]["replaced"] == [FILE]
    assert second["previous"] == {"id": events[0]["id"], "document": first["document"]}
    assert first["location"] == f"s3://{cloud.deployment.bucket}/"
    assert first["schema"] == second["schema"] != ""


def test_a_run_without_a_delivery_makes_no_further_call(cloud: LocalAws, subscriber: Subscriber) -> None:
    """What was announced is remembered: the run costs what one without the setting costs."""
    deliver(cloud)
    run(cloud, **subscriber.settings)
    steady = run(cloud, **subscriber.settings).report["calls"]
    assert steady == run(cloud).report["calls"]


def test_without_the_setting_nothing_is_written_or_published(cloud: LocalAws, subscriber: Subscriber) -> None:
    """Neither document nor event; switched on later, the newest delivery is the first."""
    deliver(cloud)
    run(cloud)
    assert (documents(cloud), subscriber.received()) == ([], [])
    run(cloud, DELTAS="1")
    assert len(documents(cloud)) == 1
    assert subscriber.received() == []


def test_a_refused_event_is_published_by_a_later_run_under_its_id(cloud: LocalAws, subscriber: Subscriber) -> None:
    """The document is stored meanwhile; the log has the reason, and the metric counts the period."""
    lines = Lines()
    cloud.fault("sns", "Publish", "AuthorizationError", times=None)
    deliver(cloud)
    done = run(cloud, sink=lines, **subscriber.settings)
    assert {one.name: one.value for one in done.metrics}["deliveries_unannounced"] == 1
    ((_, _, fields),) = (line for line in lines.lines if line[1] == "delivery-unannounced")
    assert fields["code"] == "access-denied"
    assert subscriber.topic in fields["reason"]
    cloud.clear_faults()
    run(cloud, **subscriber.settings)
    assert subscriber.received() == documents(cloud)


def test_deleted_data_is_announced_as_gone(cloud: LocalAws, subscriber: Subscriber) -> None:
    """The document has no files any more, and the delta names those that are gone."""
    deliver(cloud)
    run(cloud, **subscriber.settings)
    cloud.client("s3").delete_object(Bucket=cloud.deployment.bucket, Key=FILE)
    assert source(cloud).files(series(cloud)) is None
    cloud.client("s3").delete_object(Bucket=cloud.deployment.bucket, Key=MANIFEST)
    cloud.advance(HOUR)
    run(cloud, **subscriber.settings)
    last = subscriber.received()[-1]["data"]
    assert (last["files"], last["delta"]["gone"]) == ([], [FILE])


def put(cloud: LocalAws, key: str, body: bytes) -> None:
    """Write an object as AWS does, a minute later."""
    cloud.advance(60)
    cloud.client("s3").put_object(Bucket=cloud.deployment.bucket, Key=key, Body=body)


def changed(cloud: LocalAws, **fields: Any) -> None:
    """Write the manifest again with these fields."""
    with cloud.client("s3").get_object(Bucket=cloud.deployment.bucket, Key=MANIFEST)["Body"] as body:
        manifest = json.loads(body.read())
    put(cloud, MANIFEST, json.dumps(manifest | fields).encode())


def emptied(cloud: LocalAws) -> None:
    """Deliver an empty file."""
    put(cloud, FILE, b"")
    changed(cloud)


SPOILED: dict[str, Callable[[LocalAws], object]] = {
    "a newer file": lambda cloud: put(cloud, FILE, b"the next delivery"),
    "a newer file of no manifest": lambda cloud: put(cloud, FILE.replace("00001", "00002"), b"more"),
    "a missing file": lambda cloud: changed(cloud, dataFiles=[f"s3://{cloud.deployment.bucket}/{FILE}-2"]),
    "a foreign file": lambda cloud: changed(cloud, dataFiles=["s3://another-bucket/file"]),
    "an empty file": emptied,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=list(SPOILED))
def test_a_set_that_is_not_whole_is_not_announced(cloud: LocalAws, spoil: Callable[[LocalAws], object]) -> None:
    """A reader never gets half of a delivery."""
    deliver(cloud)
    assert source(cloud).files(series(cloud)) is not None
    spoil(cloud)
    assert source(cloud).files(series(cloud)) is None


def test_a_manifest_that_is_replaced_meanwhile_is_not_announced(
    cloud: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files may be those of either delivery."""
    deliver(cloud)
    found = source(cloud)
    listed = found._listing.below

    def below(prefix: str) -> Any:
        items = listed(prefix)
        if "/data/" in prefix:
            changed(cloud, note="another delivery")
        return items

    monkeypatch.setattr(found._listing, "below", below)
    assert found.files(series(cloud)) is None


def test_a_malformed_manifest_is_an_error(cloud: LocalAws) -> None:
    """It says nothing of the files, so nothing is announced as gone."""
    deliver(cloud)
    put(cloud, MANIFEST, b"<html>")
    with pytest.raises(NotUnderstood, match="not a manifest"):
        source(cloud).files(series(cloud))


def test_the_fingerprint_changes_with_the_columns_only(cloud: LocalAws) -> None:
    """A reader compares it to notice another schema."""
    deliver(cloud)
    before = source(cloud).files(series(cloud))
    changed(cloud, executionId="another")
    same = source(cloud).files(series(cloud))
    changed(cloud, columns=[{"name": "a", "type": "string"}])
    other = source(cloud).files(series(cloud))
    changed(cloud, columns=None)
    none = source(cloud).files(series(cloud))
    schemas = [one.schema for one in (before, same, other, none) if one is not None]
    assert schemas[0] == schemas[1] != schemas[2]
    assert schemas[3:] == [""]


def test_only_months_of_the_accounts_exports_are_announced(cloud: LocalAws) -> None:
    """Another account, another export and a day are not of this source."""
    found = source(cloud)
    account = cloud.account
    assert found.announces(Series(account, EXPORT, MONTH))
    for other in (("1" * 12, EXPORT, MONTH), (account, f"{EXPORT}-focus", MONTH), (account, EXPORT, "2026-11-01")):
        assert not found.announces(Series(*other))


def test_documents_are_listed_by_name_and_time(cloud: LocalAws, subscriber: Subscriber) -> None:
    """The listing goes on where a page ends."""
    deliver(cloud)
    run(cloud, **subscriber.settings)
    stored = source(cloud).documents(series(cloud))
    ((name, time),) = stored.names("deltas/")
    assert name == f"deltas/{series(cloud).path}/00000001.json"
    assert stored.load(10_000, name).size > 100
    assert abs((time - cloud.clock.now()).total_seconds()) < HOUR


def test_operator_finds_the_documents(cloud: LocalAws, subscriber: Subscriber) -> None:
    """They are listed by name and time, and without a delivery there are none."""
    stored, _ = open_deliveries(cloud.environment(), Lines(), cloud.clock)
    assert list(stored.names("deltas/")) == []
    deliver(cloud)
    run(cloud, **subscriber.settings)
    stored, _ = open_deliveries(cloud.environment(), Lines(), cloud.clock)
    ((name, _),) = stored.names("deltas/")
    assert name == f"deltas/{EXPORT}/{cloud.account}/{MONTH}/00000001.json"
    assert json.loads(stored.load(10**6, name).data) == documents(cloud)[0]
