"""The copies in the bucket, by one listing of the requested days."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence

from gcp_function.resources.copy_manifest import MANIFEST, Copy, Folder
from gcp_function.resources.objects import PAGE, Objects, Stored
from shared.errors import NotFound, Transient

NAMED = 20  # the most accounts that a listing's glob names; for more, the copies of all accounts are listed


class CopyListing:
    """Lists the copies in the bucket."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def of(
        self,
        accounts: Collection[str],
        days: Sequence[str],
        kinds: Sequence[str],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> dict[tuple[str, str, str], Copy]:
        """Return the accounts' copies of these kinds and days (oldest first, without a gap) by (account, day, kind).

        Cloud Storage filters by the glob, so neither years of older copies nor those of other kinds cost a page.
        Raises CloudError.
        """
        if not accounts:
            return {}
        only = f"{{{','.join(sorted(accounts))}}}" if 1 < len(accounts) <= NAMED else "*"
        prefix = f"{next(iter(accounts))}/" if len(accounts) == 1 else ""
        glob = f"{prefix or only + '/'}{{{','.join(day_globs(days))}}}/{{{','.join(kinds)}}}/**"
        return self._collected(self._objects.below(prefix, glob), accounts, heartbeat)

    def whole(
        self, account: str, kind: str, heartbeat: Callable[[], None] = lambda: None
    ) -> dict[tuple[str, str, str], Copy]:
        """Return all copies of one account and kind by (account, day, kind). Raises CloudError."""
        return self._collected(self._objects.below(f"{account}/", f"{account}/*/{kind}/**"), (account,), heartbeat)

    def _collected(
        self, stored: Iterable[Stored], accounts: Collection[str], heartbeat: Callable[[], None]
    ) -> dict[tuple[str, str, str], Copy]:
        found: dict[tuple[str, str, str], Copy] = {}
        folder = Folder()
        for number, one in enumerate(stored):
            if number % PAGE == 0:
                heartbeat()
            parts = one.name.split("/", 3)
            if len(parts) < 4 or parts[0] not in accounts:
                continue
            place = (sys.intern(parts[0]), sys.intern(parts[1]), sys.intern(parts[2]))  # many copies share each
            if place != folder.place:
                folder = Folder(place)
            if parts[3] == MANIFEST:
                found[place] = folder.closed(one.generation, one.metadata or {}, one.created)
            else:
                folder.add(parts[3], one.size)
        return found


def day_globs(days: Sequence[str]) -> list[str]:
    """Return the fewest globs for consecutive days: whole months, then tens of days, then single days.

    There is nothing after the last day, so its month counts as whole.
    """
    first = days[0]
    months = dict.fromkeys(day[:7] for day in days)
    tens = [f"{first[:8]}{ten}?" for ten in range(int(first[8]) + 1, 4)]
    rest = [f"{first[:9]}{last}" for last in range(int(first[9]), 10)]
    begun = [f"{first[:7]}-*"] if first[8:] == "01" else [*rest, *tens]
    return begun + [f"{month}-*" for month in months if month != first[:7]]


def contradicted(bucket: str, error: NotFound) -> Transient:
    """Return the error for a listing that returns "not found" for a bucket that exists: no copy counts as absent."""
    return Transient(
        "listing-contradicted",
        f"the objects of bucket {bucket} cannot be listed, although the bucket exists: {error.message}",
        "Nothing at first: the next run lists them again. If it persists, find out who deletes and creates the bucket "
        "(Cloud Audit Logs of Cloud Storage), and whether a proxy or an endpoint override answers in Google's place.",
        within_run=False,
    )
