"""The tables in a README are made from the module's files and held equal to them."""

from __future__ import annotations

from pathlib import Path

from tests.infra.support import module, said, write
from tools.infra import hcl, readme

TEXT = """\
variable "name" {
  description = "The name | an \\"id\\"."
  type        = string
}
variable "rules" {
  description = "Rules."
  type        = list(object({ a_rather_long_member = string, another_rather_long_member = number }))
  default     = []
}
output "id" {
  description = "The id."
  value       = var.name
}
"""


def test_a_table_tells_types_defaults_and_descriptions(tmp_path: Path) -> None:
    """A required variable is told as such, a long type is cut, and a pipe does not end a cell."""
    assert readme.tables(module(tmp_path, TEXT)) == {
        "inputs": "| name | type | default | description |\n| --- | --- | --- | --- |\n"
        '| `name` | `string` | required | The name \\| an "id". |\n'
        "| `rules` | `list(…)` | `[]` | Rules. |",
        "outputs": "| name | description |\n| --- | --- |\n| `id` | The id. |",
    }


def test_written_tables_are_right_and_stay(tmp_path: Path) -> None:
    """Writing mends the file, keeps the rest of it, and changes nothing the second time."""
    read = module(write(tmp_path, {"README.md": "# A\n\n## Inputs\n\n| old |\n| --- |\n\nMore.\n"}), TEXT)

    assert len(said(readme.faults(read))) == 2
    assert readme.write(read) is True
    assert said(readme.faults(read)) == []
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# A\n\n## Inputs\n\n<!-- inputs -->\n| name")
    assert "More." in text
    assert "| old |" not in text
    assert readme.write(read) is False


def test_drift_is_told_at_the_table(tmp_path: Path) -> None:
    """A description that changes in a file and not in the README is a fault at the table's line."""
    read = module(write(tmp_path, {"README.md": "# A\n"}), TEXT)
    readme.write(read)
    write(tmp_path, {"main.tf": TEXT.replace("The id.", "The number.")})
    [fault] = said(readme.faults(hcl.read_module(tmp_path)))

    assert "the table of outputs differs from the files" in fault
    assert int(fault.partition(":")[0]) > 1


def test_a_missing_readme_is_told(tmp_path: Path) -> None:
    """A module without a README has no tables to hold."""
    assert said(readme.faults(module(tmp_path, TEXT))) == ["1: is missing"]
