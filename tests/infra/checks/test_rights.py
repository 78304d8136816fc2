"""A module's `rights.yaml`: each grant says what, why and where, and none is wider than its parts.

That Terraform grants exactly these is shown where the modules are applied (`test_standin_azure.py`,
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


def faults(grant: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a grant lacks or has too much."""
    if not grant.get("id"):
        yield "it has no id"
    if not SENTENCE.fullmatch(str(grant.get("why", "")).strip()):
        yield "why is no sentence"
    if unknown := set(grant) - KEYS:
        yield f"unknown keys {unknown}"
    actions = [*grant.get("actions", ()), *grant.get("data_actions", ())]
    if bool(grant.get("role")) == bool(actions):
        yield "it needs either a role or actions"
    yield from (f"{action} is a wildcard; write out what is used" for action in actions if "*" in action)
    if not grant.get("scope") and not grant.get("resources") and "role" not in grant:
        yield "it says neither scope nor resources"


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_every_grant_says_what_why_and_where(repository: Path, cloud: str) -> None:
    """Each has an id of its own, a reason, and rights that are written out."""
    said = yaml.safe_load((repository / "infra" / cloud / "rights.yaml").read_text(encoding="utf-8"))
    assert {"function", "connector"} <= set(said)
    for holder, grants in said.items():
        assert len({grant["id"] for grant in grants}) == len(grants), holder
        for grant in grants:
            assert list(faults(grant)) == [], (holder, grant)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""}, {"why": "needed"}, {"actions": []}, {"role": "reader"}, {"actions": ["shelf:*"]},
        {"data_actions": ["*"]}, {"scope": ""}, {"rule": "x"},
    ],
)  # fmt: skip
def test_each_departure_is_found(change: dict[str, Any]) -> None:
    """Whatever one thing is changed in a good grant is named."""
    assert list(faults(GOOD)) == []
    assert len(list(faults(GOOD | change))) == 1
