"""What was delivered, from the bulk listing of the storage accounts: the cheapest proof that an export lives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from azure_function.clients import STORAGE, Clients
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import ROOT
from shared.errors import CloudError, RunStopped
from shared.run import Run

PAGE = 5000  # the most that storage returns at once
MANIFEST = "/manifest.json"
# {folder}/{export}/{YYYYMMDD-YYYYMMDD}/{run, one or two levels}/manifest.json
_PATH = re.compile(r"(?P<folder>.+)/(?P<export>[^/]+)/(?P<month>\d{6})\d\d-\d{8}/.+")


class Delivery(msgspec.Struct, gc=False):
    """What one export has delivered: the newest manifest's time, its account, and the months that have a manifest."""

    at: datetime
    account: Storage
    months: set[str]


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
            self._found[key] = Delivery(modified, account, month)
            return
        known.months |= month
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
