"""The check of the documentation site, which `make docs` builds and checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site import faults, lay_out, unlisted


def site(folder: Path, **pages: str) -> Path:
    """Write pages, given by name without suffix, and return the folder."""
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
def test_broken_link_or_external_resource_is_reported(tmp_path: Path, text: str, what: str) -> None:
    """The report names the page with the broken link or the resource that a browser would load from elsewhere."""
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
def test_valid_link_is_accepted(tmp_path: Path, address: str) -> None:
    """Pages, folders with a page, anchors and external links are valid."""
    (tmp_path / "sub").mkdir()
    site(tmp_path / "sub", index="a page")
    site(tmp_path, index=f'<h1 id="here"><a href="{address}">', other='<h2 id="there">')
    assert list(faults(tmp_path)) == []


def test_page_outside_the_navigation_is_reported(tmp_path: Path) -> None:
    """Every Markdown file of the site must be in the navigation."""
    pages, built = tmp_path / "pages", tmp_path / "site"
    (pages / "docs").mkdir(parents=True)
    built.mkdir()
    for name in ("README.md", "docs/listed.md", "docs/README.md", "docs/alone.md"):
        (pages / name).write_text("# A page\n", encoding="utf-8")
    site(built, index='<a href="./"><a href="docs/listed/"><a href="docs/"><a href="https://docs.test/docs/alone/">')
    assert list(unlisted(pages, built)) == ["docs/alone.md: is not in the navigation; list it in mkdocs.yml"]


def test_pages_have_the_same_paths_as_in_the_tree(repository: Path, tmp_path: Path) -> None:
    """Relative links stay valid, and files of an earlier build are removed."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "removed.md").write_text("# Removed\n", encoding="utf-8")
    lay_out(repository, pages)
    assert not (pages / "removed.md").exists()
    for name in ("README.md", "docs/aws.md", "infra/aws/README.md", "infra/aws/rights.yaml"):
        assert (pages / name).read_bytes() == (repository / name).read_bytes()
