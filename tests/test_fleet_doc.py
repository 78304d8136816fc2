"""docs/fleet.md: its commands run in the order in which it shows them, and its tables match the code."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from cli.tenants.commands import tenants
from shared.tenants.registry import MAX_BYTES, MAX_LABEL, MAX_LABELS, MAX_TENANTS, Rules, parse_registry
from shared.tenants.rows import STATUSES
from tests.cli.tenants.support import RULES, serve
from tests.cli.tenants.test_tenant_option import coordinate, round_report

FUNCTIONS = {"aws": "aws_lambda", "azure": "azure_function", "gcp": "gcp_function"}
TITLES = {"aws": "AWS", "azure": "Azure", "gcp": "Google Cloud"}


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    """Return the document."""
    return (repository / "docs" / "fleet.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return the text below a heading."""
    found = re.split(r"\n##+ ", text.partition(f"# {title}\n")[2])[0]
    assert found, title
    return found


def rules_of(cloud: str) -> Rules:
    """Return what a cloud allows in an entry."""
    rules: Rules = import_module(f"{FUNCTIONS[cloud]}.tenants").RULES
    return rules


def test_guide_takes_a_provider_to_the_second_tenant(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command of the tool succeeds in the order of the steps; at the end two tenants are in the registry."""
    port = serve(monkeypatch)
    coordinate(monkeypatch, round_report("ok", ok=2))
    blocks = re.findall(r"```\n(.*?)```", section(text, "From nothing to the second tenant"), re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("tailpipe-exports ")]
    assert [one[0] for one in calls].count("tenants") == 6
    for arguments in calls:
        # The deployment and a tenant's own state have tests of their own; here they are not in memory.
        if arguments[0] == "deploy" or arguments[:1] + arguments[2:3] == ["status", "--tenant"]:
            continue
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (arguments, result.output)
    assert port.registry.data is not None
    assert [one["id"] for one in json.loads(port.registry.data)["tenants"]] == ["acme", "globex"]
    assert [one for one, _ in port.checked] == ["acme", "globex"]


def test_document_that_is_shown_is_a_valid_registry(text: str) -> None:
    """Its one tenant has no fault by the rules of AWS."""
    shown = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    found = parse_registry(shown[0].encode(), rules_of("aws") if find_spec("aws_lambda.tenants") else RULES)
    assert (found.refused, list(found.tenants)) == ({}, ["acme"])


def test_every_flag_of_tenants_is_explained(text: str) -> None:
    """Each option of each command is in the section, and each command has its line."""
    explained = section(text, "Tenants")
    for name, command in tenants.commands.items():
        assert f"`tenants {name}" in explained
        flags = {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
        assert {flag for flag in flags if f"`{flag}" not in explained} == set()


@pytest.mark.parametrize("cloud", [one for one, name in FUNCTIONS.items() if find_spec(f"{name}.tenants")])
def test_every_field_of_an_entry_is_in_the_table(cloud: str, text: str) -> None:
    """The tables have the fields of each cloud's rules, required ones in bold type."""
    table = section(text, "Entries").partition(f"**{TITLES[cloud]}**\n")[2].partition("\n**")[0]
    rows = re.findall(r"^\| (destination )?(\*\*)?`(\w+)`(?:\*\*)? \|", table, re.MULTILINE)
    shown = {(bool(destination), name): bool(bold) for destination, bold, name in rows}
    rules = rules_of(cloud)
    fields: dict[tuple[bool, str], bool] = {}
    for is_destination, given in ((False, rules.entry), (True, rules.destination)):
        fields |= {(is_destination, name): field.required for name, field in given.items()}
    assert shown == fields


def test_every_status_and_limit_is_that_of_the_code(text: str) -> None:
    """The statuses of rows, and the numbers."""
    statuses = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", section(text, "Rounds"), re.MULTILINE)))
    )
    assert statuses == {*STATUSES, "not_run"}
    limits = section(text, "Limits")
    assert f"{MAX_BYTES >> 20} MiB and {MAX_TENANTS:,} tenants" in limits
    assert f"{MAX_LABELS} for each tenant, {MAX_LABEL} characters" in limits


def test_every_limit_has_a_source(text: str) -> None:
    """No row of the table is without one."""
    rows: list[Any] = re.findall(
        r"^\| (?!limit|---)([^|]+) \| ([^|]+) \| ([^|]*) \|$", section(text, "Limits"), re.MULTILINE
    )
    assert len(rows) >= 2
    assert [limit for limit, _, source in rows if len(source.strip()) < 10] == []


def test_guide_is_linked(repository: Path) -> None:
    """From the overview, the site and the page of the commands."""
    links: Mapping[str, str] = {
        "README.md": "](docs/fleet.md)",
        "mkdocs.yml": "docs/fleet.md",
        "docs/operating.md": "](fleet.md)",
    }
    assert [name for name, link in links.items() if link not in (repository / name).read_text(encoding="utf-8")] == []
