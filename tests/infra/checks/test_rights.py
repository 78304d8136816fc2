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
    resources: ["shelf/1"]
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
        ('    resources: ["shelf/1"]\n', "", "2: function: ReadShelves does not name its resources"),
        (
            "    resources:",
            "    scope: x\n    resources:",
            "2: function: ReadShelves has a scope, where the module takes",
        ),
        ("    role: roles", "    rule: roles", "7: connector: ReadBooks has an unknown key rule"),
        ("    role:", '    actions: ["a"]\n    role:', "7: connector: ReadBooks names either a role or actions"),
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


@pytest.mark.parametrize(
    ("cloud", "holder", "scope", "right"),
    [
        ("gcp", "function", "dataset", True),
        ("gcp", "function", "folder", False),
        ("gcp", "connector", "", False),
        ("azure", "function", "state", True),
        ("azure", "connector", "state", False),
        ("azure", "policy", "destination", True),
        ("azure", "auditor", "destination", False),
    ],
)
def test_a_scope_that_is_bound_nowhere_is_told(
    tmp_path: Path, cloud: str, holder: str, scope: str, right: bool
) -> None:
    """A right whose scope the module does not know for that holder would silently not be given."""
    grants = {"function": "", "connector": ""} | {
        holder: f"\n  - id: ReadShelves\n    why: It looks at every shelf.\n    role: reader\n    scope: {scope}\n"
    }
    text = "".join(f"{name}:{grant}\n" for name, grant in grants.items())
    found = said(rights.faults(write(tmp_path / cloud, {"rights.yaml": text})))

    assert bool(found) is not right, found
    assert all("which the module binds nowhere" in fault for fault in found)
