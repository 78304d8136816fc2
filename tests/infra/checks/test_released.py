"""What released versions deployed is still declared under the same addresses and names, so that an upgrade keeps it.

`released.json` has, for each released version, its commit, and for each cloud the addresses of the module's resources
and the defaults of its variables. Terraform deletes what a module no longer declares, and replaces what is named anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools import modules

RELEASED: dict[str, Any] = json.loads(Path(__file__).with_name("released.json").read_text(encoding="utf-8"))
CLOUDS = ("aws", "azure", "gcp")
# Moved to `events`, but for the permission: events are collected in a queue, instead of invoking the function.
GONE = {
    "aws_cloudwatch_event_rule.accounts",
    "aws_cloudwatch_event_target.accounts",
    "aws_lambda_permission.accounts",
}


def test_every_released_version_is_recorded(repository: Path) -> None:
    """The headings of the changelog are the released versions."""
    lines = (repository / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = {line.split("]")[0].removeprefix("## [") for line in lines if line.startswith("## [")}
    assert headings - {"Unreleased"} == set(RELEASED)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("version", RELEASED)
def test_resources_of_a_released_version_keep_their_addresses(version: str, cloud: str, repository: Path) -> None:
    """Only the rule for accounts of AWS has moved."""
    declared = modules.read(repository / "infra" / cloud).resources
    assert set(RELEASED[version][cloud]["resources"]) - set(declared) - GONE == set()


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("version", RELEASED)
def test_defaults_of_a_released_version_are_unchanged(version: str, cloud: str, repository: Path) -> None:
    """Another default of a name or a place would replace a resource at the next apply with the same values."""
    variables = modules.read(repository / "infra" / cloud).variables
    before = RELEASED[version][cloud]["defaults"]
    after = {name: variables[name].get("default") for name in before if name in variables}
    assert {name: before[name] for name in after} == after
