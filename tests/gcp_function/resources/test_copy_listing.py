"""The listing of copies: reads every page, and lists only the days of the window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_function.resources.copy_listing import CopyListing, contradicted, day_globs
from gcp_function.resources.objects import PAGE, Objects, Stored
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.services.objects import glob_pattern
from shared.errors import NotFound
from tests.gcp_function.support import run, verbs


def test_all_pages_are_listed(small_pages: LocalGcp) -> None:
    """With pages of three items, the next run finds every copy and makes none again."""
    run(small_pages)
    small_pages.clear_calls()
    assert set(verbs(run(small_pages))) == {"KEEP", "SKIP"}
    assert small_pages.calls.count("storage.objects.list") > 3


def test_older_copies_are_not_listed(gcp: LocalGcp) -> None:
    """Copies before the window cost at most two pages per account and run."""
    run(gcp)
    before = gcp.clock.now().date()
    for account in gcp.accounts():
        for number in range(1500):
            gcp.put_object(f"{account}/2020-01-01/standard/old/{number:06d}", "x")
    gcp.clear_calls()
    assert set(verbs(run(gcp))) == {"KEEP", "SKIP"}
    assert gcp.calls.count("storage.objects.list") <= 2 * len(gcp.accounts())
    assert gcp.clock.now().date() == before


@given(st.dates(date(2023, 1, 1), date(2030, 12, 31)), st.integers(1, 365))
def test_globs_match_exactly_the_days_of_the_window(today: date, length: int) -> None:
    """Whole months and tens of days share a glob; no earlier day matches."""
    days = [(today - timedelta(days=age)).isoformat() for age in range(length - 1, -1, -1)]
    globs = day_globs(days)
    assert len(globs) <= 16 + length // 28
    pattern = glob_pattern(f"{{{','.join(globs)}}}")
    assert all(pattern.fullmatch(day) for day in days)
    before = [(today - timedelta(days=length + age)).isoformat() for age in range(60)]
    assert not any(pattern.fullmatch(day) for day in before)


class ShortPages(Objects):
    """A bucket whose listing has short pages and every second one empty, as a filtered listing may."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.listed: list[tuple[str, str]] = []
        self._run: Any = SimpleNamespace(calls=lambda _quota, call, *arguments: call(*arguments))

    def _page(self, token: str, prefix: str, glob: str) -> tuple[list[Stored], str]:
        self.listed.append((prefix, glob))
        number = int(token or 0)
        found = [Stored(self.names[number // 2], 1, 1)] if number % 2 else []
        return found, str(number + 1) if number + 1 < 2 * len(self.names) else ""


def test_short_or_empty_page_does_not_end_the_listing() -> None:
    """Only a page without a token ends a listing."""
    names = [f"A/2026-11-0{day}/standard/manifest.json" for day in range(1, 6)]
    found = CopyListing(ShortPages(names)).of({"A"}, [f"2026-11-0{day}" for day in range(1, 6)], ["standard"])
    assert [day for _, day, _ in found] == [f"2026-11-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize(
    ("accounts", "prefix", "first"),
    [({"A"}, "A/", "A/"), ({"A", "B"}, "", "{A,B}/"), ({*map(str, range(30))}, "", "*/")],
)
def test_listing_names_few_accounts_and_uses_a_wildcard_for_many(accounts: set[str], prefix: str, first: str) -> None:
    """A run for one account lists only that account's folder."""
    bucket = ShortPages(["A/2026-11-01/standard/manifest.json"])
    CopyListing(bucket).of(accounts, ["2026-11-01"], ["standard", "detailed"])
    assert bucket.listed[0] == (prefix, f"{first}{{2026-11-*}}/{{standard,detailed}}/**")


def test_copies_share_the_texts_of_their_places() -> None:
    """Each name of a listing is a text of its own; of many copies, three more each would take much memory."""
    bucket = ShortPages([f"{account}/2026-11-01/standard/manifest.json" for account in ("A1", "B1")])
    one, other = CopyListing(bucket).of({"A1", "B1"}, ["2026-11-01"], ["standard"])
    assert one[1] is other[1]
    assert one[2] is other[2]


class Named(Objects):
    """A bucket with these objects."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[tuple[str, str]] = []

    def below(self, prefix: str, glob: str = "") -> Iterator[Stored]:
        """Yield the objects."""
        self.asked.append((prefix, glob))
        for number, name in enumerate(self.names):
            yield Stored(name, generation=number, size=10, metadata=MARKED if name.endswith("t.json") else None)


MARKED = {
    "managed-by": "tailpipe-exports",
    "watermark": "20260105T093000.123456Z-1234",
    "attempt": "1",
    "files": "1",
    "bytes": "10",
}
PARQUET = "20260105T093000.123456Z-1234/1-000000000000.parquet"


def test_copy_is_the_manifest_and_the_files_of_its_own_folder() -> None:
    """Neither files of the folder before count, nor objects that are in no folder of a copy."""
    bucket = Named(
        *("stray.json", "A/2026-11-01/manifest.json"),
        *(f"A/2026-11-01/detailed/{PARQUET}", "A/2026-11-01/detailed/manifest.json"),
        *(f"A/2026-11-01/pricing/{PARQUET}", "A/2026-11-01/standard/manifest.json"),
    )
    found = CopyListing(bucket).of({"A"}, ["2026-11-01"], ["detailed", "standard"])
    assert {place: copy.intact for place, copy in found.items()} == {
        ("A", "2026-11-01", "detailed"): True,
        ("A", "2026-11-01", "standard"): False,
    }
    assert [copy.generation for copy in found.values()] == [3, 5]


def test_listing_of_some_accounts_leaves_out_the_others() -> None:
    """A wildcard lists them too; without an account, nothing is listed."""
    bucket = Named("A/2026-11-01/standard/manifest.json", "B/2026-11-01/standard/manifest.json")
    listing = CopyListing(bucket)
    assert [place[0] for place in listing.of({"B"}, ["2026-11-01"], ["standard"])] == ["B"]
    assert listing.of([], ["2026-11-01"], ["standard"]) == {}
    assert len(bucket.asked) == 1


def test_whole_listing_has_all_days_of_one_kind() -> None:
    """For the history, and for what a person asks."""
    bucket = Named("A/2020-11-01/standard/manifest.json", "A/2026-11-01/standard/manifest.json")
    assert [day for _, day, _ in CopyListing(bucket).whole("A", "standard")] == ["2020-11-01", "2026-11-01"]
    assert bucket.asked == [("A/", "A/*/standard/**")]


@pytest.mark.parametrize(("length", "beats"), [(1, 1), (PAGE, 1), (PAGE + 1, 2)])
def test_long_listing_renews_the_lock_with_each_page(length: int, beats: int) -> None:
    """Otherwise another run could begin meanwhile."""
    counted: list[None] = []
    bucket = Named(*("x" for _ in range(length)))
    CopyListing(bucket).whole("A", "standard", lambda: counted.append(None))
    CopyListing(bucket).of({"A"}, ["2026-11-01"], ["standard"], lambda: counted.append(None))
    assert len(counted) == 2 * beats


@pytest.mark.parametrize(
    ("first", "globs"),
    [
        ("2026-11-01", ["2026-11-*", "2026-12-*"]),
        ("2026-11-09", ["2026-11-09", "2026-11-1?", "2026-11-2?", "2026-11-3?", "2026-12-*"]),
        ("2026-11-28", ["2026-11-28", "2026-11-29", "2026-11-3?", "2026-12-*"]),
        ("2026-11-30", [*(f"2026-11-3{last}" for last in range(10)), "2026-12-*"]),
    ],
)
def test_globs_of_a_window_are_few(first: str, globs: list[str]) -> None:
    """Single days to the end of the ten, tens of days to the end of the month, then whole months."""
    begin = date.fromisoformat(first)
    days = [(begin + timedelta(days=ahead)).isoformat() for ahead in range(40 - begin.day)]
    assert day_globs(days) == globs


def test_refused_listing_of_an_existing_bucket_is_no_absence() -> None:
    """It is tried again in a later run, not in this one."""
    error = contradicted("exports", NotFound("not-found", "no such bucket"))
    assert (error.code, error.within_run) == ("listing-contradicted", False)
    assert error.message == "the objects of bucket exports cannot be listed, although the bucket exists: no such bucket"
