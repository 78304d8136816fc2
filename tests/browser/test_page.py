"""The status page in Chromium: layout, speed, accessibility, and hostile names.

The tests need Chromium (Debian's `chromium`) and Node with npm, and are skipped without them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import CHROMIUM, look
from tests.browser.pages import page

SCOPES = 10_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the page and its screenshots."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def measured(shots: Path) -> dict[str, Any]:
    """Return the measurements of the page with 10,000 scopes."""
    return look(page(SCOPES), shots)


def test_page_of_ten_thousand_scopes_is_small(shots: Path, measured: dict[str, Any]) -> None:
    """It has at most 2 MB and a sentence for every cloud."""
    assert (shots / "page.html").stat().st_size <= 2_000_000
    assert measured["headings"] == ["Azure", "AWS"]
    assert measured["sentences"][0] == "9,978 of 10,000 covered; 11 need you; 11 failing: storage-firewall."


def test_page_makes_no_request_and_runs_no_markup_of_its_data(measured: dict[str, Any]) -> None:
    """There is no dialog and no error."""
    assert {url.split(":")[0] for url in measured["requests"]} <= {"file", "data"}
    assert (measured["dialogs"], measured["errors"]) == (0, [])


def test_search_filter_and_sort_work_from_the_keyboard(measured: dict[str, Any]) -> None:
    """Typing filters, Tab moves on, a state can be selected, and a heading sorts in both directions."""
    assert measured["filtered"] == "1,111 of 10,000 subscriptions, page 1 of 12"
    assert measured["focused"] == "Months missing"
    assert measured["holes"] == "111 of 10,000 subscriptions, page 1 of 2"
    assert measured["months"] == "subscription team-70: missing: 2025-11; data: 2023-04 to 2025-10, 2025-12 to 2026-03"
    assert measured["labeled"] == "714 of 10,000 subscriptions, page 1 of 8"
    assert measured["failed"] == "11 of 10,000 subscriptions, page 1 of 1"
    assert (measured["sorted"], measured["direction"]) == ("subscription team-9999", "descending")


def test_page_fits_every_width_and_both_themes(measured: dict[str, Any], shots: Path) -> None:
    """From 320 pixels to 4K there is no horizontal scrolling, and axe finds no violation in either theme."""
    assert measured["overflow"] == []
    assert measured["violations"] == []
    assert (shots / "light.png").read_bytes() != (shots / "dark.png").read_bytes()


def test_page_without_javascript_shows_a_sentence(measured: dict[str, Any]) -> None:
    """The page is not empty."""
    assert "needs JavaScript" in measured["without_scripts"]
