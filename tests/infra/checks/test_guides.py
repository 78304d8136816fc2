"""A guide names what its module declares, and its tables are made from the module's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import said, write
from tools import documents as security_doc
from tools.infra import guides, hcl

RIGHTS = """\
function:
  - id: ReadShelves
    why: The function looks at every shelf.
    when: big_library
    actions: ["shelf:Read", "shelf:List"]
    resources: ["*", "shelf/${library_name}"]
    condition: {StringLike: {"shelf:room": "${room}/*"}}
connector:
  - id: ReadBooks
    why: Tailpipe reads the books.
    role: roles/books.reader
    scope: book_case
"""
GUIDE = """\
| shelf | `google_shelf.a` |
<!-- rights: gcp function -->
<!-- end of rights -->
Between.
<!-- rights: gcp connector -->
<!-- end of rights -->
"""


def tree(folder: Path, guide: str = GUIDE) -> Path:
    """A tree with one module and its guide, the guide's tables up to date."""
    write(
        folder,
        {
            "infra/gcp/main.tf": 'resource "google_shelf" "a" {\n}\ndata "google_city" "c" {\n}\n',
            "infra/gcp/rights.yaml": RIGHTS,
            "docs/gcp.md": guide,
        },
    )
    guides.write(folder)
    return folder


def found(root: Path) -> list[str]:
    """What is told of the tree."""
    module = hcl.read_module(root / "infra" / "gcp")
    return said([*guides.faults(root, module), *guides.table_faults(root)])


def test_tables_say_what_is_granted_where_and_why(tmp_path: Path) -> None:
    """A reader sees rights, places, conditions and reasons, with the module's own words in capitals."""
    root = tree(tmp_path)
    lines = (root / "docs/gcp.md").read_text(encoding="utf-8").splitlines()

    assert found(root) == []
    assert lines[4] == (
        "| `shelf:Read`<br>`shelf:List` | everything<br>`shelf/LIBRARY-NAME`<br>where `shelf:room` is `ROOM/*` "
        "| The function looks at every shelf. Only with: big library. |"
    )
    assert lines[6:8] == ["Between.", "<!-- rights: gcp connector -->"]
    assert lines[10] == "| `roles/books.reader` | book case | Tailpipe reads the books. |"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("docs/gcp.md", "`google_shelf.a`", "a shelf", "1: google_shelf.a is not in docs/gcp.md"),
        ("docs/gcp.md", "| shelf", "`google_shelf.b` | shelf", "1: names google_shelf.b, which the module does not"),
        ("docs/gcp.md", "every shelf", "some shelves", "2: the rights of gcp function differ from the module's"),
        ("infra/gcp/rights.yaml", "shelf:List", "shelf:Write", "2: the rights of gcp function differ"),
        ("docs/gcp.md", "rights: gcp connector", "right: x", "1: has no table between <!-- rights: gcp connector"),
    ],
)
def test_each_departure_is_told(tmp_path: Path, file: str, old: str, new: str, expected: str) -> None:
    """Whatever one thing is changed on either side, it is told at its line."""
    root = tree(tmp_path)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    write(root, {file: text.replace(old, new, 1)})

    assert [fault for fault in found(root) if fault.startswith(expected)], found(root)


def test_a_module_without_a_guide_is_told(tmp_path: Path) -> None:
    """What is deployed is explained."""
    root = tree(tmp_path)
    (root / "docs/gcp.md").unlink()

    assert found(root) == ["1: is missing; a module has a guide"]


def test_the_operators_policies_are_those_of_their_source(tmp_path: Path) -> None:
    """A policy document that was edited by hand, or not made, is told and made."""
    source = "deploy:\n  - {id: A, why: It needs it., actions: [s3:ListBucket], resources: ['*']}\n"
    write(tmp_path, {"infra/aws/operator.yaml": source, "docs/x.md": ""})
    assert said(guides.table_faults(tmp_path)) == ["1: differs from operator.yaml; make infra-docs writes it"]
    guides.write(tmp_path)

    assert said(guides.table_faults(tmp_path)) == []


def test_all_tables_of_rights_are_up_to_date(repository: Path) -> None:
    """Every document in which a right is listed lists it as the modules grant it."""
    documents = list(security_doc.documents(repository))

    assert {"aws.md", "azure.md", "gcp.md"} <= {path.name for path in documents}
    assert [name for path in documents for name in security_doc.stale(path.read_text(encoding="utf-8"))] == []
