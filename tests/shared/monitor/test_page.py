"""The status page: one file that loads nothing and shows data only as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from shared.monitor.overview import overview, page_data
from shared.monitor.page import render
from tests.shared.monitor.test_overview import NOW, document, scope

HOSTILE = "</script><script>alert(1)</script><!--\u2028\u202e__STYLE__ & \ud800"


def page_of(name: str) -> str:
    """Return the page of one scope with that name."""
    made = document(a=scope(name=name))
    return render([page_data(overview(made, [], NOW), made, "Azure", "subscriptions")])


def data_of(page: str) -> dict[str, Any]:
    """Return the data embedded in a page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def test_page_contains_its_data() -> None:
    """The data can be read back, and no placeholder is left."""
    page = page_of("Alpha")
    assert "__" not in page.replace(json.dumps(data_of(page)), "")
    (cloud,) = data_of(page)["clouds"]
    assert cloud["sentence"] == "1 of 1 covered."
    assert cloud["scopes"] == [["a", "Alpha", "covered", "", "2026-03-09", ""]]


def test_markup_in_names_is_shown_as_text() -> None:
    """A name can neither end the data element nor add a script."""
    page = page_of(HOSTILE)
    assert page.count("<script") == 2
    (cloud,) = data_of(page)["clouds"]
    assert cloud["scopes"][0][1] == HOSTILE.replace("\ud800", "?")
    assert page.encode("utf-8")


def test_policy_allows_only_the_pages_script_and_no_network() -> None:
    """The browser refuses any other script, style sheet, image or connection."""
    page = page_of("Alpha")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r'(?:src|href)="(?!data:)', page)
