"""The documents are true of the tree: paths exist, the guides have one outline, and lines can be read in a diff."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

GUIDES = ("aws", "azure", "gcp")
LONGEST = 140
# A path in backticks: at least one slash and an ending, or a folder with a slash at its end.
PATH = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|tf|yaml|json|sh|toml|md|txt|yml))?)`")
# Folders that git does not track, and places in a cloud's bucket.
MADE = re.compile(r"(?:build|dist|dataexport|state|runs|tailpipe-exports)/")


def documents(repository: Path) -> list[Path]:
    """Return every document that people write."""
    return [
        *sorted(repository.glob("*.md")),
        *sorted((repository / "docs").rglob("*.md")),
        *sorted((repository / "infra").glob("*/README.md")),
    ]


def long_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and beginning of each line that is too long, tables and bare addresses excepted."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > LONGEST and not line.lstrip().startswith(("|", "([", "http")):
            yield number, line[:60]


def missing_paths(text: str, root: Path) -> list[str]:
    """Return the paths that a text names and `root` does not contain."""
    named = [found for found in PATH.findall(text) if not MADE.match(found)]
    return [name for name in dict.fromkeys(named) if not (root / name).exists()]


def headings(text: str) -> list[str]:
    """Return a document's headings below its title, in order, without those in code blocks."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^##+ .+$", outside, re.MULTILINE)


@pytest.mark.parametrize("cloud", GUIDES[1:])
def test_the_guides_have_the_same_headings_in_the_same_order(repository: Path, cloud: str) -> None:
    """A reader who knows one cloud's guide finds the same things in the same place of another."""
    first, other = (headings((repository / "docs" / f"{name}.md").read_text("utf-8")) for name in (GUIDES[0], cloud))
    assert len(first) > 10
    assert other == first


def test_every_path_in_a_document_exists(repository: Path) -> None:
    """A file or folder that a document names in backticks is in the tree."""
    named = {path.name: missing_paths(path.read_text("utf-8"), repository) for path in documents(repository)}
    assert {name: paths for name, paths in named.items() if paths and name != "CHANGELOG.md"} == {}


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """A path that does not exist and a long line are reported; what is right is not."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "plan.py").touch()
    text = "`shared/plan.py`, `shared/`, `shared/gone.py`, `dist/`, `gone/` and `tests/a/b.py`"
    assert missing_paths(text, tmp_path) == ["shared/gone.py", "gone/", "tests/a/b.py"]
    assert list(long_lines("a" * LONGEST + "\n|" + "b" * LONGEST + "\n" + "c" * (LONGEST + 1))) == [(3, "c" * 60)]
    assert headings("# A\n## B\n```\n## no heading\n```\n### C\n") == ["## B", "### C"]
