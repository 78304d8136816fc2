"""A release: `make dist` writes its files, and refuses a checkout that is not ready."""

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
    """Write the files of a checkout that the release reads, and return its folder."""
    (root / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n', encoding="utf-8")
    (root / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    return root


def test_release_notes_are_the_versions_section_of_the_changelog(tmp_path: Path) -> None:
    """The notes exclude the heading and all other sections."""
    root = checkout(tmp_path)
    assert notes(root, "1.10.0") == "### Added\n\n- What was released.\n"
    assert notes(root, "1.1.0") == "- Something older.\n"
    assert notes(root, "1") == ""


@pytest.mark.parametrize("tag", ["v1.10.0", None])
def test_ready_checkout_is_accepted(tmp_path: Path, tag: str | None) -> None:
    """The tag of the version, or no tag, and a section in the changelog are sufficient."""
    assert faults(checkout(tmp_path), tag) == []


def test_all_problems_of_a_release_are_reported_together(tmp_path: Path) -> None:
    """A tag of another version and a missing changelog section are both reported, each with its remedy."""
    assert faults(checkout(tmp_path, "2.0.0"), "v1.10.0") == [
        "the tag is v1.10.0, and pyproject.toml has version 2.0.0; tag the commit v2.0.0",
        "CHANGELOG.md has no section `## [2.0.0] - YYYY-MM-DD`; move what is Unreleased below it",
    ]


def test_version_of_this_checkout_is_in_the_changelog(repository: Path) -> None:
    """The version in pyproject.toml has a section."""
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
def test_bill_of_materials_lists_the_components_of_the_archive(tmp_path: Path, names: list[str], listed: str) -> None:
    """It lists the pins that an archive contains, or else the distributions installed in it."""
    archive = tmp_path / "function.zip"
    with ZipFile(archive, "w") as opened:
        for name in names:
            opened.writestr(name, f"the contents of {name}")
    assert components(archive) == listed


def test_checksums_are_verified_by_sha256sum(tmp_path: Path) -> None:
    """The list covers every other file, and sha256sum rejects it after a file is changed."""
    (tmp_path / "a.zip").write_bytes(b"first")
    (tmp_path / "b.whl").write_bytes(b"second")
    (tmp_path / "SHA256SUMS").write_text("an earlier list\n", encoding="utf-8")
    (tmp_path / "SHA256SUMS").write_text(sums(tmp_path), encoding="utf-8")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a.zip: OK\nb.whl: OK\n")
    (tmp_path / "b.whl").write_bytes(b"altered")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1
