"""docs/security.md refers to existing tests, and its tables list every permission of the modules."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tools import documents

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ANCHOR = re.compile(r"\]\(#([\w-]+)\)")


def threats(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the tables of threats."""
    part = text.partition("\n## Threats\n")[2].partition("\n## ")[0]
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if cells and cells[0] not in ("threat", "---"):
            yield cells


def missing(text: str, repository: Path) -> list[str]:
    """Return the files and tests that a text refers to and that do not exist."""
    found = []
    for path, test in sorted(set(NAMED.findall(text))):
        file = repository / path
        if not file.is_file():
            found.append(path)
        elif test and test not in functions_of(file):
            found.append(f"{path}::{test}")
    return found


def functions_of(file: Path) -> set[str]:
    """Return the names of a module's test functions."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return {one.name for one in body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")}


def stale(text: str, root: Path) -> list[str]:
    """Return the permission tables that differ from the files, as `cloud holder`."""
    tables = zip(
        documents.RIGHTS.finditer(text), documents.RIGHTS.finditer(documents.with_rights(text, root)), strict=True
    )
    return [f"{found['cloud']} {found['holder']}" for found, made in tables if found[0] != made[0]]


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    """Return the document."""
    return (repository / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_documented_test_exists(text: str, repository: Path) -> None:
    """Every document that refers to tests refers to existing ones."""
    assert len(NAMED.findall(text)) > 100
    for document in sorted((repository / "docs").glob("*.md")):
        assert missing(document.read_text(encoding="utf-8"), repository) == [], document.name


def test_reference_to_a_missing_test_is_reported(repository: Path) -> None:
    """A renamed test and a moved file are reported; existing ones are not."""
    here = "tests/test_security_doc.py"
    text = f"`{here}` `{here}::test_every_documented_test_exists` `{here}::test_gone` `tests/gone.py::test_a`"
    assert missing(text, repository) == ["tests/gone.py", f"{here}::test_gone"]


def test_every_threat_has_a_defense_and_a_test(text: str) -> None:
    """Each row of the tables has all three cells, and refers to at least one test."""
    rows = list(threats(text))
    assert len(rows) > 25
    for row in rows:
        assert len(row) == 3, row
        assert all(row), row
        tests = [test for _, test in NAMED.findall(row[2])]
        assert tests, row[0]
        assert all(tests), row[0]


def test_every_identity_with_permissions_has_a_table(text: str, repository: Path) -> None:
    """This includes function, connector and operator of each cloud, and every other identity of the modules."""
    held = {
        (path.parent.name, holder)
        for path in sorted((repository / "infra").glob("*/*.yaml"))
        if path.name in ("rights.yaml", "operator.yaml")
        for holder in yaml.safe_load(path.read_text(encoding="utf-8"))
    }
    tables = [(found["cloud"], found["holder"]) for found in documents.RIGHTS.finditer(text)]
    assert len(held) == 18
    assert sorted(tables) == sorted(held)
    assert stale(text, repository) == []


@pytest.mark.parametrize("file", ["rights.yaml", "operator.yaml"])
@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_changed_permission_makes_its_table_stale(
    cloud: str, file: str, text: str, repository: Path, tmp_path: Path
) -> None:
    """A permission that is added to a file but not to the document is reported."""
    for name in ("aws", "azure", "gcp"):
        (tmp_path / "infra" / name).mkdir(parents=True)
        for source in ("rights.yaml", "operator.yaml"):
            shutil.copy(repository / "infra" / name / source, tmp_path / "infra" / name / source)
    path = tmp_path / "infra" / cloud / file
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    holder, grants = next(iter(document.items()))
    grants[0]["actions"].append("service:NobodyAskedForIt")
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert stale(text, tmp_path) == [f"{cloud} {holder}"]


def test_internal_links_refer_to_headings(text: str) -> None:
    """Each link to a section has a heading of that name."""
    headings = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in HEADING.findall(text)}
    linked = set(ANCHOR.findall(text))
    assert linked
    assert linked - headings == set()
