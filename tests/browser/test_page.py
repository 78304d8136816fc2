"""The status page in a real Chromium: its look, its speed, its manners, and what it does with hostile names.

It needs a Chromium (Debian's `chromium`) and Node with npm. Where either is missing the tests are skipped and say so.
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
    """Return the folder that holds the page and its screenshots."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def seen(shots: Path) -> dict[str, Any]:
    """Return what was seen of the page of 10,000 scopes."""
    return look(page(SCOPES), shots)


def test_page_of_ten_thousand_scopes_is_small(shots: Path, seen: dict[str, Any]) -> None:
    """At most 2 MB, and every cloud has its sentence."""
    assert (shots / "page.html").stat().st_size <= 2_000_000
    assert seen["headings"] == ["Azure", "AWS"]
    assert seen["sentences"][0] == "9,978 of 10,000 covered; 11 need you; 11 failing: storage-firewall."


def test_page_loads_nothing_and_runs_nothing_of_its_data(seen: dict[str, Any]) -> None:
    """No request but for the file itself, no dialog, no error: markup in names stays text."""
    assert {url.split(":")[0] for url in seen["requests"]} <= {"file", "data"}
    assert (seen["dialogs"], seen["errors"]) == (0, [])


def test_search_state_and_order_work_from_the_keyboard(seen: dict[str, Any]) -> None:
    """Typing filters, Tab leads on, a state is chosen, a heading sorts both ways."""
    assert seen["filtered"] == "1,111 of 10,000 subscriptions, page 1 of 12"
    assert seen["focused"] == "Months missing"
    assert seen["holes"] == "111 of 10,000 subscriptions, page 1 of 2"
    assert seen["months"] == "subscription team-70: missing: 2025-11; data: 2023-04 to 2025-10, 2025-12 to 2026-03"
    assert seen["failed"] == "11 of 10,000 subscriptions, page 1 of 1"
    assert (seen["sorted"], seen["direction"]) == ("subscription team-9999", "descending")


def test_page_fits_every_width_and_both_themes(seen: dict[str, Any], shots: Path) -> None:
    """From 320 pixels to 4K nothing has to be scrolled sideways; axe finds no fault in either theme."""
    assert seen["overflow"] == []
    assert seen["violations"] == []
    assert (shots / "light.png").read_bytes() != (shots / "dark.png").read_bytes()


def test_page_says_what_it_needs_without_scripts(seen: dict[str, Any]) -> None:
    """A browser without JavaScript shows a sentence, not an empty page."""
    assert "needs JavaScript" in seen["without_scripts"]
