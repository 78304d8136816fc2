"""What was delivered, from the bulk listing of the storage accounts: the cheapest proof that an export lives.

An account is listed a part a run, on from where the last run ended: Azure writes a scope's folder before the period's
(``{folder}/{export}/{period}/…``), so no prefix names the newest periods of all scopes, and a listing of everything
would grow with every month. A run reads as many pages as the blobs of the last two periods fill; a whole round takes
half as many runs as there are months. What a run does not list stays as an earlier run saw it.

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
from azure_function.targets import ROOT
from shared.errors import CloudError, Permanent
from shared.periods import Period
from shared.runtime.context import RunContext
from shared.target_state import Count, Moment, TargetState

PAGE = 5000  # the most that storage returns at once
MANIFEST = "/manifest.json"
LISTING = "listing"  # the fact that holds the progress of an account's listing
# {folder}/{export}/{YYYYMMDD-YYYYMMDD}/{run, one or two levels}/manifest.json
_PATH = re.compile(r"(?P<folder>.+)/(?P<export>[^/]+)/(?P<month>\d{6})\d\d-\d{8}/.+")


class Delivery(msgspec.Struct, gc=False):
    """What one export has delivered: the newest manifest's time, its account, and the months that have a manifest.

    `account` is the name of the storage account. `manifest` is the blob of the newest manifest of the newest `month`,
    `written` its time: a backfill of past months says nothing about the present one. `bare` are manifests of
    earlier months beside which nothing lies, by month. `files` are the blobs of each month (``YYYYMM``) as far as they
    were listed.
    """

    at: Moment
    account: str
    months: set[str]
    month: str
    manifest: str
    written: Moment
    bare: dict[str, str] = {}
    files: dict[str, MonthFiles] = {}


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the listing of an account has come; it is remembered with the container.

    The present round `begun` then, the whole one `before` it at that time. The next page is that of `marker`, after the
    blob `after`; both are "" at the beginning. `recent` blobs were of recent periods in the last whole round, `counted`
    of them in the present one so far. `cut` is what was seen of the export whose blobs the last page did not end.
    `archived` of the recent blobs were in the archive tier in the present round so far, `archived_before` in the last
    one; `example` is one of them.
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


class Seen(msgspec.Struct, frozen=True):
    """What is known of an export's deliveries: the last one's time, its account ("" if memory tells), and as of when.

    `listed_at` is None where deliveries could not be listed.
    """

    at: datetime | None = None
    account: str = ""
    listed_at: datetime | None = None


class Page(msgspec.Struct, frozen=True):
    """A page of a listing: its manifests with their times, its last blob, and how many blobs are of recent periods.

    `archived` are those of the recent ones that lie in the archive tier. `bare` are manifests of earlier periods beside
    which nothing lies. `files` are the blobs by folder, export and month.
    """

    manifests: list[tuple[str, datetime]]
    last: str
    recent: int
    archived: list[str]
    bare: list[str]
    files: dict[tuple[str, str, str], MonthFiles]


class Part(msgspec.Struct, frozen=True):
    """The part of an account that a run has listed: the folders between two positions (``folder/``), without them.

    `begin` is "" for the beginning, `end` None for the end.
    """

    begin: str = ""
    end: str | None = None

    def holds(self, folder: str) -> bool:
        """Return whether everything below a folder was listed."""
        return (not self.begin or f"{folder}/" > self.begin) and (self.end is None or f"{folder}/" < self.end)


class Archived(msgspec.Struct):
    """How many blobs of an account that have to be readable lie in the archive tier, and one of them."""

    count: int
    example: str


class Deliveries:
    """The deliveries of one run's survey.

    `failed` holds the error of each account whose listing failed, by its resource id: of what lies there nothing is
    known. `archived` holds, by resource id, what of this month and the last one cannot be read.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._found: dict[tuple[str, str], Delivery] = {}
        self._files: dict[tuple[str, str], dict[str, MonthFiles]] = defaultdict(dict)
        self._read: set[tuple[str, str]] = set()
        self._parts: dict[str, list[Part]] = {}  # by the account's name
        self._rounds: dict[str, Progress] = {}  # as they stood when the run began
        self.failed: dict[str, CloudError] = {}
        self.archived: dict[str, Archived] = {}
        self._lock = threading.Lock()

    def read(self, folder: str, export: str) -> None:
        """List one export's folder in every account; called from several threads.

        Notes a failure in `failed`.
        """
        for account in self._settings.destination:
            client = self._clients.container(account.name, self._settings.container)
            pages = client.list_blobs(name_starts_with=f"{folder}/{export}/", results_per_page=PAGE).by_page()
            try:
                while (page := self._page(pages)) is not None:
                    self._note_all(account, page)
                    with self._lock:
                        for name in page.archived:
                            self.archived.setdefault(account.id, Archived(0, name)).count += 1
            except CloudError as error:
                self.failed[account.id] = error
        self._read.add((folder, export))

    def go_on(self, account: Storage, progress: Progress | None) -> Progress | None:
        """List the next part of an account's export container, all of it if there is no `progress`; return the new one.

        None where the listing failed: that is noted in `failed`.
        """
        now = self._run.clock.now()
        try:
            return self._go_on(account, progress or Progress(begun=now), limited=progress is not None)
        except Permanent as error:
            if progress is None or not progress.marker:
                self.failed[account.id] = error
                return None
            # Azure no longer takes the marker that it gave: a new round begins.
            return self.go_on(account, msgspec.structs.replace(progress, begun=now, marker="", after="", cut=None))
        except CloudError as error:
            self.failed[account.id] = error
            return None

    def _go_on(self, account: Storage, progress: Progress, *, limited: bool) -> Progress:
        now, began = self._run.clock.now(), position(progress.after)
        self._rounds[account.name] = progress
        parts = self._parts[account.name] = []
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
                parts.append(Part(start))
                at = Progress(
                    begun=now,
                    before=at.begun,
                    recent=at.counted,
                    archived_before=at.archived,
                    example=at.example if at.archived else "",
                )
                start = ""
                if not began:
                    return self._with_archived(account, at)
                pages = self._pages(account)  # on from the beginning, up to where this run began
            enough = limited and read > max(at.recent, at.counted, recent) // PAGE
            if enough or (not start and began and position(at.after) >= began):
                break
        parts.append(Part(start, position(at.after)))
        cut, files = self._found.pop(key_of(at.after), None), self._files.pop(key_of(at.after), {})
        if cut is not None:
            cut.files = files
        at = msgspec.structs.replace(at, cut=cut)
        return self._with_archived(account, at)

    def _with_archived(self, account: Storage, at: Progress) -> Progress:
        """Return the progress; note what lies in the archive tier by the present round, else by the last one."""
        count = at.archived or at.archived_before
        if count:
            self.archived[account.id] = Archived(count, at.example)
        return at

    def _pages(self, account: Storage, marker: str = "") -> Any:
        client = self._clients.container(account.name, self._settings.container)
        return client.list_blobs(name_starts_with=f"{ROOT}/", results_per_page=PAGE).by_page(marker or None)

    def of(self, folder: str, export: str) -> Delivery | None:
        """Return what an export has delivered to any of our accounts as this run has listed it, or None."""
        return self._found.get((folder, export))

    def periods(self, folder: str, export: str, since: datetime | None) -> dict[str, Period]:
        """Return what this run's listing shows of an export's months; `since`: it delivered, and exists since then."""
        months = self._files.get((folder, export), {})
        whole = not self.failed and ((folder, export) in self._read or self._parts_hold(folder))
        return periods_of(months, self._run.clock.now(), whole=whole, since=since)

    def is_listed(self, folder: str, export: str) -> bool:
        """Return whether this run has listed everything that an export may have delivered."""
        if (folder, export) in self._found or (folder, export) in self._read:
            return True
        return self._parts_hold(folder)

    def _parts_hold(self, folder: str) -> bool:
        parts = [self._parts.get(one.name, ()) for one in self._settings.destination]
        return all(any(part.holds(folder) for part in of_account) for of_account in parts)

    def listed_at(self, folder: str, export: str) -> datetime | None:
        """Return a time since which an export's folder has been listed, at the latest; None if that is not known."""
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
        known = [one for one in times if one is not None]
        return min(known) if known and len(known) == len(times) else None

    def _note_all(self, account: Storage, page: Page) -> None:
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
            self._found[key] = Delivery(modified, account.name, month, match["month"], name, modified)
            return
        known.months |= month
        if (match["month"], modified) > (known.month, known.written):
            known.month, known.manifest, known.written = match["month"], name, modified
        if modified > known.at:
            known.at, known.account = modified, account.name

    def _page(self, pages: Iterator[Any]) -> Page | None:
        return self._run.calls(STORAGE, _next_page, pages, self._recent())

    def _recent(self) -> str:
        """Return the month (YYYYMM) before the present one."""
        return f"{self._run.clock.now().replace(day=1) - timedelta(days=1):%Y%m}"


def progress_of(entry: TargetState | None) -> Progress | None:
    """Return how far the listing has come by what is remembered of the container; None if that is not known."""
    try:
        return msgspec.convert(entry.facts[LISTING], Progress) if entry else None
    except (KeyError, msgspec.ValidationError):
        return None


def key_of(name: str) -> tuple[str, str]:
    """Return folder and export of a blob's name; ("", "") for another's."""
    match = _PATH.fullmatch(name)
    return (match["folder"], match["export"]) if match else ("", "")


def position(name: str) -> str:
    """Return where in the order of folders a blob stands: its folder with a slash, or its name if it is another's."""
    folder, _ = key_of(name)
    return f"{folder}/" if folder else name


def _next_page(pages: Iterator[Any], since: str) -> Page | None:
    """Return the next page; None after the last one. `since` is the first recent month.

    The page is read whole within the guarded call. Other parts of reports are dropped at once: there are many more.
    """
    page = next(pages, None)
    if page is None:
        return None
    manifests, archived, bare, last, recent = [], [], list[str](), "", 0
    files: dict[tuple[str, str, str], MonthFiles] = {}
    alone = ""  # the manifest before this blob, if nothing came before it in its folder
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
            one = MonthFiles(folder, int(counted), int(blob.size or 0) if counted else 0, written, written)
            known = files.setdefault((match["folder"], match["export"], match["month"]), one)
            if known is not one:
                known.add(one)
    return Page(manifests, last, recent, archived, bare, files)


def _is_archived(blob: Any) -> bool:
    """Return whether a listed blob lies in the archive tier, and is not being brought back from it."""
    return str(blob.blob_tier or "").lower() == "archive" and not blob.archive_status
