"""The project follows its rules, and the checker detects violations."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.check_rules import main, violations

# Concatenated, so that this file does not violate the rules it tests.
INDEX = "https://" + "pypi" + ".org/simple"
FLAG = "--" + "index-url"
HOME = "/" + "home/ada/project"
OUTSIDE = ".." + "/shared/notes.md"
IGNORE = "# type: " + "ignore[arg-type]"
NOQA = "# no" + "qa: S603"
WAIT, JOIN = "time" + "out=", ".jo" + "in"


def write(root: Path, name: str, text: str) -> None:
    """Write one file below `root`, creating its folders."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("a.txt", f"first\nsee {INDEX}\n", "a.txt:2: names a package index", id="index host"),
        pytest.param("r.txt", f"{FLAG} x\n", "r.txt:1: names a package index", id="index flag"),
        pytest.param("l.json", '{"resolved"' + ': "http://x"}\n', "l.json:1: names a package index", id="lock file"),
        pytest.param("a.md", f"in {HOME}\n", "a.md:1: names an absolute path", id="home"),
        pytest.param("a.md", f"see {OUTSIDE}\n", "a.md:1: refers to a folder outside", id="outside"),
        pytest.param("a.py", f"x = 1  {IGNORE}\n", "a.py:1: gives no reason", id="type ignore"),
        pytest.param("a.py", f"x = 1  {NOQA}\n", "a.py:1: gives no reason", id="noqa"),
        pytest.param("tests/a.py", f"run(command, {WAIT}60)\n", "tests/a.py:1: waits with a limit", id="timeout"),
        pytest.param("tests/a.py", f"thread{JOIN}(1.5)\n", "tests/a.py:1: waits with a limit", id="join"),
        pytest.param("a.txt", "first\nlast", "a.txt:1: does not end with exactly one newline", id="no last newline"),
        pytest.param("a.txt", "last\n\n", "a.txt:2: does not end with exactly one newline", id="blank last line"),
        pytest.param("a.txt", "x" * 500_000 + "\n", "a.txt:1: has 500,001 bytes", id="large file"),
    ],
)
def test_violation_is_reported_with_its_location(tmp_path: Path, name: str, text: str, expected: str) -> None:
    """The report has file, line and rule."""
    write(tmp_path, name, text)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.md", "https://docs.example.com/work/home/index.html\n", id="path of a URL"),
        pytest.param("a.py", f"x = 1  {IGNORE}  # the stub lacks the keyword\n", id="reason after type ignore"),
        pytest.param("a.py", f"x = 1  {NOQA} - the command is a constant\n", id="reason after noqa"),
        pytest.param("a.py", f"x = 1  {NOQA} - a loader's subclass\n", id="short reason"),
        pytest.param("a.py", f'x = "{NOQA}"\n', id="no comment"),
        pytest.param(
            "tests/a.py", f"get(url, {WAIT}0.3), get(url, {WAIT}HANG_S)\n", id="meant to run out, and the one limit"
        ),
        pytest.param("a.py", f"run(command, {WAIT}60)\n", id="not of the tests"),
        pytest.param("a.txt", "", id="empty file"),
        pytest.param("a.txt", "x" * 499_999 + "\n", id="as large as is allowed"),
    ],
)
def test_valid_text_is_not_reported(tmp_path: Path, name: str, text: str) -> None:
    """An ignore with a reason, and text that resembles a violation, are accepted."""
    write(tmp_path, name, text)
    assert violations(tmp_path) == []


def test_all_violations_are_reported_in_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The checker exits with 1 and lists every violation; for a clean tree it exits with 0 and prints nothing."""
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    write(tmp_path, "a.txt", f"{INDEX}\n{HOME}\n")
    write(tmp_path, "b.txt", f"{OUTSIDE}\n")
    assert main([str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_ignored_files_are_not_checked(tmp_path: Path) -> None:
    """Untracked files that git does not ignore are checked."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    write(tmp_path, ".gitignore", "out.txt\n")
    write(tmp_path, "out.txt", f"{INDEX}\n")
    assert violations(tmp_path) == []
    write(tmp_path, "new.txt", f"{INDEX}\n")
    assert len(violations(tmp_path)) == 1
