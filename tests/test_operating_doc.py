"""docs/operating.md documents every flag of the operator's commands, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from cli.main import main

VIEW = ("status", "history", "months", "deliveries", "backfill", "page", "logs", "explain")
COMMANDS = (
    "deploy",
    "invoke",
    "tenants",
    "plan",
    "run",
    "doctor",
    "onboarding",
    "package",
    "template",
    "destroy",
    "migrate",
    *VIEW,
)
ROW = re.compile(r"^\| `tailpipe-exports (\w+) [^`]+` \|", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
# The section that documents a command's flags.
SECTIONS = {
    "deploy": "Deploy",
    "invoke": "Invoke",
    "tenants": "Tenants",
    "plan": "Plan and run",
    "run": "Plan and run",
    "doctor": "Doctor, onboarding, package, template",
    "onboarding": "Doctor, onboarding, package, template",
    "package": "Doctor, onboarding, package, template",
    "template": "Doctor, onboarding, package, template",
    "destroy": "Destroy",
    "migrate": "Migrate",
    **dict.fromkeys(VIEW, "Status, history, months, deliveries, page, logs"),
}


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    """Return the document."""
    return (repository / "docs" / "operating.md").read_text(encoding="utf-8")


def flags(command: str) -> set[str]:
    """Return the flags of a command."""
    options = [one for one in main.commands[command].params if isinstance(one, click.Option)]
    return {name for one in options for name in one.opts if name.startswith("--")}


def section(text: str, title: str) -> str:
    """Return the text below a heading."""
    found = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


def test_every_command_has_one_row(text: str) -> None:
    """The first table lists each of the operator's commands once."""
    assert sorted(ROW.findall(text)) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_documented_in_its_section(command: str, text: str) -> None:
    """Each flag is in the section of its command."""
    assert flags(command) - set(FLAG.findall(section(text, SECTIONS[command]))) == set()


def test_every_documented_flag_exists(text: str) -> None:
    """Each flag in the document belongs to a documented command."""
    assert set(FLAG.findall(text)) - {flag for command in COMMANDS for flag in flags(command)} == set()


@pytest.mark.parametrize("name", ["operating.md", "security.md"])
def test_links_refer_to_existing_files(name: str, repository: Path) -> None:
    """Each link of the two documents refers to a file of the repository, and the README links to both."""
    folder = repository / "docs"
    for link in LINK.findall((folder / name).read_text(encoding="utf-8")):
        assert (folder / link).is_file(), link
    assert f"](docs/{name})" in (repository / "README.md").read_text(encoding="utf-8")
