"""docs/settings.md lists every setting as the code reads it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.settings import Reader
from tools import settings_doc

CLOUDS = ("aws", "azure", "gcp")
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
ENVIRONMENTS = {"environment", "environ", "_environment"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_setting_has_a_description(cloud: str) -> None:
    """The settings that functions read are exactly those that are described."""
    assert settings_doc.undescribed(cloud) == []


def test_values_and_defaults_match_the_code() -> None:
    """This covers choices, bounds, required settings and sources of defaults, one of each kind."""
    aws = {one.name: one for one in settings_doc.settings("aws")}
    assert aws["EXPORTS"].value == "list of `cur2`, `focus`, `carbon`"
    assert (aws["CALLS_AT_ONCE"].value, aws["CALLS_AT_ONCE"].default) == ("whole number from 1 to 64", "8")
    assert (aws["AWS_REGION"].default, aws["BUCKET_REGION"].default) == (None, "that of AWS_REGION")
    assert aws["AWS_ENDPOINT_URL"].value == "loopback address"
    assert settings_doc.MODULES["aws"].Reader is Reader


def test_setting_has_its_terraform_variables(repository: Path) -> None:
    """They come from the module's expression and its locals; a setting without a variable is marked."""
    page = settings_doc.page(repository / "infra")
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| `")}
    assert rows["`EXTERNAL_ID_HASH`"].endswith("| `external_id`, `external_id_previous` |")
    assert rows["`COPY_DAYS`"].endswith("| `settings` |")
    assert rows["`BLOB_KEY`"].endswith("| no variable |")
    assert rows["`external_id`"].startswith("| `external_id` | `string` | required |")


def test_environment_variables_of_the_cli_are_listed(repository: Path) -> None:
    """The rows are exactly the variables that the operator's commands read by name."""
    read, named = set(), set()
    folders = [repository / "cli" / name for name in ("deployment", "terminal")]
    for path in [*sorted(one for folder in folders for one in folder.rglob("*.py")), repository / "cli" / "clouds.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        read |= set(_read(tree))
        named |= {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant)}
    listed = {name for name, _, _ in settings_doc.COMMAND} - {"TF_VAR_name"}
    # The environment of a deployed function is documented among the settings.
    functions = {one.name for cloud in CLOUDS for one in settings_doc.settings(cloud)}
    assert read - functions <= listed
    assert listed - named - {"AZURE_CLIENT_ID"} == set()


def _read(tree: ast.Module) -> Iterator[str]:
    """Yield the variables that a module reads from an environment or reader, as constants or their names."""
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        given: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _named(node.value) in ENVIRONMENTS:
            given = node.slice
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.args
            and _named(node.func.value) in ENVIRONMENTS | {"reader"}
        ):
            given = node.args[0]
        name = given.value if isinstance(given, ast.Constant) else constants.get(_named(given))
        if isinstance(name, str) and NAME.fullmatch(name):
            yield name


def _named(node: ast.expr | None) -> str:
    """Return the last name of an expression such as `os.environ`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
