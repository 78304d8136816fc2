"""The runbook has an entry for every code and log event of the functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.log import EVENTS

CARRIERS = {
    "CloudError", "Transient", "Throttled", "Denied", "Permanent", "Manual", "NotApplicable", "NotFound", "RunStopped",
    "Problem", "Unknown",
}  # fmt: skip
FOLDERS = ("shared", "aws_lambda", "azure_function", "gcp_function")


def codes_of(source: str) -> Iterator[str]:
    """Yield each constant code that a module gives to an error, a problem or an observation."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        given += node.args[:1] if name in CARRIERS else []
        for value in given:
            found = constants.get(value.id) if isinstance(value, ast.Name) else getattr(value, "value", None)
            if isinstance(found, str) and found:
                yield found


def entries(repository: Path) -> set[str]:
    """Return the first column of the runbook's tables."""
    text = (repository / "docs" / "runbook.md").read_text(encoding="utf-8")
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {entry for cell in first for entry in re.findall(r"`([^`]+)`", cell)}


def test_every_event_has_an_entry(repository: Path) -> None:
    """The runbook has every log event."""
    assert set(EVENTS) - entries(repository) == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_code_has_an_entry(repository: Path, folder: str) -> None:
    """The runbook has every constant code of a report."""
    found = {
        code: path.name
        for path in sorted((repository / folder).rglob("*.py"))
        for code in codes_of(path.read_text(encoding="utf-8"))
    }
    assert found or not (repository / folder).is_dir()
    assert {code: name for code, name in found.items() if code not in entries(repository)} == {}


def literals(source: str) -> Iterator[tuple[str, bool]]:
    """Yield each string of a module, and whether it is the beginning of a composed one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, False
        elif isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
            yield str(node.values[0].value), True


def test_every_entry_is_used_by_the_code(repository: Path) -> None:
    """An entry for a removed code or event would mislead an operator."""
    paths = [path for folder in (*FOLDERS, "cli") for path in (repository / folder).rglob("*.py")]
    found = {one for path in paths for one in literals(path.read_text(encoding="utf-8"))}
    whole, beginnings = ({text for text, begins in found if begins is kind} for kind in (False, True))
    ours = {one for one in entries(repository) if re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", one)}
    made = {f"{first}{rest}" for first in beginnings if first.endswith("-") for rest in whole if rest.isidentifier()}
    assert ours - whole - made == set()


def test_codes_are_collected_from_literals_keywords_and_constants() -> None:
    """Computed codes are left out."""
    source = 'A = "one"\nManual(A, guide)\nRunStopped("two", "x")\nPresent(code="three")\nPermanent(code or "x", "y")'
    assert set(codes_of(source)) == {"one", "two", "three"}
