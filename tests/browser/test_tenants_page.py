"""The page of all tenants in Chromium: size, speed, accessibility, groups and details.

The tests need Chromium (Debian's `chromium`) and Node with npm, and are skipped without them.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from cli.clouds import CLOUDS
from cli.monitor.tenants import page_document
from cli.tenants.rows import Standing, Survey
from shared.monitor.page import render
from shared.tenants.registry import Tenant
from shared.tenants.rows import Row
from tests.browser.chromium import CHROMIUM, look
from tests.browser.pages import HOSTILE, NOW

TENANTS = 10_000
DENIED = {"code": "tenant-unreachable", "message": "AssumeRole was denied", "remedy": "Accept the invitation."}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]


def standing(number: int) -> Standing:
    """Return a tenant of one of 20 groups; every twentieth is unreachable, and one has a hostile name."""
    name = HOSTILE if number == 3 else f"tenant-{number}"
    tenant = Tenant(f"t-{number}", "aws", name, labels={"group": f"g{number % 20}"})
    ended, wrong = "2026-03-10T12:00:00Z", number % 20 == 0
    status, failures = ("unreachable", (DENIED,)) if wrong else ("ok", ())
    row = Row(tenant.id, status, ended, ended, ended, scopes={"active": 10, "covered": 10}, failures=failures)
    return Standing(tenant, row=row)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the measurements of the page with 10,000 tenants."""
    folder = tmp_path_factory.mktemp("tenants")
    known = Survey([standing(number) for number in range(TENANTS)], None)
    page = render([page_document(CLOUDS["aws"], known, "group", NOW)])
    assert len(page.encode()) <= 2_000_000
    return look(page, folder, "tenants.cjs")


def test_tenants_are_searched_grouped_and_opened(measured: dict[str, Any]) -> None:
    """A group is chosen by a click, the details of a tenant by the keyboard."""
    assert measured["all"] == "10,000 of 10,000 tenants, page 1 of 100"
    assert len(measured["groups"]) == 20
    assert measured["groups"][0] == "g05005005,000 / 5,000"
    assert measured["unreachable"] == "500 of 10,000 tenants, page 1 of 5"
    assert "tenant-unreachable AssumeRole was denied" in measured["details"]
    assert "tailpipe-exports status aws --tenant t-0" in measured["details"]
    assert measured["grouped"] == "500 of 10,000 tenants, page 1 of 5"


def test_filter_takes_less_than_a_tenth_of_a_second(measured: dict[str, Any]) -> None:
    """From the input's event until the rows are laid out, in the median of four."""
    assert sorted(measured["filter_ms"])[1] < 100


def test_page_of_tenants_is_accessible_and_runs_no_markup_of_its_data(measured: dict[str, Any]) -> None:
    """There is no dialog, no error, no violation, and no horizontal scrolling."""
    assert (measured["dialogs"], measured["errors"]) == (0, [])
    assert (measured["violations"], measured["overflow"]) == ([], [])
