"""Links from failures to the runbook on the published site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.monitor.overview import overview
from shared.monitor.page import render
from shared.runbook import entry_url
from shared.settings import Reader
from shared.target_state import LastError
from tests.shared.monitor.test_overview import NOW, document, scope
from tests.shared.setting import Setting
from tools.site import anchored

SITE = "https://docs.example.com/exports"


@pytest.mark.parametrize(
    ("site", "code", "expected"),
    [
        (SITE, "state-foreign", f"{SITE}/docs/runbook/#state-foreign"),
        (f"{SITE}/", "throttled", f"{SITE}/docs/runbook/#throttled"),
        ("", "state-foreign", ""),
        (SITE, "AccessDenied", ""),
        (SITE, 'x"onclick', ""),
        (SITE, "", ""),
    ],
)
def test_own_code_has_a_link_if_a_site_is_set(site: str, code: str, expected: str) -> None:
    """Without a site, and for a code of the cloud, there is no link."""
    assert entry_url(site, code) == expected


def test_site_has_an_anchor_for_each_runbook_entry(repository: Path) -> None:
    """Each code in a first cell is an anchor once, and the row's text is unchanged."""
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    made = anchored(text)
    anchors = re.findall(r'<a id="([^"]+)"></a>', made)
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    codes = {one for cell in first for one in re.findall(r"`([a-z][a-z0-9-]*)`", cell)}
    assert len(anchors) == len(set(anchors)) > 100
    assert set(anchors) == codes
    assert re.sub(r'<a id="[^"]+"></a>', "", made) == text


def test_status_and_page_link_to_the_entry() -> None:
    """Failures and manual steps have the link to their code's entry."""
    broken = LastError("storage-firewall", "the firewall refuses", "Let the service in.", "failed")
    step = LastError("console-step", what="Switch it on", steps=["Open the page"], result="manual")
    made = document(a=scope("failed", broken), b=scope("manual", step))
    found = overview(made, [], NOW, SITE)
    assert [one["runbook"] for one in found["failing"]] == [entry_url(SITE, "storage-firewall")]
    assert [one["runbook"] for one in found["must_do"]] == [entry_url(SITE, "console-step")]
    assert entry_url(SITE, "storage-firewall") in render([found])
    assert {one["runbook"] for one in overview(made, [], NOW)["failing"]} == {""}


def test_report_has_links_if_a_site_is_set() -> None:
    """A failure has the key only with a link."""
    for site in (SITE, ""):
        setting = Setting(1, docs_url=site)
        (failure,) = setting.run(scopes=["nowhere"]).report["failures"]
        assert failure.get("runbook", "") == entry_url(site, failure["code"])


@pytest.mark.parametrize("value", ["http://docs.example.com", "https://x/<script>", "javascript:alert(1)"])
def test_site_must_be_an_https_address(value: str) -> None:
    """Any other value is refused before any call."""
    reader = Reader({"DOCS_URL": value})
    reader.engine(0)
    with pytest.raises(SettingsError, match="DOCS_URL"):
        reader.finish()
