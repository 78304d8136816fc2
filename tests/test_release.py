"""What a release consists of: `make dist` writes it, and refuses a checkout that is not ready."""

from __future__ import annotations

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools.release import components, faults, notes, sums

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- What comes next.

## [1.10.0] - 2026-11-29

### Added

- What was released.

## [1.1.0] - 2026-01-01

- Something older.
"""


def checkout(root: Path, version: str = "1.10.0") -> Path:
    """Write what of a checkout is looked at, and return it."""
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', encoding="utf-8")
    (root / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    return root


def test_the_notes_are_the_versions_own_section(tmp_path: Path) -> None:
    """A release's notes are its section of the changelog, without the heading and without any other section."""
    root = checkout(tmp_path)
    assert notes(root, "1.10.0") == "### Added\n\n- What was released.\n"
    assert notes(root, "1.1.0") == "- Something older.\n"
    assert notes(root, "1") == ""


@pytest.mark.parametrize("tag", ["v1.10.0", None])
def test_a_checkout_that_is_ready_is_not_refused(tmp_path: Path, tag: str | None) -> None:
    """With the tag of the version and a section in the changelog, and also without a tag, nothing is wrong."""
    assert faults(checkout(tmp_path), tag) == []


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    """A tag of another version and a missing section of the changelog are both named, each with its remedy."""
    assert faults(checkout(tmp_path, "2.0.0"), "v1.10.0") == [
        "the tag is v1.10.0, and pyproject.toml has version 2.0.0; tag the commit v2.0.0",
        "CHANGELOG.md has no section `## [2.0.0] - YYYY-MM-DD`; move what is Unreleased below it",
    ]


def test_this_checkout_can_be_released(repository: Path) -> None:
    """The version in pyproject.toml has its section in the changelog."""
    assert faults(repository, None) == []


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        pytest.param(
            ["msgspec/__init__.py", "msgspec-0.22.0.dist-info/METADATA", "a_b-1.0.post1.dist-info/METADATA"],
            "a_b==1.0.post1\nmsgspec==0.22.0\n",
            id="installed at the top",
        ),
        pytest.param(
            ["lib/site-packages/msgspec-0.22.0.dist-info/METADATA", "msgspec-0.22.0.dist-info/licenses/METADATA"],
            "msgspec==0.22.0\n",
            id="installed in a folder",
        ),
        pytest.param(
            ["requirements.txt", "other-1.0.dist-info/METADATA"], "the contents of requirements.txt", id="file of pins"
        ),
    ],
)
def test_an_archives_components_are_what_is_in_it(tmp_path: Path, names: list[str], listed: str) -> None:
    """The bill of materials lists the pins that an archive carries, or else the distributions installed in it."""
    archive = tmp_path / "function.zip"
    with ZipFile(archive, "w") as opened:
        for name in names:
            opened.writestr(name, f"the contents of {name}")
    assert components(archive) == listed


def test_the_sums_are_checked_by_sha256sum(tmp_path: Path) -> None:
    """Every file is summed but the list itself, and sha256sum accepts the list until a file is changed."""
    (tmp_path / "a.zip").write_bytes(b"first")
    (tmp_path / "b.whl").write_bytes(b"second")
    (tmp_path / "SHA256SUMS").write_text("an earlier list\n", encoding="utf-8")
    (tmp_path / "SHA256SUMS").write_text(sums(tmp_path), encoding="utf-8")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a.zip: OK\nb.whl: OK\n")
    (tmp_path / "b.whl").write_bytes(b"altered")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1
