"""Terraform files are read with their references, scopes and lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import module
from tools.infra import hcl


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        pytest.param("var.a", ["var.a"], id="variable"),
        pytest.param('"x-${local.b}"', ["local.b"], id="in a string"),
        pytest.param("[for one in var.list : one.name]", ["var.list"], id="for binds its name"),
        pytest.param("{ for k, v in var.m : k => v if v != local.z }", ["var.m", "local.z"], id="for with a condition"),
        pytest.param("[for a in var.l : [for b in a.items : b + var.n]]", ["var.l", "var.n"], id="nested for"),
        pytest.param("google_shelf.all[*].id", ["google_shelf.all.[].id"], id="splat"),
        pytest.param('google_shelf.all["x"].id', ["google_shelf.all.[x].id"], id="index"),
        pytest.param("google_shelf.all[var.i].id", ["google_shelf.all.[].id", "var.i"], id="computed index"),
        pytest.param("{ name = 1, (var.k) = 2 }", ["var.k"], id="a bare key is no reference"),
        pytest.param("merge(var.a,\n local.b)", ["var.a", "local.b"], id="call"),
        pytest.param("<<-EOT\n%{ for n in var.l }${n} ${var.p}%{ endfor }\nEOT", ["var.l", "var.p"], id="heredoc"),
        pytest.param('"$${var.a}"', [], id="escaped"),
    ],
)
def test_references_are_what_an_expression_takes_from_outside(
    tmp_path: Path, expression: str, expected: list[str]
) -> None:
    """Names bound by a `for`, keys and escaped templates are none; everything else that is named is one."""
    read = module(tmp_path, f"locals {{\n  x = {expression}\n}}\n")

    assert read.broken == []
    assert sorted(".".join(found.parts) for found in read.locals["x"].references()) == sorted(expected)


def test_what_does_not_parse_is_named_with_its_line(tmp_path: Path) -> None:
    """A file that is no HCL is not passed over in silence."""
    read = module(tmp_path, 'variable "a" {\n  type = string\n}\n\nlocals {\n  b = = 1\n}\n')

    assert read.broken == [(tmp_path / "main.tf", 6)]


def test_blocks_keep_labels_lines_and_nesting(tmp_path: Path) -> None:
    """A block knows its labels, the line it begins on and the blocks within it."""
    read = module(tmp_path, '\nresource "google_shelf" "a" {\n  lock {\n    key = "k"\n  }\n}\n')
    [block] = read.of("resource")

    assert (block.labels, block.line) == (("google_shelf", "a"), 2)
    assert block.nested("lock")[0].by_name["key"].literal == "k"
    assert list(read.objects) == [("google_shelf", "a")]


def test_elements_tell_computed_keys_from_written_ones(tmp_path: Path) -> None:
    """A computed key has no name, for what it is becomes known to Terraform alone."""
    read = module(tmp_path, 'locals {\n  x = { a = 1, "b" = 2, (var.c) = 3 }\n}\n')

    assert [name for name, _, _ in hcl.elements(read.locals["x"].value) or []] == ["a", "b", None]
