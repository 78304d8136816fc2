"""Names that are undeclared, unused or too new are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import module, said
from tools.infra import names

USED = 'variable "a" {\n  type = object({ b = string, c = optional(list(object({ d = string }))) })\n}\n'


def output(expression: str) -> str:
    """One output with a value."""
    return f'output "o" {{\n  value = {expression}\n}}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(USED + output("var.a.b"), [], id="good"),
        pytest.param(output("var.x"), ["2: var.x is not declared"], id="variable"),
        pytest.param(output("local.x"), ["2: local.x is not declared"], id="local"),
        pytest.param(output("module.x.y"), ["2: module.x is not declared"], id="module"),
        pytest.param(output("google_shelf.x.id"), ["2: google_shelf.x is not declared"], id="resource"),
        pytest.param(output("data.google_city.x.id"), ["2: data.google_city.x is not declared"], id="data"),
        pytest.param(output("x"), ["2: x is not declared"], id="a name of nothing"),
        pytest.param(output("each.key"), ["2: each is used where there is no for_each"], id="each"),
        pytest.param(output("count.index"), ["2: count is used where there is no count"], id="count"),
        pytest.param(USED + output("var.a.z"), ["5: var.a: its type has no member z"], id="member of a type"),
        pytest.param(USED + output("var.a.c[0].d"), [], id="member below an optional list"),
        pytest.param(USED + output("var.a.c[0].e"), ["5: var.a: its type has no member e"], id="deeper member"),
        pytest.param(USED, ["1: variable a is declared and never used"], id="unused variable"),
        pytest.param("locals {\n  x = 1\n}\n", ["2: local x is declared and never used"], id="unused local"),
        pytest.param(
            'data "google_city" "c" {\n}\n', ["1: data.google_city.c is read and never used"], id="unused data source"
        ),
        pytest.param(
            'resource "google_shelf" "s" {\n  for_each = toset([])\n}\n' + output("google_shelf.s.id"),
            ["5: google_shelf.s is there many times; say which one"],
            id="many without an index",
        ),
        pytest.param(
            'resource "google_shelf" "s" {\n}\n' + output('google_shelf.s["a"].id'),
            ["4: google_shelf.s is there once and takes no index"],
            id="one with an index",
        ),
        pytest.param(
            'resource "google_shelf" "s" {\n  dynamic "rule" {\n    for_each = [1]\n    iterator = it\n    content {\n'
            "      days = it.value\n    }\n  }\n}\n",
            [],
            id="a dynamic block's iterator",
        ),
        pytest.param(
            output('templatestring("x", {})'), ["2: templatestring is no function of Terraform 1.5"], id="1.9"
        ),
        pytest.param(
            output('provider::aws::arn_parse("x")'), ["2: provider::aws::arn_parse is a provider's"], id="1.8"
        ),
        pytest.param("removed {\n}\n", ["1: Terraform 1.5 has no block removed"], id="1.7"),
        pytest.param('ephemeral "a" "b" {\n}\n', ["1: Terraform 1.5 has no block ephemeral"], id="1.10"),
        pytest.param("import {\n  for_each = []\n}\n", ["1: import takes for_each since Terraform 1.7"], id="import"),
        pytest.param(
            'resource "google_shelf" "s" {\n  secret_wo = "x"\n}\n', ["2: secret_wo: write-only arguments"], id="1.11"
        ),
        pytest.param(
            USED + 'variable "e" {\n  validation {\n    condition = var.e != var.a\n  }\n}\n' + output("var.e"),
            ["6: the validation of e refers to var.a"],
            id="validation across variables",
        ),
        pytest.param(USED + output("var.a") + "locals {\n  x = = 1\n}\n", ["8: is no valid HCL"], id="broken file"),
    ],
)
def test_names_fit_together(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Each name that does not fit is told at its line, and nothing else is."""
    found = said(names.faults(module(tmp_path, text)))

    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)
