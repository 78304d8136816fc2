"""A few hundred inputs for each reader, and every input that was once neither read nor refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import __main__ as command
from tests.hostile.readers import READERS, read
from tests.limits import HANG_S, examples


@pytest.mark.parametrize("name", READERS)
def test_hostile_input_is_read_or_refused(name: str) -> None:
    """No other exception is raised, and no input takes seconds."""
    counted = command.try_reader(name, examples(200), 0)
    assert counted.failures == ()
    assert counted.inputs > 0


# What `make hostile` found: the reader and its input.
FOUND: list[tuple[str, Any]] = [
    ("hints", "\ud800"),
]


@pytest.mark.parametrize(("name", "value"), FOUND)
def test_input_that_was_found_is_read_or_refused(name: str, value: Any) -> None:
    """Each of these once raised an unexpected exception."""
    read(name, value)


def test_reader_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is the traceback of the shrunk input, and the other inputs are counted."""

    def fail(_value: object) -> None:
        raise KeyError("not refused")

    monkeypatch.setitem(READERS, "requests", READERS["requests"]._replace(read=fail))
    counted = command.try_reader("requests", 20, 0)
    assert "KeyError: 'not refused'" in counted.failures[0]
    assert command.table([counted])[-2:] != []
    assert any(" | 1 |" in line for line in command.table([counted]))


def test_record_writes_the_table_between_its_marks(tmp_path: Path) -> None:
    """The rest of the document stays."""
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n", encoding="utf-8")
    command.record(["| a |"], document)
    assert document.read_text(encoding="utf-8") == f"before\n{command.BEGIN}\n| a |\n{command.END}\nafter\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("tests.hostile", ("--count", "60", "--readers", "requests;hints")),
        # Ways that do not exist: two processes rehearse the story, and play no case.
        ("tests.crash", ("--clouds", "aws", "--stories", "steady", "--ways", "a;b;c;d;e", "--json", "lines.jsonl")),
    ],
)
def test_command_divides_its_work_among_processes(module: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    """The processes can import what they are given; otherwise each of them ends, and the command never does."""
    root = Path(__file__).resolve().parents[2]
    line = [sys.executable, "-m", module, "--jobs", "2", *arguments]
    ended = subprocess.run(
        [str(tmp_path / one) if one.endswith(".jsonl") else one for one in line],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
