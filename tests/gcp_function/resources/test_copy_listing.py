"""The listing of copies: reads every page, and lists only the days of the window."""

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
