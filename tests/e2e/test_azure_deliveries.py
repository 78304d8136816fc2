"""Deliveries reach a reader: Event Grid's events, the real worker runtime, and a reader with the connector's rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import TAILPIPE_APP
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.runtime.worker import AzureWorker
from tests.readers.azure import blob_service
from tests.readers.deltas import Changed, DeltaReader

APP = "azure_function.handler"


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant of two subscriptions whose function announces deliveries."""
    with LocalAzure(subscriptions=2, deliveries=True, limits=UNLIMITED) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def function(azure: LocalAzure, repository: Path) -> Iterator[AzureWorker]:
    """Return the function as the platform runs it, by its own identity."""
    with AzureWorker(APP, {**azure.environment(), **azure.keyless()}, task_root=repository) as worker:
        assert worker.functions()["delivery_event"][0]["type"] == "eventGridTrigger"
        assert worker.invoke_timer("reconcile_timer").error is None
        yield worker


@pytest.fixture(scope="module")
def container(azure: LocalAzure) -> Iterator[ContainerClient]:
    """Return the export container, opened by Tailpipe's enterprise application."""
    url = f"{azure.keyless()['BLOB_ENDPOINT']}/{azure.destinations[0].name}"
    with blob_service(url, partial(azure.app_token, TAILPIPE_APP)) as client:
        yield client.get_container_client("dataexport")


def follower(container: ContainerClient) -> DeltaReader:
    """Return a new reader of the deliveries."""

    def fetch(said: Mapping[str, Any]) -> bytes:
        try:
            stream = container.download_blob(said["name"])
        except ResourceNotFoundError as error:
            raise Changed from error
        return bytes(stream.readall())

    def read(name: str) -> bytes | None:
        try:
            return bytes(container.download_blob(name).readall())
        except ResourceNotFoundError:
            return None

    return DeltaReader(lambda prefix: list(container.list_blob_names(name_starts_with=prefix)), read, fetch)


def contents(reader: DeltaReader) -> dict[str, bytes]:
    """Return the files that a reader has, by name."""
    return {name: kept.content for period in reader.periods.values() for name, kept in period.files.items()}


def delivered(container: ContainerClient) -> dict[str, bytes]:
    """Return all delivered files as a full read finds them."""
    names = [one for one in container.list_blob_names(name_starts_with="tailpipe/") if not one.endswith(".json")]
    return {name: bytes(container.download_blob(name).readall()) for name in names}


def push(azure: LocalAzure, function: AzureWorker) -> None:
    """Deliver all events to the function."""
    for one in azure.world.manifest_events.take(azure.clock.now()):
        assert function.invoke_event(one.event).error is None


def test_reader_rebuilds_a_month_from_deltas_alone(
    azure: LocalAzure, function: AzureWorker, container: ContainerClient
) -> None:
    """After restatements, a late event, a crash, a lost event and a deletion it has what a full read finds."""
    steady = follower(container)
    azure.deliver()
    push(azure, function)
    steady.look("")
    assert contents(steady) == delivered(container) != {}
    for _ in range(2):  # each restatement replaces the files; nobody reads the first
        azure.deliver()
        push(azure, function)
    steady.look("")
    assert contents(steady) == delivered(container)
    azure.deliver()
    function.crash()
    push(azure, function)
    newcomer = azure.join_subscription("newcomer")
    assert function.invoke_timer("reconcile_timer").error is None
    azure.deliver([newcomer])
    azure.world.manifest_events.waiting.clear()  # lost: the next run announces it
    assert function.invoke_timer("reconcile_timer").error is None
    steady.look("")
    assert contents(steady) == delivered(container)
    assert any(newcomer in name for name in contents(steady))
    gone = [one for one in delivered(container) if azure.subscription_ids[1] in one]
    with azure.blob_client() as owner:
        for name in (*gone, f"{gone[0].rpartition('/')[0]}/manifest.json"):
            owner.get_blob_client("dataexport", name).delete_blob()
    azure.deliver([azure.subscription_ids[1]])
    push(azure, function)
    steady.look("")
    late = follower(container)
    late.look("")
    assert contents(steady) == contents(late) == delivered(container)


def test_events_of_the_topic_alone_rebuild_a_month(
    azure: LocalAzure, function: AzureWorker, container: ContainerClient
) -> None:
    """Twice and in reverse, they lead to the same files; what they lack is read from the documents."""
    azure.deliver()
    push(azure, function)
    reader = follower(container)
    events = [one.event for one in azure.world.published]
    reader.events([*reversed(events), *events])
    assert contents(reader) == delivered(container)


@pytest.mark.slow  # the host waits for real before it delivers again
def test_failed_event_is_delivered_again(azure: LocalAzure, repository: Path) -> None:
    """The topic refuses: the function fails, Event Grid repeats the event, and then it is published."""
    with LocalAzure(
        subscriptions=1,
        deliveries=True,
        limits=UNLIMITED,
        start=lambda environment: AzureWorker(APP, {**environment, **cloud.keyless()}, task_root=repository),
    ) as cloud:
        assert cloud.tick("reconcile_timer")
        cloud.deliver()
        cloud.fault("Microsoft.EventGrid/*", "InternalServerError", "broken", status=500, times=None)
        assert cloud.push_events() == {"accepted": 0, "failed": 1}
        cloud.clear_faults()
        (waiting,) = cloud.world.manifest_events.waiting
        assert waiting.attempts == 1
        waiting.due = cloud.clock.now()
        assert cloud.push_events() == {"accepted": 1, "failed": 0}
        assert len(cloud.world.published) == 1
