"""Listing a long history of deliveries, in a container whose pages are generated on demand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from azure_function.clients import RATES, Clients
from azure_function.errors import translate
from azure_function.resources.deliveries import PAGE, Deliveries, ListingProgress
from azure_function.settings import Storage, read_settings
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.bench.measure import Measure

SUBSCRIPTIONS, MONTHS, FILES = 10_000, 36, 9  # one manifest and eight parts per month
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
GROUP = "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/g"
ACCOUNT = f"{GROUP}/providers/Microsoft.Storage/storageAccounts/one"
STARTS = [f"{2023 + month // 12}{month % 12 + 1:02d}" for month in range(11, 47)]  # the last is November 2026
LAST = SUBSCRIPTIONS * MONTHS * FILES


class Blob:
    """A blob in a listing."""

    def __init__(self, number: int) -> None:
        scope, rest = divmod(number, MONTHS * FILES)
        month, file = divmod(rest, FILES)
        name = "manifest.json" if file == 0 else f"part_0_{file:04d}.csv.gz"
        root = f"tailpipe/subscriptions/{scope:08x}-0000-4000-8000-000000000000/TailpipeDataExport-000000"
        self.name = f"{root}/{STARTS[month]}01-{STARTS[month]}28/run/{name}"
        self.last_modified = NOW


class Container(Clients):
    """Clients with one container; `pages` is the number of requested pages."""

    def __init__(self) -> None:
        self.pages = 0

    def container(self, account: str, name: str) -> Any:
        return self

    def list_blobs(self, **_: Any) -> Container:
        return self

    def by_page(self, marker: str | None = None) -> Pages:
        return Pages(self, int(marker or 0))


class Pages:
    """The pages of the container from a marker on, which is the number of a blob."""

    def __init__(self, container: Container, start: int) -> None:
        self._container = container
        self._next = start
        self.continuation_token: str | None = None

    def __next__(self) -> list[Blob]:
        self._container.pages += 1
        first, self._next = self._next, min(self._next + PAGE, LAST)
        self.continuation_token = str(self._next) if self._next < LAST else None
        return [Blob(number) for number in range(first, self._next)]


def measures() -> Iterator[Measure]:
    """Yield the pages that a run lists, and the runs until every subscription is listed."""
    settings = read_settings({"DESTINATION": ACCOUNT, "STATE_ACCOUNT": "state"})
    container, most, runs, now = Container(), 0, 0, NOW
    progress: ListingProgress | None = None
    listed: set[int] = set()
    first = 0
    while len(listed) < SUBSCRIPTIONS:
        run = RunContext("azure", settings.engine, lambda *_: None, VirtualClock(now), 3600, RATES, translate, 1)
        deliveries, before = Deliveries(settings, container, run), container.pages
        progress = deliveries.continue_listing(Storage(ACCOUNT), progress)
        if progress is None:
            raise RuntimeError(f"the listing failed: {deliveries.failed}")
        if runs == 0:
            first = container.pages
        else:
            most = max(most, container.pages - before)
            for scope in range(SUBSCRIPTIONS):
                folder = f"tailpipe/subscriptions/{scope:08x}-0000-4000-8000-000000000000"
                if deliveries.is_listed(folder, "TailpipeDataExport-000000"):
                    listed.add(scope)
        runs, now = runs + 1, now + timedelta(hours=1)
    recent = SUBSCRIPTIONS * 2 * FILES
    method = (
        f"{LAST:,} blobs of {SUBSCRIPTIONS:,} subscriptions, {MONTHS} months and {FILES} files each, in a container "
        f"with pages of {PAGE:,} and no network; the first run lists all {first} pages"
    )
    yield Measure(
        "azure.steady_10k_36m.list_calls",
        most,
        "calls",
        recent // PAGE + 1,
        f"the largest number of pages that a later run lists; target: {recent:,} blobs of the last two periods at "
        f"{PAGE:,} per page, plus one page; {method}",
    )
    yield Measure(
        "azure.steady_10k_36m.round_runs",
        runs - 1,
        "runs",
        MONTHS / 2 + 1,
        f"hourly runs until each subscription's folder has been listed again; {method}",
    )
