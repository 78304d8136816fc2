"""The listing of blobs: a part in each run, every folder within a round, regardless of the history."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

import azure_function.resources.deliveries as listing
from azure_function.clients import RATES, Clients
from azure_function.errors import translate
from azure_function.resources.deliveries import ArchivedBlobs, Deliveries, ListingProgress, progress_of
from azure_function.settings import AzureSettings, Storage, read_settings
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import CONTAINER
from shared.errors import Permanent
from shared.model import Result, Verb
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from shared.target_state import TargetState
from tests.azure_function.support import HOUR, START, Lines, advance, messages, outcome, run

MONTHS = [f"{2023 + month // 12}{month % 12 + 1:02d}" for month in range(11, 47)]  # December 2023 to November 2026
GROUP = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/g"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/one"


class Blob:
    """A blob in the SDK's listing."""

    archive_status = None
    size = 100

    def __init__(self, name: str, written: datetime, tier: str = "Hot") -> None:
        self.name, self.last_modified, self.blob_tier = name, written, tier


class Container:
    """A container in memory with the SDK's interface.

    `pages` counts the listed pages; `refused` is a marker that it rejects.
    """

    def __init__(self, blobs: Sequence[Blob], refused: str = "") -> None:
        self.blobs = sorted(blobs, key=lambda one: one.name)
        self.pages = 0
        self.refused = refused
        self._listing = ("", 1)

    def list_blobs(self, name_starts_with: str, results_per_page: int) -> Container:
        self._listing = (name_starts_with, results_per_page)
        return self

    def by_page(self, continuation_token: str | None = None) -> Pages:
        prefix, size = self._listing
        blobs = [one for one in self.blobs if one.name.startswith(prefix) and one.name > (continuation_token or "")]
        return Pages(self, blobs, size, continuation_token or "")


class Pages:
    """The pages of a listing, with a marker after each page but the last."""

    def __init__(self, container: Container, blobs: list[Blob], size: int, marker: str) -> None:
        self._container, self._blobs, self._size, self._marker = container, blobs, size, marker
        self.continuation_token: str | None = marker

    def __next__(self) -> list[Blob]:
        if self._marker and self._marker == self._container.refused:
            raise Permanent("OutOfRangeInput", "One of the request inputs is out of range.")
        if self.continuation_token is None:
            raise StopIteration
        self._container.pages += 1
        page, self._blobs = self._blobs[: self._size], self._blobs[self._size :]
        self.continuation_token = page[-1].name if self._blobs else None
        return page


class ClientsOfOneContainer(Clients):
    """Clients that return the same container for every account."""

    def __init__(self, container: Container) -> None:
        self._only: Any = container

    def container(self, account: str, name: str) -> Any:
        return self._only


def settings() -> AzureSettings:
    """Return settings with one storage account and a backfill."""
    return read_settings({"DESTINATION": ACCOUNT, "STATE_ACCOUNT": "state", "BACKFILL_MONTHS": "84"})


def subscription(number: int) -> str:
    """Return a subscription id; consecutive numbers do not give consecutive ids."""
    return f"{number * 7919 % 65521:08x}-0000-4000-8000-{number:012x}"


def history(subscriptions: int, months: Sequence[str], parts: int, now: datetime) -> list[Blob]:
    """Return the blobs of several exports: in each month a manifest and files, the newest written at `now`."""
    return [
        Blob(f"tailpipe/subscriptions/{one}/export-{one[-6:]}/{month}01-{month}28/run/{name}", now)
        for one in map(subscription, range(subscriptions))
        for month in months
        for name in ["manifest.json", *(f"part_{number}.csv.gz" for number in range(parts))]
    ]


def one_run(
    container: Container, progress: ListingProgress | None, now: datetime
) -> tuple[Deliveries, ListingProgress, int]:
    """List the container as one run does. Return the deliveries, the new progress, and the number of pages."""
    clock = VirtualClock(now)
    own = settings()
    begun = RunContext("azure", own.engine, Lines(), clock, 3000, RATES, translate, 1)
    deliveries, before = Deliveries(own, ClientsOfOneContainer(container), begun), container.pages
    after = deliveries.continue_listing(Storage(ACCOUNT), progress)
    assert after is not None, deliveries.failed
    return deliveries, after, container.pages - before


@pytest.mark.parametrize(
    ("subscriptions", "months", "parts"), [(40, 36, 1), (17, 36, 8), (40, 2, 1), (3, 36, 0), (1, 36, 9)]
)
def test_run_reads_only_as_many_pages_as_two_periods_fill(
    monkeypatch: pytest.MonkeyPatch, subscriptions: int, months: int, parts: int
) -> None:
    """After the first run, it is one page more than the blobs of two periods fill.

    A round takes half as many runs as months.
    """
    monkeypatch.setattr(listing, "PAGE", 50)
    container = Container(history(subscriptions, MONTHS[-months:], parts, START - timedelta(hours=3)))
    recent = subscriptions * min(months, 2) * (parts + 1)
    names = {(f"tailpipe/subscriptions/{one}", f"export-{one[-6:]}") for one in map(subscription, range(subscriptions))}
    found, progress, pages = one_run(container, None, START)
    assert pages == -(-len(container.blobs) // 50)
    assert all(found.of(*name) for name in names)
    missing, runs = set(names), 0
    while missing:
        runs += 1
        found, progress, pages = one_run(container, progress, START + timedelta(hours=runs))
        assert pages <= recent // 50 + 1
        for name in names:
            seen = found.of(*name)
            if found.is_listed(*name):
                missing.discard(name)
                assert seen is not None
                assert (seen.month, seen.months) == (MONTHS[-1], set(MONTHS[-months:]))
            else:
                assert seen is None
        assert runs <= months / 2 + 2


def test_listed_at_is_never_later_than_the_last_listing_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run lists only a part of the folders."""
    monkeypatch.setattr(listing, "PAGE", 50)
    container = Container(history(40, MONTHS, 1, START))
    names = [(f"tailpipe/subscriptions/{one}", f"export-{one[-6:]}") for one in map(subscription, range(40))]
    found, progress, _ = one_run(container, None, START)
    listed = dict.fromkeys(names, START)
    for hours in range(1, 50):
        now = START + timedelta(hours=hours)
        found, progress, _ = one_run(container, progress, now)
        for name in names:
            at = found.listed_at(*name)
            if found.is_listed(*name):
                listed[name] = now
            assert at is not None
            assert at <= listed[name]
            assert now - at <= timedelta(hours=2 * 36), "two rounds at most"


def test_rejected_marker_starts_a_new_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired or damaged marker is not an error."""
    monkeypatch.setattr(listing, "PAGE", 50)

    container = Container(history(5, MONTHS, 0, START), refused="old")
    found, progress, _ = one_run(
        container, ListingProgress(begun=START, marker="old", after="tailpipe/subscriptions/f"), START
    )
    assert found.failed == {}
    assert (progress.begun, progress.marker != "old") == (START, True)
    assert found.is_listed(f"tailpipe/subscriptions/{subscription(0)}", "x"), "the container's first folder"


@pytest.mark.parametrize(
    "kept",
    [{}, {"listing": {}}, {"listing": {"begun": "yesterday"}}, {"listing": {"begun": START.isoformat(), "recent": -1}}],
)
def test_invalid_progress_in_the_state_is_ignored(kept: dict[str, Any]) -> None:
    """The whole container is then listed once."""
    assert progress_of(TargetState(at=START, remembered=kept)) is None
    assert progress_of(None) is None


def add_history(cloud: LocalAzure, months: Sequence[str]) -> None:
    """Add blobs of earlier months to what the exports have delivered."""
    with cloud.blob_client() as client:
        container = client.get_container_client(CONTAINER)
        for one in cloud.subscription_ids:
            root = f"tailpipe/subscriptions/{one}/TailpipeDataExport-{one[-6:]}"
            for month in months:
                for name in ("manifest.json", "part_0_0001.csv"):
                    container.upload_blob(f"{root}/{month}01-{month}28/{'0' * 8}-{month}/{name}", b"{}")


def test_stopped_export_is_detected_within_a_round_despite_a_long_history(
    covered: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a run every six hours, a round takes eight runs.

    The export is detected after two days and a round, and no other export is reported.
    """
    monkeypatch.setattr(listing, "PAGE", 20)
    add_history(covered, MONTHS[-25:-1])
    stopped, *others = covered.subscription_ids
    for quarter in range(22):
        if quarter % 4 == 0:
            covered.deliver(covered.subscription_ids if quarter < 4 else others)
        advance(covered, 6 * HOUR)
        finished = run(covered)
        assert {outcome(finished, other).result for other in others} == {Result.UNCHANGED}
        assert finished.report["scopes"]["delivering"] >= len(others)
        if outcome(finished, stopped).action.verb is Verb.REPAIR:
            break
    assert 8 <= quarter <= 8 + 8 + 1, "two days without a delivery, plus at most one round"


def test_archived_blob_is_reported_until_a_round_finds_it_rehydrated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run lists only a part, so the result of earlier runs counts. Blobs of old months are ignored."""
    monkeypatch.setattr(listing, "PAGE", 50)
    container = Container(history(40, MONTHS, 1, START - timedelta(hours=3)))
    own = [one for one in container.blobs if one.name.startswith(f"tailpipe/subscriptions/{subscription(7)}/")]
    for one in (own[0], own[-1]):
        one.blob_tier = "Archive"
    found, progress, _ = one_run(container, None, START)
    reported = [found.archived]
    for runs in range(1, 21):
        found, progress, _ = one_run(container, progress, START + timedelta(hours=runs))
        reported.append(found.archived)
    assert reported == [{ACCOUNT: ArchivedBlobs(1, own[-1].name)}] * 21
    own[-1].blob_tier = "Cool"
    runs = 21
    while found.archived:
        assert runs < 21 + 2 * (len(MONTHS) // 2 + 2)
        found, progress, _ = one_run(container, progress, START + timedelta(hours=runs))
        runs += 1


def test_lost_files_of_an_earlier_month_are_reported_within_a_round(
    covered: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest without its files is reported.

    A manifest that lists no files, and a month without a manifest, are not.
    """
    monkeypatch.setattr(listing, "PAGE", 20)
    lost, empty, gone, *others = covered.subscription_ids
    months = MONTHS[-9:-1]
    add_history(covered, months)
    with covered.blob_client() as client:
        container = client.get_container_client(CONTAINER)
        manifest = ""
        for one, files in ((lost, ["part_0_0001.csv"]), (empty, []), (gone, ["part_0_0001.csv"])):
            folder = f"tailpipe/subscriptions/{one}/TailpipeDataExport-{one[-6:]}/{months[3]}01-{months[3]}28"
            manifest = f"{folder}/{'0' * 8}-{months[3]}/manifest.json"
            container.delete_blob(manifest.replace("manifest.json", "part_0_0001.csv"))
            text = json.dumps({"blobs": [{"blobName": name, "byteCount": 2} for name in files]})
            container.upload_blob(manifest, text.encode(), overwrite=True)
        container.delete_blob(manifest)
        runs = []
        for _ in range(8):
            advance(covered, HOUR)
            runs.append(run(covered))
        codes = [outcome(one, lost).code for one in runs]
        assert "period-incomplete" in codes
        assert codes[-1] == "period-incomplete", "the finding is kept between rounds"
        assert months[3] in messages(runs[-1])
        for other in (empty, gone, *others):
            assert {outcome(one, other).result for one in runs} == {Result.UNCHANGED}
        container.upload_blob(
            f"tailpipe/subscriptions/{lost}/TailpipeDataExport-{lost[-6:]}/{months[3]}01-{months[3]}28/"
            f"{'0' * 8}-{months[3]}/part_0_0001.csv",
            b"{}",
        )
    for _ in range(6):
        advance(covered, HOUR)
        run(covered)
    assert outcome(run(covered), lost).result is Result.UNCHANGED
