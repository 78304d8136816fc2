"""The listing of copies: every page is read, and only the days of the window are listed."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcp_function.resources.copy_listing import CopyListing, day_globs
from gcp_function.resources.objects import Objects, Stored
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.services.objects import glob_pattern
from tests.gcp_function.support import run, verbs


def test_listings_in_small_pages_show_every_copy(small_pages: LocalGcp) -> None:
    """However small the pages are, the next run finds every copy and makes none again."""
    run(small_pages)
    small_pages.clear_calls()
    assert set(verbs(run(small_pages))) == {"KEEP", "SKIP"}
    assert small_pages.calls.count("storage.objects.list") > 3


def test_years_of_older_copies_are_leapt_over(gcp: LocalGcp) -> None:
    """Copies before the window are not listed in every run: a page or two for each account at most."""
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
def test_the_globs_of_a_window_match_its_days_and_none_before(today: date, length: int) -> None:
    """Whole months and tens of days are named together, and no day is left out or in by mistake."""
    days = [(today - timedelta(days=age)).isoformat() for age in range(length - 1, -1, -1)]
    globs = day_globs(days)
    assert len(globs) <= 16 + length // 28
    pattern = glob_pattern(f"{{{','.join(globs)}}}")
    assert all(pattern.fullmatch(day) for day in days)
    before = [(today - timedelta(days=length + age)).isoformat() for age in range(60)]
    assert not any(pattern.fullmatch(day) for day in before)


class ShortPages(Objects):
    """A bucket whose listings come in short pages, every second one empty, as a filtered listing's may."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.asked: list[tuple[str, str]] = []
        self._run: Any = SimpleNamespace(calls=lambda _quota, call, *arguments: call(*arguments))

    def _page(self, token: str, prefix: str, glob: str) -> tuple[list[Stored], str]:
        self.asked.append((prefix, glob))
        number = int(token or 0)
        found = [Stored(self.names[number // 2], 1, 1)] if number % 2 else []
        return found, str(number + 1) if number + 1 < 2 * len(self.names) else ""


def test_a_short_or_empty_page_is_not_the_last_one() -> None:
    """Only a page without a token ends a listing."""
    names = [f"A/2026-11-0{day}/standard/manifest.json" for day in range(1, 6)]
    found = CopyListing(ShortPages(names)).of({"A"}, [f"2026-11-0{day}" for day in range(1, 6)])
    assert [day for _, day, _ in found] == [f"2026-11-0{day}" for day in range(1, 6)]


@pytest.mark.parametrize(
    ("accounts", "prefix", "first"),
    [({"A"}, "A/", "A/"), ({"A", "B"}, "", "{A,B}/"), ({*map(str, range(30))}, "", "*/")],
)
def test_few_accounts_are_named_and_many_are_not(accounts: set[str], prefix: str, first: str) -> None:
    """A run for one account lists its folder alone; a run for all of them names none."""
    bucket = ShortPages(["A/2026-11-01/standard/manifest.json"])
    CopyListing(bucket).of(accounts, ["2026-11-01"])
    assert bucket.asked[0] == (prefix, f"{first}{{2026-11-*}}/**")
