"""The distribution's version and commit, which are never guessed."""

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
    """Return git, run in a folder without the user's configuration."""

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
    """Create a folder that the distribution recognizes as a checkout, and return it."""
    package = folder / "tailpipe_exports"
    package.mkdir(parents=True)
    shutil.copy(tailpipe_exports.__file__, package)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "tailpipe-exports"\nversion = "{version}"\n')
    return folder


def committed(folder: Path, git: Git, subject: str = "one") -> str:
    """Commit all files of a folder; return the first twelve digits of the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", subject)
    return git(folder, "rev-parse", "HEAD")[:12]


def version_and_commit(folder: Path, interpreter: str, **variables: str) -> list[str]:
    """Return version and commit of a folder, as a process started in another folder reads them."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [interpreter, "-c", PYTHON], cwd=folder.parent, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.fixture
def interpreter() -> str:
    """Return an interpreter in which this project is not installed."""
    return os.path.realpath(sys.executable)


def test_checkout_has_its_version_and_commit(tmp_path: Path, git: Git, interpreter: str) -> None:
    """The version comes from pyproject.toml, the commit from HEAD; a modified checkout is marked."""
    folder = checkout(tmp_path / "checkout")
    found = committed(folder, git)
    assert version_and_commit(folder, interpreter) == ["7.8.9", found]
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# altered\n")
    assert version_and_commit(folder, interpreter) == ["7.8.9", f"{found}, modified"]


def test_untracked_file_does_not_mark_the_checkout_as_modified(tmp_path: Path, git: Git, interpreter: str) -> None:
    """Files that git does not track, such as built archives, do not matter."""
    folder = checkout(tmp_path / "checkout")
    found = committed(folder, git)
    (folder / "dist").mkdir()
    (folder / "dist" / "tailpipe-exports-aws.zip").touch()
    assert version_and_commit(folder, interpreter)[1] == found


def test_commit_of_a_surrounding_repository_is_ignored(tmp_path: Path, git: Git, interpreter: str) -> None:
    """A copy inside another repository has no commit, even if that repository tracks it."""
    folder = checkout(tmp_path / "theirs" / "vendored")
    committed(folder.parent, git)
    assert version_and_commit(folder, interpreter) == ["7.8.9", "unknown"]


def test_commit_of_another_projects_repository_is_ignored(tmp_path: Path, git: Git, interpreter: str) -> None:
    """An archive unpacked into another project's repository has no commit."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "README").touch()
    committed(folder, git)
    checkout(tmp_path / "ours")
    shutil.copytree(tmp_path / "ours", folder, dirs_exist_ok=True)
    assert version_and_commit(folder, interpreter) == ["7.8.9", "unknown"]


def test_repository_from_the_environment_is_ignored(tmp_path: Path, git: Git, interpreter: str) -> None:
    """GIT_DIR and GIT_WORK_TREE of the operator's shell have no effect."""
    theirs, ours, bare = tmp_path / "theirs", checkout(tmp_path / "ours"), checkout(tmp_path / "bare")
    theirs.mkdir()
    (theirs / "README").touch()
    committed(theirs, git)
    found = committed(ours, git)
    variables = {"GIT_DIR": str(theirs / ".git"), "GIT_WORK_TREE": str(theirs)}
    assert version_and_commit(ours, interpreter, **variables)[1] == found
    assert version_and_commit(bare, interpreter, **variables)[1] == "unknown"


@pytest.mark.parametrize("broken", ["no git", "no commit", "damaged"])
def test_unreadable_commit_is_unknown(tmp_path: Path, git: Git, interpreter: str, broken: str) -> None:
    """Without git, without a commit and in a damaged repository, the commit is unknown and no error is raised."""
    folder, variables = checkout(tmp_path / "checkout"), {}
    if broken == "no commit":
        git(folder, "init", "-q")
    else:
        committed(folder, git)
    if broken == "no git":
        variables["PATH"] = str(tmp_path)
    if broken == "damaged":
        (folder / ".git" / "HEAD").write_text("nonsense")
    assert version_and_commit(folder, interpreter, **variables) == ["7.8.9", "unknown"]


def test_built_commit_takes_precedence_over_a_repository(tmp_path: Path, git: Git, interpreter: str) -> None:
    """The commit that a build recorded is used whatever repository surrounds the installed code."""
    folder = checkout(tmp_path / "checkout")
    (folder / "tailpipe_exports" / tailpipe_exports.BAKED).write_text("0123456789ab\n")
    assert version_and_commit(folder, interpreter)[1] == "0123456789ab"
    committed(folder, git)
    assert version_and_commit(folder, interpreter)[1] == "0123456789ab"


@pytest.mark.parametrize("text", ["", "[project]\n", "not TOML", '[project]\nname = "another"\nversion = "1"\n'])
def test_missing_version_is_unknown(tmp_path: Path, interpreter: str, text: str) -> None:
    """Another project's pyproject.toml or a malformed one is neither used nor an error."""
    folder = checkout(tmp_path / "checkout")
    (folder / "pyproject.toml").write_text(text)
    assert version_and_commit(folder, interpreter) == ["unknown", "unknown"]


def test_version_of_this_checkout_is_valid() -> None:
    """Tools can sort the version, and the changelog can name it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", tailpipe_exports.version())
