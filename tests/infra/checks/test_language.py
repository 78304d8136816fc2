"""The module of Google Cloud stays at the language of Terraform 1.5.7, which Infrastructure Manager runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infra.language import newer
from tests.infra.planning import REPOSITORY

MODULE = REPOSITORY / "infra" / "gcp"
VARIABLE = 'variable "one" {\n  type = string\n  validation {\n    condition = %s\n    error_message = "No."\n  }\n}\n'
# A construct of a later version, and what is reported. The comment names the version that introduced it.
NEWER = {
    "removed": ("removed {\n  from = a.b\n}\n", "block removed in a file"),  # 1.7
    "an import for each": (  # 1.7
        'import {\n  for_each = {}\n  to = a.b\n  id = "c"\n}\n',
        "argument for_each of import",
    ),
    "a provider's function": ("locals {\n  a = provider::google::id(1)\n}\n", "function provider::google::id"),  # 1.8
    "issensitive": ("locals {\n  a = issensitive(1)\n}\n", "function issensitive"),  # 1.8
    "templatestring": ('locals {\n  a = "${templatestring(1, {})}"\n}\n', "function templatestring"),  # 1.9
    "another variable in a validation": (  # 1.9
        VARIABLE % "var.one != var.two",
        "reference to var.two in the validation of one",
    ),
    "a local in a validation": (  # 1.9
        VARIABLE % "contains(local.all, var.one)",
        "reference to local.all in the validation of one",
    ),
    "an ephemeral variable": (  # 1.10
        'variable "one" {\n  type = string\n  ephemeral = true\n}\n',
        "argument ephemeral of variable",
    ),
    "an ephemeral resource": ('ephemeral "a" "b" {\n}\n', "block ephemeral in a file"),  # 1.10
    "the identity of an import": ("import {\n  to = a.b\n  identity = {}\n}\n", "argument identity of import"),  # 1.12
    "an action": ('action "a" "b" {\n}\n', "block action in a file"),  # 1.14
    "a backend": ('terraform {\n  backend "gcs" {\n  }\n}\n', "block backend in terraform"),
    "Terraform Cloud": ("terraform {\n  cloud {\n  }\n}\n", "block cloud in terraform"),
}


def test_module_and_examples_have_no_newer_construct() -> None:
    """Every block, argument and function is one of Terraform 1.5, and the module does not ask for a later version."""
    for folder in (MODULE, MODULE / "examples" / "minimal", MODULE / "examples" / "complete"):
        assert newer(folder) == []
    (required,) = re.findall(r'required_version = "(.*)"', (MODULE / "versions.tf").read_text(encoding="utf-8"))
    assert required == ">= 1.5"


@pytest.mark.parametrize("case", NEWER, ids=str)
def test_newer_construct_is_reported(case: str, tmp_path: Path) -> None:
    """Each is reported with its file and line."""
    text, what = NEWER[case]
    (tmp_path / "new.tf").write_text(text, encoding="utf-8")
    found = newer(tmp_path)
    assert [one.what for one in found] == [what]
    assert (found[0].file, found[0].line > 0) == ("new.tf", True)


def test_write_only_arguments_are_not_used() -> None:
    """Providers name them `…_wo`, and Terraform accepts them from 1.11 on."""
    assert not re.search(r"\b\w+_wo\b", "".join(path.read_text(encoding="utf-8") for path in MODULE.glob("*.tf")))
