"""The check of the documentation's site finds what would fail a reader; `make docs` builds the site and runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site import faults, lay_out, unlisted


def site(folder: Path, **pages: str) -> Path:
    """Write pages, by their names without a suffix, and return the folder."""
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{text}</body></html>", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param('<a href="gone/">', "links to gone/, which is not part of the site", id="page"),
        pytest.param('<a href="../infra/aws/rights.yaml">', "links to ../infra/aws/rights.yaml, which", id="file"),
        pytest.param('<a href="../../outside.html">', "links to ../../outside.html, which is not part", id="outside"),
        pytest.param('<img src="gone.svg">', "links to gone.svg, which is not part of the site", id="picture"),
        pytest.param('<a href="#gone">', "links to #gone, which has no such anchor", id="anchor of this page"),
        pytest.param('<a href="other.html#gone">', "links to other.html#gone, which has no such anchor", id="anchor"),
        pytest.param('<script src="https://cdn.test/a.js">', "loads https://cdn.test/a.js; everything", id="script"),
        pytest.param('<link rel="stylesheet" href="//fonts.test/f">', "loads //fonts.test/f; everything", id="font"),
        pytest.param('<img src="https://badge.test/b.svg">', "loads https://badge.test/b.svg; everything", id="badge"),
    ],
)
def test_what_would_fail_a_reader_is_named(tmp_path: Path, text: str, what: str) -> None:
    """A link that leads nowhere, and whatever a browser would load from elsewhere, is reported with its page."""
    (found,) = faults(site(tmp_path, index=text, other='<h2 id="there">'))
    assert found.startswith(f"index.html: {what}")


@pytest.mark.parametrize(
    "address",
    [
        "other.html",
        "other.html#there",
        "/other.html#there",
        "./",
        "#here",
        "sub/",
        "https://docs.test/a#b",
        "mailto:a@b.test",
    ],
)
def test_a_link_that_leads_somewhere_is_accepted(tmp_path: Path, address: str) -> None:
    """Pages, folders with a page, anchors, and addresses elsewhere that a reader follows are no faults."""
    (tmp_path / "sub").mkdir()
    site(tmp_path / "sub", index="a page")
    site(tmp_path, index=f'<h1 id="here"><a href="{address}">', other='<h2 id="there">')
    assert list(faults(tmp_path)) == []


def test_a_page_that_no_navigation_leads_to_is_named(tmp_path: Path) -> None:
    """Each Markdown file of the site is listed in the navigation, or named as missing there."""
    pages, built = tmp_path / "pages", tmp_path / "site"
    (pages / "docs").mkdir(parents=True)
    built.mkdir()
    for name in ("README.md", "docs/listed.md", "docs/README.md", "docs/alone.md"):
        (pages / name).write_text("# A page\n", encoding="utf-8")
    site(built, index='<a href="./"><a href="docs/listed/"><a href="docs/"><a href="https://docs.test/docs/alone/">')
    assert list(unlisted(pages, built)) == ["docs/alone.md: is not in the navigation; list it in mkdocs.yml"]


def test_pages_lie_on_the_site_as_in_the_tree(repository: Path, tmp_path: Path) -> None:
    """What a page links to by a relative path lies at the same place, and nothing of an earlier build is left."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "removed.md").write_text("# Removed\n", encoding="utf-8")
    lay_out(repository, pages)
    assert not (pages / "removed.md").exists()
    for name in ("README.md", "docs/aws.md", "infra/aws/README.md", "infra/aws/rights.yaml"):
        assert (pages / name).read_bytes() == (repository / name).read_bytes()
