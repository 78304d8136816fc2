"""Generated files match `infra/` and the code, and outdated files are reported."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import documents, modules, settings_doc

MODULE = """\
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
RIGHTS = """\
function:
  - id: ReadShelves
    why: The function looks at every shelf.
    when: big_library
    actions: ["shelf:Read", "shelf:List"]
    resources: ["*", "shelf/${library_name}"]
    condition: {StringLike: {"shelf:room": "${room}/*"}}
connector:
  - id: ReadBooks
    why: Tailpipe reads the books.
    role: roles/books.reader
    scope: book_case
"""
# A text in each kind of generated file, and its replacement.
STALE = {
    "infra/gcp/README.md": ("| `region` |", "| `place` |"),
    "infra/aws/README.md": ("<!-- outputs -->\n", "<!-- outputs -->\n| more |\n"),
    "infra/aws/operator-deploy-policy.json": ("s3:", "s4:"),
    "infra/azure/operator-role.json": ("read", "write"),
    "infra/azure/template.json": ("Storage", "storage"),
    "infra/azure/management-group.json": ("policy", "rule"),
    "infra/azure/createUiDefinition.json": ("environment", "place"),
    "infra/gcp/operator-role.yaml": ("get", "delete"),
    "docs/settings.md": ("whole number", "number"),
    "docs/security.md": ("-->\n| permission |", "-->\n| wrong |"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the folders with generated files and their sources."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("docs", "infra"):
        shutil.copytree(documents.ROOT / name, root / name, ignore=shutil.ignore_patterns(".terraform*"))
    return root


def test_outdated_files_are_reported_and_rewritten(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check exits with 1, names each file and changes none; writing corrects them."""
    monkeypatch.setattr(documents, "ROOT", copied)
    right = {file: (copied / file).read_text(encoding="utf-8") for file in STALE}
    for file, (old, new) in STALE.items():
        assert old in right[file], file
        (copied / file).write_text(right[file].replace(old, new, 1), encoding="utf-8")

    assert documents.main(["--check"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == [f"{file} is out of date. Run make infra-docs." for file in sorted(STALE)]
    assert documents.main([]) == 0
    assert {file: (copied / file).read_text(encoding="utf-8") for file in STALE} == right


def test_readme_without_its_tables_is_reported(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A removed marker does not disable the check; writing appends the table."""
    monkeypatch.setattr(documents, "ROOT", copied)
    path = copied / "infra/gcp/README.md"
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("<!-- inputs -->", ""), encoding="utf-8")

    assert documents.main(["--check"]) == 1
    assert "infra/gcp/README.md is out of date" in capsys.readouterr().err
    assert documents.main([]) == 0
    assert "| `region` |" in path.read_text(encoding="utf-8").rpartition("## Inputs\n\n<!-- inputs -->\n")[2]
    path.write_text(right, encoding="utf-8")


def test_setting_without_a_description_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The description of a removed setting is reported too."""
    less = {name: text for name, text in settings_doc.MODULES["gcp"].EFFECTS.items() if name != "COPY_DAYS"}
    monkeypatch.setattr(settings_doc.MODULES["gcp"], "EFFECTS", {**less, "GONE": "Nothing."})
    assert settings_doc.undescribed("gcp") == ["COPY_DAYS", "GONE"]
    assert documents.main(["--check"]) == 1
    assert "COPY_DAYS, GONE" in capsys.readouterr().err


def test_tables_have_types_defaults_and_descriptions(tmp_path: Path) -> None:
    """A required variable is marked, a long type is shortened, and a pipe does not end a cell."""
    (tmp_path / "main.tf").write_text(MODULE, encoding="utf-8")
    module = modules.read(tmp_path)

    assert modules.inputs(module) == (
        "| name | type | default | description |\n| --- | --- | --- | --- |\n"
        '| `name` | `string` | required | The name \\| an "id". |\n'
        "| `rules` | `list(…)` | `[]` | Rules. |\n"
    )
    assert modules.outputs(module) == "| name | description |\n| --- | --- |\n| `id` | The id. |\n"


def test_permission_tables_have_scope_condition_and_reason(tmp_path: Path) -> None:
    """The tables quote the module's words and keep capitals."""
    (tmp_path / "infra/gcp").mkdir(parents=True)
    (tmp_path / "infra/gcp/rights.yaml").write_text(RIGHTS, encoding="utf-8")
    text = "".join(f"<!-- rights: gcp {one} -->\n<!-- end of rights -->\n" for one in ("function", "connector"))
    lines = documents.with_rights(text, tmp_path).splitlines()

    assert lines[3] == (
        "| `shelf:Read`<br>`shelf:List` | everything<br>`shelf/LIBRARY-NAME`<br>where `shelf:room` is `ROOM/*` "
        "| The function looks at every shelf. Only with: big library. |"
    )
    assert lines[8] == "| `roles/books.reader` | book case | Tailpipe reads the books. |"
