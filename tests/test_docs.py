"""The documents match the tree: paths exist, the guides have one outline, and lines can be read in a diff."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import click
import pytest
from botocore import xform_name

from cli.main import main

GUIDES = ("aws", "azure", "gcp")
LONGEST = 140
# A path in backticks: at least one slash, and a suffix or a final slash.
PATH = re.compile(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|tf|yaml|json|sh|toml|md|txt|yml))?)`")
PATH_OR_FILE = re.compile(r"`([\w./-]+)`")
# Unidiomatic words; the clouds' documentation writes "reports", "repairs", "no caller", "again".
AVOIDED = re.compile(r"\b(?:told|nobody|whoever|mend(?:s|ed|ing)?|for ever|anew|somebody)\b", re.IGNORECASE)
# Folders that git does not track, and places in a cloud's bucket.
MADE = re.compile(r"(?:build|dist|dataexport|state|registry|tenants|rows|runs|deltas|deliveries|tailpipe-exports)/")


def documents(repository: Path) -> list[Path]:
    """Return every hand-written document."""
    return [
        *sorted(repository.glob("*.md")),
        *sorted((repository / "docs").rglob("*.md")),
        *sorted((repository / "infra").glob("*/README.md")),
    ]


def long_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and beginning of each line that is too long, except in tables and for single URLs."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > LONGEST and not line.lstrip().startswith(("|", "([", "http")):
            yield number, line[:60]


def missing_paths(text: str, root: Path) -> list[str]:
    """Return the paths in a text that do not exist below `root`."""
    named = [found for found in PATH.findall(text) if not MADE.match(found)]
    return [name for name in dict.fromkeys(named) if not (root / name).exists()]


def headings(text: str) -> list[str]:
    """Return a document's headings below its title in order, except those in code blocks."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^##+ .+$", outside, re.MULTILINE)


@pytest.mark.parametrize("cloud", GUIDES[1:])
def test_guides_have_the_same_headings_in_the_same_order(repository: Path, cloud: str) -> None:
    """Each topic is in the same place of every cloud's guide."""
    first, other = (headings((repository / "docs" / f"{name}.md").read_text("utf-8")) for name in (GUIDES[0], cloud))
    assert len(first) > 10
    assert other == first


def test_every_path_in_a_document_exists(repository: Path) -> None:
    """A file or folder in backticks is in the tree."""
    named = {path.name: missing_paths(path.read_text("utf-8"), repository) for path in documents(repository)}
    assert {name: paths for name, paths in named.items() if paths and name != "CHANGELOG.md"} == {}


def test_lines_of_documents_can_be_read_in_a_diff(repository: Path) -> None:
    """Lines outside tables have at most 140 characters."""
    found = {path.name: list(long_lines(path.read_text("utf-8"))) for path in documents(repository)}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_documents_use_the_words_of_the_field(repository: Path) -> None:
    """No document contains the unidiomatic words; past sections of the changelog are excepted."""
    found = {path.name: AVOIDED.findall(path.read_text("utf-8")) for path in documents(repository)}
    assert {name: words for name, words in found.items() if words and name != "CHANGELOG.md"} == {}


def test_missing_path_and_long_line_are_reported(tmp_path: Path) -> None:
    """Valid paths and lines are not reported."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "plan.py").touch()
    text = "`shared/plan.py`, `shared/`, `shared/gone.py`, `dist/`, `gone/` and `tests/a/b.py`"
    assert missing_paths(text, tmp_path) == ["shared/gone.py", "gone/", "tests/a/b.py"]
    assert list(long_lines("a" * LONGEST + "\n|" + "b" * LONGEST + "\n" + "c" * (LONGEST + 1))) == [(3, "c" * 60)]
    assert headings("# A\n## B\n```\n## no heading\n```\n### C\n") == ["## B", "### C"]


def classes(folder: Path) -> dict[str, ast.ClassDef]:
    """Return the classes in the modules below a folder, by name."""
    trees = (ast.parse(path.read_text("utf-8")) for path in sorted(folder.rglob("*.py")))
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def members(enumeration: ast.ClassDef) -> list[str]:
    """Return the names of an enumeration's members."""
    targets = (node.targets[0] for node in enumeration.body if isinstance(node, ast.Assign))
    return [target.id for target in targets if isinstance(target, ast.Name)]


def test_glossary_has_the_classes_of_the_engine(repository: Path) -> None:
    """Each class of the glossary exists, and each class of the engine's model is in the glossary."""
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    glossary = text.partition("## Glossary\n")[2].partition("\nThe values")[0]
    named = {
        name
        for row in re.findall(r"^\| [^|]+ \|([^|]*)\|", glossary, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named - set(classes(repository / "shared")) == set()
    tree = ast.parse((repository / "shared" / "model.py").read_text("utf-8"))
    public = {node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}
    assert public - named == set()


def test_glossary_lists_the_values_of_each_enumeration(repository: Path) -> None:
    """The values are complete and in the code's order."""
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    part = text.partition("The values of the enumerations:\n")[2].partition("\n## ")[0]
    listed = {
        row[0]: re.findall(r"`(\w+)`", row[1]) for row in re.findall(r"^- `(\w+)`: ([^.]+)\.", part, re.MULTILINE)
    }
    code = classes(repository / "shared")
    assert len(listed) >= 5
    assert listed == {name: members(code[name]) for name in listed}


def test_every_row_of_the_table_of_changes_names_an_existing_file(repository: Path) -> None:
    """The table of changes is long, and each row names at least one file that exists."""
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(
        r"^\| (?!to change|---)([^|]+) \| ([^|]+) \|", text.partition("## Where do I change")[2], re.MULTILINE
    )
    assert len(rows) >= 25
    assert [
        what for what, where in rows if not any((repository / name).is_file() for name in PATH_OR_FILE.findall(where))
    ] == []


def test_names_that_a_document_locates_exist_in_the_file(repository: Path) -> None:
    """Where a document says `NAME` in `file`, the file contains that name."""
    text = (repository / "docs" / "architecture.md").read_text("utf-8")
    named = [
        (name, file)
        for row in text.splitlines()
        for names, files in re.findall(r"((?:`\w+`(?: and )?)+) in ((?:`[\w./-]+`(?:, )?)+)", row)
        for name in re.findall(r"`(\w+)`", names)
        for file in re.findall(r"`([^`]+)`", files)
    ]
    assert len(named) >= 8
    missing = [(name, file) for name, file in named if name not in (repository / file).read_text("utf-8")]
    assert missing == []


def shown_commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each command line in a document, from code blocks and backticks."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *inline]:
        found = re.match(r"(?:\.venv/bin/)?tailpipe-exports (.*)", line.strip())
        if found:
            yield re.sub(r"\s+#.*$", "", found[1]).split()


def mistakes(words: list[str]) -> Iterator[str]:
    """Yield each command, choice or option that the command line would refuse."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0].islower() and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        if found is None:
            yield f"no command {name}"
            return
        command = found
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help", "--version"}
    yield from (
        f"no option {word} of {command.name}" for word in words if word.startswith("--") and word not in options
    )


def test_every_documented_command_exists(repository: Path) -> None:
    """Each documented command line has an existing command and existing options; so has each `make`."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (repository / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = 0
    for path in documents(repository):
        if path.name == "CHANGELOG.md":
            continue
        text = path.read_text("utf-8")
        calls = list(shown_commands(text))
        shown += len(calls)
        assert [(path.name, *call, wrong) for call in calls for wrong in mistakes(call)] == []
        assert set(re.findall(r"`make ([a-z-]+)", text)) - targets == set(), path.name
    assert shown > 60


# Global options of the AWS CLI, one that it renames (Endpoint of SNS), and its commands that combine several calls.
AWS_CLI = {"--cli-read-timeout", "--cli-binary-format", "--region", "--notification-endpoint"}
AWS_CLI_ONLY = {("logs", "tail"), ("s3", "mb")}


def test_every_documented_aws_cli_command_exists(repository: Path) -> None:
    """The vendor's service models define the commands and options of the AWS CLI."""
    session = botocore.session.get_session()
    shown = 0
    for path in documents(repository):
        text = path.read_text("utf-8").replace("\\\n", " ")
        for service, command, rest in re.findall(r"(?:^|`|\n) *aws ([a-z0-9-]+) ([a-z-]+)([^`\n#]*)", text):
            if (service, command) in AWS_CLI_ONLY:
                continue
            model = session.get_service_model(service)
            names = {xform_name(name, "-"): name for name in model.operation_names}
            assert command in names, (path.name, service, command)
            shape = model.operation_model(names[command]).input_shape
            options = {f"--{xform_name(name, '-')}" for name in (shape.members if shape else {})}
            given = {re.sub("^--no-", "--", one) for one in re.findall(r"--[a-z-]+", rest)}
            assert given - options - AWS_CLI == set(), (path.name, service, command)
            shown += 1
    assert shown > 5


@pytest.mark.parametrize("cloud", GUIDES)
def test_every_terraform_address_in_a_guide_exists(repository: Path, cloud: str) -> None:
    """An address that a guide imports or removes from the state is a resource of its module."""
    module = "".join(path.read_text("utf-8") for path in sorted((repository / "infra" / cloud).glob("*.tf")))
    declared = {".".join(found) for found in re.findall(r'^resource "(\w+)" "(\w+)"', module, re.MULTILINE)}
    guide = (repository / "docs" / f"{cloud}.md").read_text("utf-8")
    named = set(re.findall(r"(?:\$M|module\.tailpipe_exports)\.(\w+\.\w+)", guide))
    assert named
    assert named - declared == set()
