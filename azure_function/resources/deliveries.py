"""Lists the delivered blobs of the storage accounts in bulk: the cheapest proof that an export delivers.

Each run lists a part of an account and continues where the previous run stopped. In Azure's layout, the folder of the
scope comes before that of the period (``{folder}/{export}/{period}/…``), so no prefix selects the newest periods of all
scopes, and a full listing would grow every month. A run reads as many pages as the blobs of the last two periods fill,
so a full round takes about half as many runs as there are months. For the rest, the results of earlier runs apply.

The module is long because listing, position and merging of pages are one procedure.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from azure_function.clients import STORAGE, Clients
from azure_function.resources.delivery_periods import MonthFiles, periods_of
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import ROOT, is_own
from shared.errors import CloudError, Permanent
from shared.periods import Period
from shared.runtime.context import RunContext
from shared.target_state import Count, Moment, TargetState

PAGE = 5000  # blobs; the maximum of a List Blobs response
MANIFEST = "/manifest.json"
LISTING = "listing"  # the fact of a container that stores the progress of its listing
# {folder}/{export}/{YYYYMMDD-YYYYMMDD}/{run, one or two levels}/manifest.json
_PATH = re.compile(r"(?P<folder>.+)/(?P<export>[^/]+)/(?P<month>\d{6})\d\d-\d{8}/.+")


class Delivery(msgspec.Struct, gc=False):
    """The deliveries of one export, as far as they were listed.

    `at` is the time of the newest manifest and `account` the name of its storage account. `months` are the months with
    a manifest (``YYYYMM``). `manifest` is the blob name of the newest manifest of the newest `month`, `written` its
    time; a backfill of past months does not change them. `bare` are the manifests of earlier months whose files are
    gone, by month. `files` are the blobs of each month.
    """

    at: Moment
    account: str
    months: set[str]
    month: str
    manifest: str
    written: Moment
    bare: dict[str, str] = {}
    files: dict[str, MonthFiles] = {}


class ListingProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """The progress of the listing of a storage account, stored with the state of its container.

    `begun` is the start of the current round, `before` that of the last complete one. The next page is at `marker`,
    after the blob `after`; both are "" at the start of a round. `recent` is the number of blobs of recent periods in
    the last complete round, `counted` that of the current round so far. `cut` is the delivery of the export whose blobs
    continue on the next page. `archived` is the number of recent blobs in the archive tier in the current round so far,
    `archived_before` in the last one; `example` is the name of one.
    """

    begun: Moment
    before: Moment | None = None
    marker: str = ""
    after: str = ""
    recent: Count = 0
    counted: Count = 0
    cut: Delivery | None = None
    archived: Count = 0
    archived_before: Count = 0
    example: str = ""


class LastDelivery(msgspec.Struct, frozen=True):
    """The last known delivery of an export: its time, its storage account, and when its folder was listed.

    `account` is "" if the time comes from the state document. `listed_at` is None if the listing failed.
    """

    at: datetime | None = None
    account: str = ""
    listed_at: datetime | None = None


class ListingPage(msgspec.Struct, frozen=True):
    """A page of a listing: its manifests with their times, its last blob, and its number of blobs of recent periods.

    `archived` are the recent blobs in the archive tier. `bare` are the manifests of earlier periods whose files are
    gone. `files` are the blobs by folder, export and month.
    """

    manifests: list[tuple[str, datetime]]
    last: str
    recent: int
    archived: list[str]
    bare: list[str]
    files: dict[tuple[str, str, str], MonthFiles]


class ListedRange(msgspec.Struct, frozen=True):
    """A range of folders that a run has listed completely: those between two positions (``folder/``), exclusive.

    `begin` "" is the start of the account, `end` None its end.
    """

    begin: str = ""
    end: str | None = None

    def contains(self, folder: str) -> bool:
        """Return whether everything below a folder was listed."""
        return (not self.begin or f"{folder}/" > self.begin) and (self.end is None or f"{folder}/" < self.end)


class ArchivedBlobs(msgspec.Struct):
    """How many of the blobs that Tailpipe must read are in the archive tier, and the name of one of them."""

    count: int
    example: str


class Deliveries:
    """The deliveries that one run has listed.

    `failed` has the error of each storage account whose listing failed, by resource id; the blobs of that account are
    unknown. `archived` has the blobs of this month and the last one that are in the archive tier, by resource id.
    `others` has the exports that deliver to our folders without having our names, by folder.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._found: dict[tuple[str, str], Delivery] = {}
        self._files: dict[tuple[str, str], dict[str, MonthFiles]] = defaultdict(dict)
        self._read: set[tuple[str, str]] = set()
        self._ranges: dict[str, list[ListedRange]] = {}  # by account name
        self._rounds: dict[str, ListingProgress] = {}  # by account name, as of the start of the run
        self.failed: dict[str, CloudError] = {}
        self.archived: dict[str, ArchivedBlobs] = {}
        self.others: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def read(self, folder: str, export: str) -> None:
        """List the folder of one export in every storage account. Safe to call from several threads.

        Records a failure in `failed`.
        """
        for account in self._settings.destination:
            client = self._clients.container(account.name, self._settings.container)
            pages = client.list_blobs(name_starts_with=f"{folder}/{export}/", results_per_page=PAGE).by_page()
            try:
                while (page := self._page(pages)) is not None:
                    self._note_all(account, page)
                    with self._lock:
                        for name in page.archived:
                            self.archived.setdefault(account.id, ArchivedBlobs(0, name)).count += 1
            except CloudError as error:
                self.failed[account.id] = error
        self._read.add((folder, export))

    def continue_listing(self, account: Storage, progress: ListingProgress | None) -> ListingProgress | None:
        """List the next part of an account's export container, or all of it if there is no `progress`.

        Returns the new progress. Records a failure in `failed`, and returns None.
        """
        now = self._run.clock.now()
        try:
            return self._continue_listing(account, progress or ListingProgress(begun=now), limited=progress is not None)
        except Permanent as error:
            if progress is None or not progress.marker:
                self.failed[account.id] = error
                return None
            # Azure no longer accepts the stored marker: start a new round.
            return self.continue_listing(
                account, msgspec.structs.replace(progress, begun=now, marker="", after="", cut=None)
            )
        except CloudError as error:
            self.failed[account.id] = error
            return None

    def _continue_listing(self, account: Storage, progress: ListingProgress, *, limited: bool) -> ListingProgress:
        now, began = self._run.clock.now(), position(progress.after)
        self._rounds[account.name] = progress
        ranges = self._ranges[account.name] = []
        if progress.cut is not None:
            self._found[key_of(progress.after)] = progress.cut
            self._files[key_of(progress.after)] = progress.cut.files
            progress.cut.files = {}
        pages, start, read, recent, at = self._pages(account, progress.marker), began, 0, 0, progress
        while True:
            page = self._page(pages)
            self._run.heartbeat()
            if page is not None:
                read, recent = read + 1, recent + page.recent
                self._note_all(account, page)
                at = msgspec.structs.replace(
                    at,
                    marker=str(pages.continuation_token or ""),
                    after=page.last or at.after,
                    counted=at.counted + page.recent,
                    archived=at.archived + len(page.archived),
                    example=page.archived[0] if page.archived else at.example,
                )
            if page is None or not at.marker:
                ranges.append(ListedRange(start))
                at = ListingProgress(
                    begun=now,
                    before=at.begun,
                    recent=at.counted,
                    archived_before=at.archived,
                    example=at.example if at.archived else "",
                )
                start = ""
                if not began:
                    return self._with_archived(account, at)
                pages = self._pages(account)  # continue from the start of the account, up to where this run began
            enough = limited and read > max(at.recent, at.counted, recent) // PAGE
            if enough or (not start and began and position(at.after) >= began):
                break
        ranges.append(ListedRange(start, position(at.after)))
        cut, files = self._found.pop(key_of(at.after), None), self._files.pop(key_of(at.after), {})
        if cut is not None:
            cut.files = files
        at = msgspec.structs.replace(at, cut=cut)
        return self._with_archived(account, at)

    def _with_archived(self, account: Storage, at: ListingProgress) -> ListingProgress:
        """Return the progress unchanged; record the archived blobs of the current round, else of the last one."""
        count = at.archived or at.archived_before
        if count:
            self.archived[account.id] = ArchivedBlobs(count, at.example)
        return at

    def _pages(self, account: Storage, marker: str = "") -> Any:
        client = self._clients.container(account.name, self._settings.container)
        return client.list_blobs(name_starts_with=f"{ROOT}/", results_per_page=PAGE).by_page(marker or None)

    def of(self, folder: str, export: str) -> Delivery | None:
        """Return the deliveries of an export to any of the storage accounts that this run has listed, or None."""
        return self._found.get((folder, export))

    def periods(self, folder: str, export: str, since: datetime | None) -> dict[str, Period]:
        """Return the months of an export that this run has listed (see `periods_of`)."""
        months = self._files.get((folder, export), {})
        whole = not self.failed and ((folder, export) in self._read or self._is_in_ranges(folder))
        return periods_of(months, self._run.clock.now(), whole=whole, since=since)

    def is_listed(self, folder: str, export: str) -> bool:
        """Return whether this run has listed all deliveries of an export."""
        if (folder, export) in self._found or (folder, export) in self._read:
            return True
        return self._is_in_ranges(folder)

    def _is_in_ranges(self, folder: str) -> bool:
        ranges = [self._ranges.get(account.name, ()) for account in self._settings.destination]
        return all(any(listed.contains(folder) for listed in of_account) for of_account in ranges)

    def listed_at(self, folder: str, export: str) -> datetime | None:
        """Return the start of the listing round that last covered an export's folder; None if it is not known."""
        if self.failed:
            return None
        if self.is_listed(folder, export):
            return self._run.clock.now()
        times = []
        for account in self._settings.destination:
            progress = self._rounds.get(account.name)
            if progress is None:
                return None
            times.append(progress.begun if f"{folder}/" < position(progress.after) else progress.before)
        known = [time for time in times if time is not None]
        return min(known) if known and len(known) == len(times) else None

    def _note_all(self, account: Storage, page: ListingPage) -> None:
        for (folder, export, month), files in page.files.items():
            known = self._files[folder, export].setdefault(month, files)
            if known is not files:
                known.add(files)
        for name, modified in page.manifests:
            self._note(account, name, modified)
        for name in page.bare:
            match, delivery = _PATH.fullmatch(name), self._found.get(key_of(name))
            if match is not None and delivery is not None:
                delivery.bare = {**delivery.bare, match["month"]: name}

    def _note(self, account: Storage, name: str, modified: datetime) -> None:
        match = _PATH.fullmatch(name.removesuffix(MANIFEST))
        if match is None:
            return
        key = (match["folder"], match["export"])
        known = self._found.get(key)
        month = {match["month"]} if self._settings.backfills else set()
        if known is None:
            if not is_own(*key):
                self.others.setdefault(match["folder"], set()).add(match["export"])
            self._found[key] = Delivery(modified, account.name, month, match["month"], name, modified)
            return
        known.months |= month
        if (match["month"], modified) > (known.month, known.written):
            known.month, known.manifest, known.written = match["month"], name, modified
        if modified > known.at:
            known.at, known.account = modified, account.name

    def _page(self, pages: Iterator[Any]) -> ListingPage | None:
        return self._run.calls(STORAGE, _next_page, pages, self._recent())

    def _recent(self) -> str:
        """Return the month (YYYYMM) before the present one."""
        return f"{self._run.clock.now().replace(day=1) - timedelta(days=1):%Y%m}"


def progress_of(entry: TargetState | None) -> ListingProgress | None:
    """Return the stored progress of a container's listing, or None if it is missing or not valid."""
    try:
        return msgspec.convert(entry.facts[LISTING], ListingProgress) if entry else None
    except (KeyError, msgspec.ValidationError):
        return None


def key_of(name: str) -> tuple[str, str]:
    """Return the folder and the export in a blob name; ("", "") if no export delivered it."""
    match = _PATH.fullmatch(name)
    return (match["folder"], match["export"]) if match else ("", "")


def position(name: str) -> str:
    """Return the sort position of a blob: its folder and a slash, or its name if no export delivered it."""
    folder, _ = key_of(name)
    return f"{folder}/" if folder else name


def _next_page(pages: Iterator[Any], since: str) -> ListingPage | None:
    """Return the next page; None after the last one. `since` is the first recent month (``YYYYMM``).

    The whole page is read inside the guarded call. It is reduced to a summary here, because most blobs are report files
    of which only size and time count.
    """
    page = next(pages, None)
    if page is None:
        return None
    manifests, archived, bare, last, recent = [], [], list[str](), "", 0
    files: dict[tuple[str, str, str], MonthFiles] = {}
    alone = ""  # the manifest before this blob, if it was the first blob of its folder
    for blob in page:
        before, last = last.rpartition("/")[0], str(blob.name)
        match, folder = _PATH.fullmatch(last), last.rpartition("/")[0]
        if alone and folder != before:
            bare.append(alone)
        earlier = match is not None and match["month"] < since
        alone = last if earlier and last.endswith(MANIFEST) and before and folder != before else ""
        if match is not None and match["month"] >= since:
            recent += 1
            if _is_archived(blob):
                archived.append(last)
        written = blob.last_modified.astimezone(UTC)
        if last.endswith(MANIFEST):
            manifests.append((last, written))
        if match is not None:
            counted = not last.endswith(MANIFEST)
            added = MonthFiles(folder, int(counted), int(blob.size or 0) if counted else 0, written, written)
            known = files.setdefault((match["folder"], match["export"], match["month"]), added)
            if known is not added:
                known.add(added)
    return ListingPage(manifests, last, recent, archived, bare, files)


def _is_archived(blob: Any) -> bool:
    """Return whether a listed blob is in the archive tier, and is not being rehydrated."""
    return str(blob.blob_tier or "").lower() == "archive" and not blob.archive_status
