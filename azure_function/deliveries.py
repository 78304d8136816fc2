"""What was delivered, from the bulk listing of the storage accounts: the cheapest proof that an export lives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from azure.storage.blob import ContainerClient

from azure_function.clients import STORAGE, Clients
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import ROOT
from shared.errors import CloudError, RunStopped
from shared.run import Run

PAGE = 5000  # the most that storage returns at once
MANIFEST = "/manifest.json"
SHOWN = 3  # so many faults of one delivery are named
# {folder}/{export}/{YYYYMMDD-YYYYMMDD}/{run, one or two levels}/manifest.json
_PATH = re.compile(r"(?P<folder>.+)/(?P<export>[^/]+)/(?P<month>\d{6})\d\d-\d{8}/.+")


class Delivery(msgspec.Struct, gc=False):
    """What one export has delivered: the newest manifest's time, its account, and the months that have a manifest.

    `manifest` is the blob of the newest manifest of the newest `month`, `written` its time: past months that somebody
    asked for say nothing about the present one.
    """

    at: datetime
    account: Storage
    months: set[str]
    month: str
    manifest: str
    written: datetime


class Content(msgspec.Struct, frozen=True):
    """What the manifest of a delivery lists, compared with the blobs beside it.

    `empty`: it lists no file, or only files without rows. `wrong` says which files are missing or have another size,
    "" if none. `sized`: at least one file has exactly the size that the manifest gives.
    """

    empty: bool
    wrong: str
    sized: bool


class Deliveries:
    """The deliveries of one run's survey.

    `failed` holds the error of each account whose listing failed, by its resource id: of what lies there nothing is
    known.
    """

    def __init__(self, settings: AzureSettings, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._found: dict[tuple[str, str], Delivery] = {}
        self.failed: dict[str, CloudError] = {}

    def read(self, account: Storage, prefixes: tuple[str, ...] = ()) -> None:
        """List an account's export container, all of it or below some prefixes, one blob or more each.

        Notes a failure in `failed`; raises RunStopped as it is.
        """
        try:
            for prefix in prefixes or (f"{ROOT}/",):
                for name, modified in self._blobs(account, prefix):
                    self._note(account, name, modified)
        except RunStopped:
            raise
        except CloudError as error:
            self.failed[account.id] = error

    def of(self, folder: str, export: str) -> Delivery | None:
        """Return what an export has delivered to any of our accounts, or None."""
        return self._found.get((folder, export))

    def content(self, delivery: Delivery, *, sized: bool) -> Content | None:
        """Read a delivery's manifest and the names and sizes beside it; None where they could not be read.

        `sized`: sizes in the export's earlier manifests were those of the blobs. Of compressed files only such sizes
        are compared, since Microsoft does not document which size a manifest gives. Raises RunStopped as it is.
        """
        client = self._clients.container(delivery.account.name, self._settings.container)
        folder = delivery.manifest.removesuffix(MANIFEST.removeprefix("/"))
        try:
            data = self._run.calls(STORAGE, _download, client, delivery.manifest)
            found = self._run.calls(STORAGE, _sizes, client, folder)
            content = compared(data, found, sized=sized)
            if content.wrong:
                # The next delivery takes this one away, its manifest too: then nothing is missing.
                self._run.calls(STORAGE, _download, client, delivery.manifest)
        except RunStopped:
            raise
        except CloudError:
            return None
        return content

    def _note(self, account: Storage, name: str, modified: datetime) -> None:
        if not name.endswith(MANIFEST):
            return
        match = _PATH.fullmatch(name.removesuffix(MANIFEST))
        if match is None:
            return
        key = (match["folder"], match["export"])
        known = self._found.get(key)
        month = {match["month"]} if self._settings.backfill_months else set()
        if known is None:
            self._found[key] = Delivery(modified, account, month, match["month"], name, modified)
            return
        known.months |= month
        if (match["month"], modified) > (known.month, known.written):
            known.month, known.manifest, known.written = match["month"], name, modified
        if modified > known.at:
            known.at, known.account = modified, account

    def _blobs(self, account: Storage, prefix: str) -> Iterator[tuple[str, datetime]]:
        client = self._clients.container(account.name, self._settings.container)
        pages = client.list_blobs(name_starts_with=prefix, results_per_page=PAGE).by_page()
        while True:
            page = self._run.calls(STORAGE, _next_page, pages)
            if page is None:
                return
            yield from page
            self._run.heartbeat()


def _next_page(pages: Iterator[Any]) -> list[tuple[str, datetime]] | None:
    """Return the names of a page's manifests with their times; None after the last page.

    The page is read whole within the guarded call. Parts of reports are dropped at once: there are many more of them.
    """
    page = next(pages, None)
    if page is None:
        return None
    return [(str(blob.name), blob.last_modified.astimezone(UTC)) for blob in page if str(blob.name).endswith(MANIFEST)]


def _download(client: ContainerClient, name: str) -> bytes:
    return bytes(client.get_blob_client(name).download_blob().readall())


def _sizes(client: ContainerClient, folder: str) -> dict[str, int]:
    """Return the size of each blob of a run's folder by the last part of its name."""
    blobs = client.list_blobs(name_starts_with=folder, results_per_page=PAGE)
    return {str(blob.name).rsplit("/", 1)[-1]: int(blob.size or 0) for blob in blobs}


def compared(data: bytes, sizes: Mapping[str, int], *, sized: bool) -> Content:
    """Return what a manifest says, compared with the sizes of the blobs of its folder (see `Deliveries.content`).

    Row counts may be null, and `blobs` may be empty.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Content(empty=False, wrong="its manifest is not valid JSON", sized=False)
    listed = document.get("blobs") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return Content(empty=False, wrong="its manifest has no list of files", sized=False)
    config = document.get("deliveryConfig")
    compression = str(config.get("compressionMode") if isinstance(config, dict) else "").lower()
    expected = {str(one.get("blobName", "")).rsplit("/", 1)[-1]: one.get("byteCount") for one in listed}
    matching = [name for name, size in expected.items() if sizes.get(name) == size]
    strict = bool(matching) or sized or compression == "none"
    faults = [f"{name} is missing" for name in expected if name not in sizes]
    faults += [
        f"{name} has {sizes[name]} bytes, not {size}"
        for name, size in expected.items()
        if strict and name in sizes and isinstance(size, int) and sizes[name] != size
    ]
    counts = [one.get("dataRowCount") for one in listed] or [0]
    empty = not listed or document.get("dataRowCount") == 0 or all(count == 0 for count in counts)
    more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return Content(empty, "; ".join(faults[:SHOWN]) + more, bool(matching))
