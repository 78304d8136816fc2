"""Build the documentation as a site, and check every link and page.

Run as `python -m tools.site`: it writes `build/site` and ends with 0, or with 1 and one line a fault on stderr.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import click

PAGES, SITE = "build/docs", "build/site"
# What the site consists of, and what the pages link to.
SOURCES = ("*.md", "LICENSE", "docs", "infra")
# The first cell of a row of the runbook, and the codes in it that the function gives.
_ENTRY = re.compile(r"^\| (`[^|]*)\|", re.MULTILINE)
_CODE = re.compile(r"`([a-z][a-z0-9]*(?:-[a-z0-9]+)*)`")
_LEFT_OUT = shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfplan")
# Elements that make a browser load something; a link to follow may lead anywhere.
_LOADED = frozenset({"script", "img", "iframe", "source", "audio", "video"})
_LOADED_LINKS = frozenset({"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch"})


class Page(HTMLParser):
    """The anchors of a page, the addresses it links to, and those that a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element brings."""
        found = {name: value for name, value in attrs if value}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        address = found.get("href") or found.get("src")
        if address is None:
            return
        self.links.append(address)
        if tag in _LOADED or (tag == "link" and _LOADED_LINKS.intersection(found.get("rel", "").split())):
            self.loaded.append(address)


def lay_out(root: Path, pages: Path) -> None:
    """Copy the sources of the site to an empty folder `pages`, each at its place in the tree."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for source in sorted(path for pattern in SOURCES for path in root.glob(pattern)):
        if source.is_dir():
            shutil.copytree(source, pages / source.name, ignore=_LEFT_OUT)
        else:
            shutil.copy(source, pages)
    runbook = pages / "docs" / "runbook.md"
    if runbook.is_file():
        runbook.write_text(anchored(runbook.read_text(encoding="utf-8")), encoding="utf-8")


def anchored(text: str) -> str:
    """Return the runbook with an anchor in the row of each code and event, named as it is; the first entry counts."""
    known: set[str] = set()

    def with_anchors(row: re.Match[str]) -> str:
        codes = [one for one in dict.fromkeys(_CODE.findall(row[1])) if one not in known]
        known.update(codes)
        anchors = "".join(f'<a id="{one}"></a>' for one in codes)
        return f"| {anchors}{row[1]}|"

    return _ENTRY.sub(with_anchors, text)


def faults(site: Path) -> Iterator[str]:
    """Yield `page: what` for each link of a built site that leads nowhere, and for what is loaded from elsewhere."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        # The server returns this page for any unknown address, so its links begin at the root.
        base = site if path.name == "404.html" else path.parent
        for address in page.loaded:
            if urlsplit(address).netloc:
                yield f"{where}: loads {address}; everything that a page needs is part of the site"
        for address in dict.fromkeys(page.links):
            target, fragment = urldefrag(address)
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            name = unquote(parts.path)
            found = path if not name else Path(os.path.normpath(site / name[1:] if name[0] == "/" else base / name))
            if found.is_dir():
                found /= "index.html"
            if not found.is_relative_to(site) or not found.is_file():
                yield f"{where}: links to {address}, which is not part of the site"
            elif fragment and found in pages and unquote(fragment) not in pages[found].anchors:
                yield f"{where}: links to {address}, which has no such anchor"


def unlisted(pages: Path, site: Path) -> Iterator[str]:
    """Yield the pages that the site's navigation, seen on its first page, does not lead to."""
    first = Page(site / "index.html")
    listed = {
        os.path.normpath(site / urlsplit(address).path) for address in first.links if not urlsplit(address).netloc
    }
    for path in sorted(pages.rglob("*.md")):
        place = site / path.relative_to(pages).parent
        place = place if path.name in {"README.md", "index.md"} else place / path.stem
        if os.path.normpath(place) not in listed:
            yield f"{path.relative_to(pages).as_posix()}: is not in the navigation; list it in mkdocs.yml"


def main() -> int:
    """Build the site of this checkout and check it; returns the exit code."""
    root = Path(__file__).resolve().parent.parent
    pages, site = root / PAGES, root / SITE
    lay_out(root, pages)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        said = click.unstyle(done.stdout + done.stderr)
        # For a broken page the generator adds a traceback of its own, which does not help.
        print(said.partition("Traceback")[0] if "--strict flag is set" in said else said, end="", file=sys.stderr)
        return 1
    found = [*faults(site), *unlisted(pages, site)]
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
