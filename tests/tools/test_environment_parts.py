"""Decisions of set-up: which parts are complete, which are renewed, and what a missing program means."""

from __future__ import annotations

import errno
import json
import platform
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools import environment
from tools.environment import SetupError

RUN = environment.run


class Commands:
    """Replaces running commands: records them, and fails those that contain the text `fails`."""

    def __init__(self, venv: Path) -> None:
        self.run: list[str] = []
        self.fails = ""
        self._venv = venv

    def __call__(self, what: str, *command: str | Path, env: dict[str, str] | None = None) -> None:
        """Record a command; creating the environment leaves only an interpreter."""
        self.run.append(what)
        if self.fails and self.fails in what:
            raise SetupError(f"{what}: error: no route to host")
        if "--clear" in command and command[-1] == self._venv:
            for path in sorted(self._venv.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (self._venv / "bin").mkdir()
            (self._venv / "bin" / "python").touch()
            (self._venv / "pyvenv.cfg").touch()


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore the test process's signal handlers, which set-up replaces."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Let set-up work in a folder of the test."""
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


@pytest.fixture
def installed(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the locks that are installed into a new environment."""
    names: list[str] = []
    monkeypatch.setattr(environment, "REQUIREMENTS", environment.ROOT)
    monkeypatch.setattr(environment, "install", lambda what, lock, **_more: names.append(lock.stem))
    monkeypatch.setattr(environment, "check_packages", lambda lock: None)
    for name in ("pyproject.toml", *(f"{one}.txt" for one in environment.SETS)):
        (environment.ROOT / name).write_text(name)
    environment.make_environment()
    return names


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
def test_damaged_environment_is_recreated(commands: Commands, damage: str) -> None:
    """The reason is printed; an intact environment is kept."""
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


def test_part_is_installed_once_and_again_when_its_source_changes(commands: Commands, tmp_path: Path) -> None:
    """A part is recorded only when it is complete."""
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
def test_unusable_node_is_reported(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str | None, words: str
) -> None:
    """Without Node, with an old one or another program of that name, npm is not run."""
    path = tmp_path / "path"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    if node is not None:
        program(path, "node", node)
        program(path, "npm", "")
    with pytest.raises(SetupError, match=words):
        environment.node_packages()
    assert commands.run == []


def test_failed_npm_is_not_recorded(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error is printed, and the next call says that it tries again."""
    environment.make_environment()
    commands.run.clear()
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
    assert "trying again" not in capsys.readouterr().err
    commands.fails = ""
    environment.node_packages()
    output = capsys.readouterr().err
    assert "trying again what failed before (installing the storage emulator: error: no route to host)" in output
    environment.node_packages()
    assert "trying again" not in capsys.readouterr().err
    assert commands.run == ["installing the storage emulator"] * 2


def test_failed_optional_part_is_reported_and_the_rest_installed(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence says what is missing and what does not work without it."""
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
    output = capsys.readouterr().err
    assert "no network. First is missing." in output
    assert "no network. Third is missing." in output


def test_widest_set_is_kept(installed: list[str]) -> None:
    """A later call for a smaller set installs and removes nothing."""
    for name in ("demo", "test", "demo", "run", "test"):
        environment.python_packages(name)
    assert installed == ["demo", "test"]
    (environment.ROOT / "test.txt").write_text("another lock")
    environment.python_packages("demo")
    assert installed == ["demo", "test", "test"]
    assert not environment.UNFINISHED.exists()


def test_full_disk_is_reported_in_one_sentence(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No other installer is tried, no network advice is given, and nothing is recorded."""
    monkeypatch.setattr(environment, "run", RUN)
    monkeypatch.setattr(environment, "REQUIREMENTS", environment.ROOT)
    for name in ("pyproject.toml", *(f"{one}.txt" for one in environment.SETS)):
        (environment.ROOT / name).write_text("uv==1\n")
    full = "import sys; sys.exit('error: failed to write: No space left on device (os error 28)')"

    def sync(what: str, _lock: Path, **_more: object) -> None:
        environment.run(what, sys.executable, "-c", full)

    monkeypatch.setattr(environment, "make_environment", lambda: environment.DONE.mkdir(exist_ok=True))
    monkeypatch.setattr(environment, "install", sync)
    assert environment.main(["demo"]) == 1
    output = capsys.readouterr().err
    assert "no space is left on the device" in output
    assert "Free space there" in output
    assert "network" not in output
    assert "Traceback" not in output
    assert environment.UNFINISHED.exists()
    assert not (environment.DONE / "packages").exists()


def test_unexplained_failure_on_a_full_disk_is_reported_as_such(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's venv reports only a failed pip; the free space shows the reason."""
    script = "import sys; sys.exit('Error: Command ensurepip returned non-zero exit status 1.')"
    with pytest.raises(SetupError, match="ensurepip"):
        RUN("making .venv", sys.executable, "-c", script)
    left = shutil.disk_usage(environment.ROOT)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: left)
    with pytest.raises(environment.DiskFull, match=r"making \.venv: no space is left"):
        RUN("making .venv", sys.executable, "-c", script)


def test_failed_write_of_set_up_is_reported_in_one_sentence(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk may be too full for set-up's own files, such as its lock."""

    def full(_name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(environment.DONE / "environment"))

    monkeypatch.setattr(environment, "set_up", full)
    assert environment.main(["demo"]) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "No space left on device. Free space" in output


@pytest.fixture
def locked(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the checkout read-only, also for root: a folder has the name of the lock file."""
    (environment.ROOT / ".setup.lock").mkdir()


def test_complete_read_only_checkout_is_used(
    commands: Commands, locked: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Set-up does not write to it."""
    environment.make_environment()
    environment.part(environment.DONE / "packages", "same", lambda: None)
    commands.run.clear()

    def set_up(_name: str) -> None:
        environment.make_environment()
        environment.part(environment.DONE / "packages", "same", lambda: environment.run("never"))

    monkeypatch.setattr(environment, "set_up", set_up)
    assert environment.main(["demo"]) == 0
    assert (commands.run, capsys.readouterr().err) == ([], "")


@pytest.mark.parametrize("missing", ["environment", "packages"])
def test_incomplete_read_only_checkout_is_refused(
    commands: Commands, locked: None, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has what is incomplete, the reason and the remedy; no command is run."""
    if missing == "packages":
        environment.make_environment()
        commands.run.clear()

    def set_up(_name: str) -> None:
        environment.make_environment()
        environment.part(environment.DONE / "packages", "same", lambda: environment.run("never"))

    monkeypatch.setattr(environment, "set_up", set_up)
    assert environment.main(["demo"]) == 1
    output = capsys.readouterr().err
    what = ".venv" if missing == "environment" else "packages"
    assert f"cannot be written (Is a directory), and {what} is not complete there. Copy the checkout" in output
    assert commands.run == []


@pytest.mark.parametrize("writable", [True, False])
def test_read_only_cache_is_replaced_by_one_in_the_checkout(
    commands: Commands, writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise uv and npm fail; a writable cache, or one that was set, is kept."""
    home = tmp_path / "home"
    home.mkdir()
    if not writable:
        (home / ".cache").write_text("no folder")
        (home / ".npm").write_text("no folder")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CACHE_HOME", "UV_CACHE_DIR", "npm_config_cache"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "PYTHON", Path(sys.executable))
    own = None if writable else str(environment.VENV / "uv-cache")
    assert environment._uv_environment.__wrapped__().get("UV_CACHE_DIR") == own
    assert environment._npm_environment().get("npm_config_cache") == (
        None if writable else str(environment.VENV / "npm-cache")
    )
    monkeypatch.setenv("UV_CACHE_DIR", "/chosen")
    assert environment._uv_environment.__wrapped__()["UV_CACHE_DIR"] == "/chosen"


def test_truncated_record_is_ignored(installed: list[str]) -> None:
    """A full disk may truncate the record of the widest set; the requested set is installed."""
    (environment.DONE / "widest").write_text("che")
    environment.python_packages("demo")
    assert installed == ["demo"]


def test_swallowed_interrupt_ends_the_next_step(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops an exception that is raised in a finalizer; set-up still ends."""
    monkeypatch.setattr(environment, "run", RUN)
    monkeypatch.setattr(environment, "interrupted", [])
    with pytest.raises(KeyboardInterrupt):
        environment.interrupt(signal.SIGINT, None)
    assert environment.main(["demo"]) == 130
    assert commands.run == []
