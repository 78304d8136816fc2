"""The lock files: what pyproject.toml requires, one version per package, hashes, and no address."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.locks import ALONE, APART, NOT_IN_DEMO, sets

LOCKS = sorted(Path(__file__).resolve().parents[2].glob("requirements/*.txt"))
ENTRY = re.compile(
    r"^(?P<requirement>[\w.-]+==[^\\]+)\\\n(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)


def entries(path: Path) -> list[Requirement]:
    """Return the entries of a lock file."""
    return [Requirement(match["requirement"].strip()) for match in ENTRY.finditer(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda one: one.stem)
def test_lock_has_only_pins_with_hashes(lock: Path) -> None:
    """Except for comments, every line is a pin or a hash: no option, index address or file."""
    text = lock.read_text(encoding="utf-8")
    rest = "".join(line for line in ENTRY.sub("", text).splitlines() if not line.lstrip().startswith("#"))
    assert rest.strip() == ""
    assert entries(lock)
    assert "://" not in text


def test_every_set_has_a_lock(repository: Path) -> None:
    """One lock is pinned by hand because its packages declare another Python."""
    made = sets(tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8")))
    assert {one.stem for one in LOCKS} == made.keys() | {"azure_runtime"}


def test_every_lock_satisfies_its_requirements(repository: Path) -> None:
    """A dependency that was changed without `make lock` is reported."""
    made = sets(tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8")))
    missing = []
    for name, requirements in made.items():
        pinned = defaultdict(list)
        for one in entries(repository / "requirements" / f"{name}.txt"):
            pinned[canonicalize_name(one.name)].append(str(one.specifier).removeprefix("=="))
        for line in requirements:
            requirement = Requirement(line)
            versions = pinned[canonicalize_name(requirement.name)]
            left_out = name == "demo" and requirement.name in NOT_IN_DEMO
            if not left_out and not any(requirement.specifier.contains(one, prereleases=True) for one in versions):
                missing.append(f"{name}: {line} (locked: {versions})")
    assert missing == []


def test_package_has_one_version_in_sets_that_share_an_environment(repository: Path) -> None:
    """The functions' locks have the versions that the tests use."""
    widest = {str(one) for one in entries(repository / "requirements" / "check.txt")}
    apart = {*APART, *ALONE, "azure_runtime"} - {"discovery"}
    others = {str(one) for lock in LOCKS if lock.stem not in apart for one in entries(lock)}
    assert {one.split(";")[0] for one in others} <= {one.split(";")[0] for one in widest}
