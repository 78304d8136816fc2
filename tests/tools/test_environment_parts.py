"""What set-up decides: which parts are trusted, which are made again, and what a missing program means."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import environment
from tools.environment import SetupError


class Commands:
    """Stands in for running commands: notes them, and fails where it is told to."""

    def __init__(self, venv: Path) -> None:
        self.run: list[str] = []
        self.fails = ""
        self._venv = venv

    def __call__(self, what: str, *command: str | Path, env: dict[str, str] | None = None) -> None:
        """Note what is run; making the environment leaves an interpreter and nothing else."""
        self.run.append(what)
        if self.fails and self.fails in what:
            raise SetupError(f"{what}: error: no route to host")
        if "--clear" in command and command[-1] == self._venv:
            for path in sorted(self._venv.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (self._venv / "bin").mkdir()
            (self._venv / "bin" / "python").touch()
            (self._venv / "pyvenv.cfg").touch()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Let set-up work on a folder of the test's own."""
    venv = tmp_path / ".venv"
    venv.mkdir()
    done = Commands(venv)
    for name, path in {
        "ROOT": tmp_path,
        "VENV": venv,
        "DONE": venv / ".setup",
        "UNFINISHED": venv / ".unfinished",
        "LOG": tmp_path / ".setup.log",
        "PYTHON": venv / "bin" / "python",
        "UV": venv / "bin" / "uv",
        "NODE_MODULES": tmp_path / "node_modules",
    }.items():
        monkeypatch.setattr(environment, name, path)
    monkeypatch.setattr(environment, "run", done)
    return done


def _record_file() -> Path:
    return environment.DONE / "environment"


def _record(change: Callable[[list[str]], None]) -> None:
    recorded = json.loads(_record_file().read_text())
    change(recorded)
    _record_file().write_text(json.dumps(recorded))


def _break_link() -> None:
    environment.PYTHON.unlink()
    environment.PYTHON.symlink_to("/no/such/python")


DAMAGE: dict[str, Callable[[], object]] = {
    "of another Python": lambda: _record(lambda one: one.__setitem__(0, "3.10.1 (main)")),
    "of another installation of Python": lambda: _record(lambda one: one.__setitem__(1, "/opt/elsewhere")),
    "of another folder": lambda: _record(lambda one: one.__setitem__(2, "/srv/another")),
    "of another machine": lambda: _record(lambda one: one.__setitem__(3, "riscv64")),
    "without its interpreter": lambda: environment.PYTHON.unlink(missing_ok=False),
    "whose interpreter is a broken link": _break_link,
    "half made": lambda: environment.UNFINISHED.write_text(""),
    "without a record": lambda: _record_file().unlink(),
    "with a record that is no text": lambda: _record_file().write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_environment_that_cannot_be_trusted_is_made_again(commands: Commands, damage: str) -> None:
    """An environment {damage} is replaced, with a word on why; a sound one is left alone."""
    environment.make_environment()
    environment.make_environment()
    assert commands.run == [f"making .venv with Python {platform.python_version()}"]
    (environment.VENV / "left-over").touch()
    DAMAGE[damage]()
    environment.make_environment()
    assert len(commands.run) == 2
    assert not (environment.VENV / "left-over").exists()
    recorded = json.loads((environment.DONE / "environment").read_text())
    assert recorded == [sys.version, sys.base_prefix, str(environment.ROOT), platform.machine()]


def test_a_part_is_made_once_and_again_when_its_source_changes(commands: Commands, tmp_path: Path) -> None:
    """A part is recorded only when it is complete; what it is made from decides whether it is made again."""
    made: list[str] = []
    stamp = tmp_path / "stamps" / "part"
    environment.part(stamp, "a", lambda: made.append("a"))
    environment.part(stamp, "a", lambda: made.append("again"))
    environment.part(stamp, "b", lambda: made.append("b"))
    assert made == ["a", "b"]

    def fails() -> None:
        raise SetupError("no")

    with pytest.raises(SetupError):
        environment.part(stamp, "c", fails)
    environment.part(stamp, "b", lambda: made.append("b again"))
    assert made == ["a", "b", "b again"]


def program(folder: Path, name: str, text: str) -> None:
    """Write a program that prints a text."""
    (folder / name).write_text(f"#!/bin/sh\necho '{text}'\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        pytest.param(None, "Node.js 20 or newer with npm was not found", id="none"),
        pytest.param("v18.19.1", "Node.js 20 or newer is required, and this one is v18.19.1", id="old"),
        pytest.param("no version", "was not found", id="another program"),
    ],
)
def test_a_node_that_does_not_do_is_named(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str | None, words: str
) -> None:
    """Without Node, with an old one, or with another program of its name, npm is not run and the error says why."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    if node is not None:
        program(path, "node", node)
        program(path, "npm", "")
    with pytest.raises(SetupError, match=words):
        environment.node_packages()
    assert commands.run == []


def test_a_failing_npm_leaves_no_record(commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of npm is passed on, and the next call tries again."""
    for name in ("package-lock.json", "package.json", ".npmrc"):
        (tmp_path / name).touch()
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    program(path, "node", "v20.1.0")
    program(path, "npm", "")
    commands.fails = "storage emulator"
    with pytest.raises(SetupError, match="no route to host"):
        environment.node_packages()
    commands.fails = ""
    environment.node_packages()
    environment.node_packages()
    assert commands.run == ["installing the storage emulator"] * 2


def test_optional_parts_that_fail_are_reported_and_the_rest_is_set_up(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is optional and cannot be had is one sentence each, with what is missing without it; set-up goes on."""
    done: list[str] = []

    def fails() -> None:
        raise SetupError("no network")

    monkeypatch.setattr(environment, "python_packages", done.append)
    monkeypatch.setattr(environment, "discovery_documents", lambda: done.append("documents"))
    parts = {
        "demo": [(fails, "First is missing."), (lambda: done.append("second"), "")],
        "run": [],
        "test": [(fails, "Third is missing.")],
        "check": [(lambda: done.append("not asked for"), "")],
    }
    monkeypatch.setattr(environment, "OPTIONAL", parts)
    environment.set_up("test")
    assert done == ["test", "documents", "second"]
    said = capsys.readouterr().err
    assert "no network. First is missing." in said
    assert "no network. Third is missing." in said


def test_the_widest_set_stays(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for a narrow set after a wide one installs nothing and removes nothing."""
    installed: list[str] = []
    monkeypatch.setattr(environment, "REQUIREMENTS", environment.ROOT)
    monkeypatch.setattr(environment, "install", lambda what, lock, **_more: installed.append(lock.stem))
    monkeypatch.setattr(environment, "check_packages", lambda lock: None)
    for name in ("pyproject.toml", *(f"{one}.txt" for one in environment.SETS)):
        (environment.ROOT / name).write_text(name)
    environment.make_environment()
    for name in ("demo", "test", "demo", "run", "test"):
        environment.python_packages(name)
    assert installed == ["demo", "test"]
    (environment.ROOT / "test.txt").write_text("another lock")
    environment.python_packages("demo")
    assert installed == ["demo", "test", "test"]
    assert not environment.UNFINISHED.exists()
