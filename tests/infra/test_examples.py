"""Examples call their module as it is, and are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import module, said
from tools.infra import examples

MODULE = """\
variable "name" {
  type = string
}
variable "note" {
  type    = string
  default = ""
}
output "id" {
  value = google_shelf.a.id
}
resource "google_shelf" "a" {
  name = "${var.name}${var.note}"
}
"""
GOOD = """\
provider "google" {
}
module "shelf" {
  source = "../.."
  name   = "n"
}
output "id" {
  value = module.shelf.id
}
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("", "", [], id="good"),
        pytest.param(
            "  name ", "  nam ", ["3: variable name is required", "5: the module has no variable nam"], id="name"
        ),
        pytest.param('  name   = "n"\n', "", ["3: variable name is required and not given"], id="required"),
        pytest.param("shelf.id", "shelf.ids", ["8: the module has no output ids"], id="output"),
        pytest.param('provider "google"', 'provider "aws"', ["1: has no provider block google"], id="provider"),
        pytest.param('"../.."', '"../elsewhere"', ["1: does not call"], id="another module"),
    ],
)
def test_an_example_fits_its_module(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    """Whatever one thing is changed in a good example, it is told at its line."""
    shown = module(tmp_path, MODULE)
    found = said(examples.faults(module(tmp_path / "examples" / "minimal", GOOD.replace(old, new, 1)), shown))

    assert len(found) == len(expected), found
    for fault, start in zip(found, expected, strict=True):
        assert fault.startswith(start)
