"""Deliveries are announced by the real functions through the local buses, and a reader rebuilds the data from that."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_deliveries import WINDOW_S
from localcloud.aws.platform.deployed_events import COLLECTOR
from localcloud.aws.platform.deployed_events import WINDOW_S as EVENTS_WINDOW_S
from localcloud.aws.platform.deployment import FUNCTION
from shared.runtime.clock import SystemClock, VirtualClock
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import EXPORT, HOUR, run
from tests.cli.support.aws import built
from tests.e2e.aws_rights import beyond, missing, superfluous
from tests.e2e.test_aws_reader import onboarding, other_role
from tests.readers.aws import TAILPIPE_ACCOUNT, TAILPIPE_ROLE, Reader
from tests.readers.deltas import Changed, DeltaReader

pytestmark = pytest.mark.slow
PREFIX = "dataexport/"
# Runs for the schedule take place in this process: only here do they have the virtual clock, by which hours pass.


@pytest.fixture(scope="module")
def deployed() -> Iterator[LocalAws]:
    """Return a deployed standalone account that announces deliveries, covered, whose export was deleted once."""
    clock = VirtualClock(SystemClock().now())
    with LocalAws(accounts=1, kind="standalone", package=built, clock=clock, deliveries=True) as cloud:
        first = cloud.fire_schedule(FUNCTION, FUNCTION)
        assert first["run"]["outcome"] == "succeeded", first
        cloud.delete_export(EXPORT)
        settle(cloud, EVENTS_WINDOW_S)
        assert list(cloud.exports()) == [EXPORT]
        yield cloud


@pytest.fixture(scope="module")
def subscriber(deployed: LocalAws) -> Subscriber:
    """Return a subscriber of the deployed topic."""
    return Subscriber(deployed)


@pytest.fixture(scope="module")
def tailpipe(deployed: LocalAws) -> Reader:
    """Return Tailpipe's reader, with the connector role."""
    return Reader(deployed.endpoint, other_role(deployed, TAILPIPE_ACCOUNT, TAILPIPE_ROLE), onboarding(deployed))


def settle(cloud: LocalAws, window_s: float = WINDOW_S) -> None:
    """Let a queue's window pass, and wait for the functions that it starts."""
    cloud.settle_events()
    cloud.advance(window_s)
    cloud.settle_events()


def deliver(cloud: LocalAws, period: str | None = None) -> None:
    """Let an hour pass, and deliver a month (default: this one)."""
    cloud.advance(HOUR)
    cloud.deliver(EXPORT, period)
    settle(cloud)


def month(cloud: LocalAws, ago: int = 0) -> str:
    """Return a month, so many before this one."""
    number = cloud.clock.now().year * 12 + cloud.clock.now().month - 1 - ago
    return f"{number // 12}-{number % 12 + 1:02}"


def follower(reader: Reader, bucket: str) -> DeltaReader:
    """Return a reader of deliveries that knows nothing yet, with the rights of Tailpipe's connector."""
    s3 = reader.client("s3")

    def names(prefix: str) -> Iterable[str]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX + prefix)
        return [one["Key"].removeprefix(PREFIX) for page in pages for one in page.get("Contents", ())]

    def read(name: str) -> bytes | None:
        try:
            return reader.read(PREFIX + name)
        except ClientError as error:
            # S3 answers so for a missing object: the connector may list by prefix only.
            if error.response["Error"]["Code"] != "AccessDenied":
                raise
            return None

    def fetch(file: Mapping[str, Any]) -> bytes:
        content = read(file["name"].removeprefix(PREFIX)) or b""
        if f"etag:{hashlib.md5(content, usedforsecurity=False).hexdigest()}" != file["checksum"]:
            raise Changed(file["name"])
        return content

    return DeltaReader(names, read, fetch)


def parse(_name: str, content: bytes) -> Iterable[tuple[str, ...]]:
    """Yield the rows of one file."""
    yield from (tuple(row.values()) for row in csv.DictReader(io.StringIO(gzip.decompress(content).decode())))


def whole(reader: Reader) -> list[tuple[str, ...]]:
    """Return all rows, as a reader that lists all manifests finds them."""
    return sorted(tuple(row.values()) for row in reader.rows())


def test_a_delivery_is_published_within_a_minute_of_its_manifest(deployed: LocalAws, subscriber: Subscriber) -> None:
    """S3's event reaches the collector; no run takes place, and the event is the stored document."""
    subscriber.received()
    runs = len(deployed.await_functions())
    deliver(deployed)
    assert len(deployed.await_functions()) == runs
    (event,) = subscriber.received()
    data = event["data"]
    assert (event["specversion"], data["period"]) == ("1.0", month(deployed))
    assert [one["name"] for one in data["files"]] == data["delta"]["added"] + data["delta"]["replaced"]
    with deployed.client("s3").get_object(Bucket=deployed.deployment.bucket, Key=PREFIX + data["document"])[
        "Body"
    ] as body:
        assert json.loads(body.read()) == event
    assert deployed.deployment.external_id not in json.dumps(event)


def test_a_reader_rebuilds_the_rows_from_deliveries_alone(
    deployed: LocalAws, subscriber: Subscriber, tailpipe: Reader
) -> None:
    """Restatement, late data, deletion and restarts: it has the rows of a full read, and fetches what changed."""
    bucket = deployed.deployment.bucket
    deliver(deployed)
    folder = f"{EXPORT}/{deployed.account}/"
    reader = follower(tailpipe, bucket)
    reader.look(folder)
    assert sorted(reader.rows(parse)) == whole(tailpipe) != []
    for period in (None, month(deployed, 1), None):  # a restatement, late data, and another restatement
        deliver(deployed, period)
        reader.look(folder)
        assert sorted(reader.rows(parse)) == whole(tailpipe)
    fetched = reader.fetched
    reader.look(folder)
    assert reader.fetched == fetched
    restarted = follower(tailpipe, bucket)  # it lost what it knew
    restarted.look(folder)
    assert sorted(restarted.rows(parse)) == whole(tailpipe)
    run(deployed)  # a month that no run saw would not be missed
    s3 = deployed.client("s3")
    for one in s3.list_objects_v2(Bucket=bucket, Prefix=f"{PREFIX}{EXPORT}/")["Contents"]:
        if month(deployed, 1) in one["Key"]:
            s3.delete_object(Bucket=bucket, Key=one["Key"])
    deployed.advance(HOUR)
    run(deployed)
    for one in (reader, restarted):
        one.look(folder)
        assert sorted(one.rows(parse)) == whole(tailpipe)
    by_events = follower(tailpipe, bucket)
    by_events.events([*subscriber.received()] * 2)
    assert sorted(by_events.rows(parse)) == whole(tailpipe)


def test_lost_and_repeated_events_end_in_the_same_documents(deployed: LocalAws, subscriber: Subscriber) -> None:
    """What no event named, the next run announces; what came twice, is announced once."""
    subscriber.received()
    deployed.event_faults(loss=1)
    deliver(deployed)
    assert subscriber.received() == []
    deployed.event_faults(copies=3)
    run(deployed)
    lost = subscriber.received()
    deliver(deployed)
    repeated = subscriber.received()
    deployed.event_faults()
    assert [len(lost), len(repeated)] == [1, 1]
    assert repeated[0]["data"]["previous"]["id"] == lost[0]["id"]


def test_the_collector_has_the_rights_that_it_uses_and_no_others(deployed: LocalAws) -> None:
    """Each grant was used on what it names, and nothing else was needed."""
    deliver(deployed)
    role = f"arn:aws:iam::{deployed.account}:role/{COLLECTOR}"
    used = {(one["action"], one["resource"]) for one in deployed.accesses(role)}
    conditions = {"events", "deliveries"}
    assert superfluous(used, holder="collector", conditions=conditions) == []
    assert missing(used, holder="collector", conditions=conditions) == []
    assert beyond(holder="collector") == set()
