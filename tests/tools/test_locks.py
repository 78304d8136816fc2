"""The lock files hold what pyproject.toml asks for, one version of each package, hashes, and no address."""

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
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: Path) -> None:
    """Beside comments every line is a pin or one of its hashes: no option, no address of an index, no file."""
    text = lock.read_text(encoding="utf-8")
    rest = "".join(line for line in ENTRY.sub("", text).splitlines() if not line.lstrip().startswith("#"))
    assert rest.strip() == ""
    assert entries(lock)
    assert "://" not in text


def test_the_locks_are_those_that_are_made(repository: Path) -> None:
    """Each set has a lock; one lock is pinned by hand because its packages declare another Python."""
    made = sets(tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8")))
    assert {one.stem for one in LOCKS} == made.keys() | {"azure_runtime"}


def test_every_lock_satisfies_what_it_is_made_from(repository: Path) -> None:
    """A dependency that was added or changed without `make lock` is found."""
    made = sets(tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8")))
    missing = []
    for name, requirements in made.items():
        pinned = defaultdict(list)
        for one in entries(repository / "requirements" / f"{name}.txt"):
            pinned[canonicalize_name(one.name)].append(str(one.specifier).removeprefix("=="))
        for line in requirements:
            wanted = Requirement(line)
            versions = pinned[canonicalize_name(wanted.name)]
            left_out = name == "demo" and wanted.name in NOT_IN_DEMO
            if not left_out and not any(wanted.specifier.contains(one, prereleases=True) for one in versions):
                missing.append(f"{name}: {line} (locked: {versions})")
    assert missing == []


def test_a_package_has_one_version_in_all_sets_that_share_an_environment(repository: Path) -> None:
    """What is tested is what is shipped: the functions' locks hold no other versions than that of the checks."""
    widest = {str(one) for one in entries(repository / "requirements" / "check.txt")}
    apart = {*APART, *ALONE, "azure_runtime"} - {"discovery"}
    others = {str(one) for lock in LOCKS if lock.stem not in apart for one in entries(lock)}
    assert {one.split(";")[0] for one in others} <= {one.split(";")[0] for one in widest}
