"""Files that are made from `infra/` and the code are up to date, and stale ones are found."""

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
# A part of each kind of file that is made, and what it is changed to.
STALE = {
    "infra/gcp/README.md": ("| `region` |", "| `place` |"),
    "infra/aws/README.md": ("<!-- outputs -->\n", "<!-- outputs -->\n| more |\n"),
    "infra/aws/operator-deploy-policy.json": ("s3:", "s4:"),
    "infra/azure/operator-role.json": ("read", "write"),
    "infra/gcp/operator-role.yaml": ("get", "delete"),
    "docs/settings.md": ("whole number", "number"),
    "docs/security.md": ("-->\n| right |", "-->\n| wrong |"),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the folders that hold made files and their sources."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("docs", "infra"):
        shutil.copytree(documents.ROOT / name, root / name, ignore=shutil.ignore_patterns(".terraform*"))
    return root


def test_everything_that_is_made_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    """A setting, a variable or a right that changed shows: `make infra-docs` writes the files anew."""
    assert documents.main(["--check"]) == 0, capsys.readouterr().err


def test_stale_files_are_found_and_written(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check ends with 1, names each file and changes none; writing makes them right."""
    monkeypatch.setattr(documents, "ROOT", copied)
    right = {file: (copied / file).read_text(encoding="utf-8") for file in STALE}
    for file, (old, new) in STALE.items():
        assert old in right[file], file
        (copied / file).write_text(right[file].replace(old, new, 1), encoding="utf-8")

    assert documents.main(["--check"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert sorted(said) == [f"{file} is out of date. Run make infra-docs." for file in sorted(STALE)]
    assert documents.main([]) == 0
    assert {file: (copied / file).read_text(encoding="utf-8") for file in STALE} == right


def test_a_readme_without_its_tables_is_found(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mark that was removed by hand does not switch the check off: writing adds the table at the end."""
    monkeypatch.setattr(documents, "ROOT", copied)
    path = copied / "infra/gcp/README.md"
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("<!-- inputs -->", ""), encoding="utf-8")

    assert documents.main(["--check"]) == 1
    assert "infra/gcp/README.md is out of date" in capsys.readouterr().err
    assert documents.main([]) == 0
    assert "| `region` |" in path.read_text(encoding="utf-8").rpartition("## Inputs\n\n<!-- inputs -->\n")[2]
    path.write_text(right, encoding="utf-8")


def test_a_setting_without_a_description_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that is added without saying what it does, or a description of one that has gone, ends with 1."""
    less = {name: text for name, text in settings_doc.MODULES["gcp"].EFFECTS.items() if name != "COPY_DAYS"}
    monkeypatch.setattr(settings_doc.MODULES["gcp"], "EFFECTS", {**less, "GONE": "Nothing."})
    assert settings_doc.undescribed("gcp") == ["COPY_DAYS", "GONE"]
    assert documents.main(["--check"]) == 1
    assert "COPY_DAYS, GONE" in capsys.readouterr().err


def test_tables_give_types_defaults_and_descriptions(tmp_path: Path) -> None:
    """A required variable is marked as such, a long type is cut, and a pipe does not end a cell."""
    (tmp_path / "main.tf").write_text(MODULE, encoding="utf-8")
    module = modules.read(tmp_path)

    assert modules.inputs(module) == (
        "| name | type | default | description |\n| --- | --- | --- | --- |\n"
        '| `name` | `string` | required | The name \\| an "id". |\n'
        "| `rules` | `list(…)` | `[]` | Rules. |\n"
    )
    assert modules.outputs(module) == "| name | description |\n| --- | --- |\n| `id` | The id. |\n"


def test_tables_say_what_is_granted_where_and_why(tmp_path: Path) -> None:
    """A reader sees rights, places, conditions and reasons, with the module's own words in capitals."""
    (tmp_path / "infra/gcp").mkdir(parents=True)
    (tmp_path / "infra/gcp/rights.yaml").write_text(RIGHTS, encoding="utf-8")
    text = "".join(f"<!-- rights: gcp {one} -->\n<!-- end of rights -->\n" for one in ("function", "connector"))
    lines = documents.with_rights(text, tmp_path).splitlines()

    assert lines[3] == (
        "| `shelf:Read`<br>`shelf:List` | everything<br>`shelf/LIBRARY-NAME`<br>where `shelf:room` is `ROOM/*` "
        "| The function looks at every shelf. Only with: big library. |"
    )
    assert lines[8] == "| `roles/books.reader` | book case | Tailpipe reads the books. |"
