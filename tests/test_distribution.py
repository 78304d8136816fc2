"""What the distribution says of itself: one version, and a commit that is never guessed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tailpipe_exports

ARGUMENTS = ("-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false")
PYTHON = "import tailpipe_exports as one; print(one.version()); print(one.commit())"
Git = Callable[..., str]


@pytest.fixture
def git() -> Git:
    """Return git, as it runs in a folder without the user's configuration."""

    def call(folder: Path, *arguments: str) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        done = subprocess.run(
            ["git", "-C", str(folder), *ARGUMENTS, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return call


def checkout(folder: Path, version: str = "7.8.9") -> Path:
    """Write a folder that is a checkout as far as the distribution looks, and return it."""
    package = folder / "tailpipe_exports"
    package.mkdir(parents=True)
    shutil.copy(tailpipe_exports.__file__, package)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "tailpipe-exports"\nversion = "{version}"\n')
    return folder


def committed(folder: Path, git: Git, subject: str = "one") -> str:
    """Commit all of a folder; return the first twelve digits of the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", subject)
    return git(folder, "rev-parse", "HEAD")[:12]


def told(folder: Path, interpreter: str, **variables: str) -> list[str]:
    """Return version and commit as another process, started elsewhere, reads them of a folder."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [interpreter, "-c", PYTHON], cwd=folder.parent, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.fixture
def interpreter() -> str:
    """Return an interpreter in which this project is not installed."""
    return os.path.realpath(sys.executable)


def test_a_checkout_names_its_version_and_commit(tmp_path: Path, git: Git, interpreter: str) -> None:
    """The version is that of pyproject.toml, the commit that of HEAD; a difference from it is said."""
    folder = checkout(tmp_path / "checkout")
    found = committed(folder, git)
    assert told(folder, interpreter) == ["7.8.9", found]
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# altered\n")
    assert told(folder, interpreter) == ["7.8.9", f"{found}, modified"]


def test_a_new_file_is_no_difference(tmp_path: Path, git: Git, interpreter: str) -> None:
    """What git does not track, such as an archive that was made, leaves the commit as it is."""
    folder = checkout(tmp_path / "checkout")
    found = committed(folder, git)
    (folder / "dist").mkdir()
    (folder / "dist" / "tailpipe-exports-aws.zip").touch()
    assert told(folder, interpreter)[1] == found


def test_a_surrounding_repository_is_not_believed(tmp_path: Path, git: Git, interpreter: str) -> None:
    """A copy below somebody's own repository, even one that tracks it, has no commit of ours."""
    folder = checkout(tmp_path / "theirs" / "vendored")
    committed(folder.parent, git)
    assert told(folder, interpreter) == ["7.8.9", "unknown"]


def test_a_repository_of_other_files_is_not_believed(tmp_path: Path, git: Git, interpreter: str) -> None:
    """An archive unpacked into a folder that is another project's repository has no commit of ours."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "README").touch()
    committed(folder, git)
    checkout(tmp_path / "ours")
    shutil.copytree(tmp_path / "ours", folder, dirs_exist_ok=True)
    assert told(folder, interpreter) == ["7.8.9", "unknown"]


def test_a_repository_that_the_environment_names_is_not_believed(tmp_path: Path, git: Git, interpreter: str) -> None:
    """GIT_DIR and GIT_WORK_TREE of the operator's shell change nothing, with a repository of ours and without."""
    theirs, ours, bare = tmp_path / "theirs", checkout(tmp_path / "ours"), checkout(tmp_path / "bare")
    theirs.mkdir()
    (theirs / "README").touch()
    committed(theirs, git)
    found = committed(ours, git)
    variables = {"GIT_DIR": str(theirs / ".git"), "GIT_WORK_TREE": str(theirs)}
    assert told(ours, interpreter, **variables)[1] == found
    assert told(bare, interpreter, **variables)[1] == "unknown"


@pytest.mark.parametrize("broken", ["no git", "no commit", "damaged"])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, git: Git, interpreter: str, broken: str) -> None:
    """Without git, in a repository without a commit and in a damaged one, the commit is unknown, without an error."""
    folder, variables = checkout(tmp_path / "checkout"), {}
    if broken == "no commit":
        git(folder, "init", "-q")
    else:
        committed(folder, git)
    if broken == "no git":
        variables["PATH"] = str(tmp_path)
    if broken == "damaged":
        (folder / ".git" / "HEAD").write_text("nonsense")
    assert told(folder, interpreter, **variables) == ["7.8.9", "unknown"]


def test_a_baked_commit_needs_no_repository(tmp_path: Path, git: Git, interpreter: str) -> None:
    """What a build wrote is believed before any repository around the installed code."""
    folder = checkout(tmp_path / "checkout")
    (folder / "tailpipe_exports" / tailpipe_exports.BAKED).write_text("0123456789ab\n")
    assert told(folder, interpreter)[1] == "0123456789ab"
    committed(folder, git)
    assert told(folder, interpreter)[1] == "0123456789ab"


@pytest.mark.parametrize("text", ["", "[project]\n", "not TOML", '[project]\nname = "another"\nversion = "1"\n'])
def test_a_version_that_nothing_states_is_unknown(tmp_path: Path, interpreter: str, text: str) -> None:
    """Neither another project's pyproject.toml nor a broken one is an error, or ours."""
    folder = checkout(tmp_path / "checkout")
    (folder / "pyproject.toml").write_text(text)
    assert told(folder, interpreter) == ["unknown", "unknown"]


def test_this_checkouts_version_is_a_release() -> None:
    """The version is one that tools can sort, and the same one that the changelog can name."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", tailpipe_exports.version())
