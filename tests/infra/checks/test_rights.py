"""A module's `rights.yaml`: each grant has an id, a reason, a scope and explicit actions, without wildcards.

The tests that apply the modules verify that Terraform grants exactly these (`test_standin_azure.py`,
`test_standin_gcp.py`, `tests/e2e/test_aws_rights.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

KEYS = {"id", "why", "when", "scope", "role", "actions", "data_actions", "resources", "condition"}
SENTENCE = re.compile(r"\S+(\s+\S+){3,}.*\.", re.DOTALL)
GOOD = {"id": "ReadShelves", "why": "The function looks at every shelf.", "actions": ["shelf:Read"], "scope": "project"}


def problems(grant: Mapping[str, Any]) -> Iterator[str]:
    """Yield each problem of a grant."""
    if not grant.get("id"):
        yield "it has no id"
    if not SENTENCE.fullmatch(str(grant.get("why", "")).strip()):
        yield "why is not a sentence"
    if unknown := set(grant) - KEYS:
        yield f"unknown keys {unknown}"
    actions = [*grant.get("actions", ()), *grant.get("data_actions", ())]
    if bool(grant.get("role")) == bool(actions):
        yield "it needs either a role or actions"
    yield from (f"{action} is a wildcard; list the actions that are used" for action in actions if "*" in action)
    if not grant.get("scope") and not grant.get("resources") and "role" not in grant:
        yield "it has neither scope nor resources"


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_every_grant_is_complete(repository: Path, cloud: str) -> None:
    """Each has a unique id, a reason, and explicit actions."""
    rights = yaml.safe_load((repository / "infra" / cloud / "rights.yaml").read_text(encoding="utf-8"))
    assert {"function", "connector"} <= set(rights)
    for holder, grants in rights.items():
        assert len({grant["id"] for grant in grants}) == len(grants), holder
        for grant in grants:
            assert list(problems(grant)) == [], (holder, grant)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""}, {"why": "needed"}, {"actions": []}, {"role": "reader"}, {"actions": ["shelf:*"]},
        {"data_actions": ["*"]}, {"scope": ""}, {"rule": "x"},
    ],
)  # fmt: skip
def test_each_problem_of_a_grant_is_reported(change: dict[str, Any]) -> None:
    """A valid grant has no problem, and each invalid change adds one."""
    assert list(problems(GOOD)) == []
    assert len(list(problems(GOOD | change))) == 1
