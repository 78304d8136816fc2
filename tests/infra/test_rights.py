"""The file of rights keeps its form, and no grant is wider than what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import said, write
from tools.infra import rights

GOOD = """\
function:
  - id: ReadShelves
    why: The function looks at every shelf.
    actions: ["shelf:Read"]
connector:
  - id: ReadBooks
    why: Tailpipe reads the books it was given.
    role: roles/books.reader
"""


def test_a_good_file_breaks_no_rule(tmp_path: Path) -> None:
    """Grants with an id, a reason, and a role or actions are right."""
    assert said(rights.faults(write(tmp_path, {"rights.yaml": GOOD}))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "    why: The function looks at every shelf.\n",
            "",
            "2: function: ReadShelves does not say why in a sentence",
        ),
        ("The function looks at every shelf.", "needed", "2: function: ReadShelves does not say why in a sentence"),
        ('"shelf:Read"', '"shelf:*"', "2: function: ReadShelves grants shelf:*; write out what is used"),
        (
            '    actions: ["shelf:Read"]\n',
            "",
            "2: function: ReadShelves names either a role or actions, one of the two",
        ),
        ("    role: roles", "    rule: roles", "6: connector: ReadBooks has an unknown key rule"),
        ("    role:", '    actions: ["a"]\n    role:', "6: connector: ReadBooks names either a role or actions"),
        (
            "connector:\n",
            "  - id: ReadShelves\n    why: A second time it looks.\n    role: a\nconnector:\n",
            "is there twice",
        ),
        ("connector:", "connectors:", "1: has no lists function and connector"),
        ("  - id: ReadBooks", "  - id: [", "is no valid YAML"),
    ],
)
def test_each_departure_is_told(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Whatever one thing is changed in a good file, the rule it breaks is named with its line."""
    assert old in GOOD
    found = said(rights.faults(write(tmp_path, {"rights.yaml": GOOD.replace(old, new, 1)})))

    assert [fault for fault in found if expected in fault], found
