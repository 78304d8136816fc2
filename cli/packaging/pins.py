"""The pinned requirements of a function: what `make lock` wrote, and which of it a target needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from cli.packaging.faults import PackagingError
from cli.packaging.target import Target

HASHED = "--hash=sha256:"
_BLOCKS = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)


@dataclass(frozen=True)
class Distribution:
    """What a pinned distribution says of itself."""

    version: str
    requires: tuple[Requirement, ...]


@dataclass(frozen=True)
class Pins:
    """A locked requirements file: each distribution's `name==version` with its hashes, as it stands there."""

    path: Path
    blocks: Mapping[NormalizedName, str]

    @property
    def text(self) -> str:
        """The file without its comments."""
        return "".join(self.blocks[name] for name in sorted(self.blocks))

    def only(self, names: Iterable[NormalizedName]) -> Pins:
        """Return the pins of these names."""
        kept = set(names)
        return Pins(self.path, {name: block for name, block in self.blocks.items() if name in kept})


def read_pins(path: Path) -> Pins:
    """Return the pins of a locked file. Raises PackagingError where it is missing or a pin has no hash."""
    blocks: dict[NormalizedName, str] = {}
    faults: list[str] = []
    for block in _BLOCKS.split(_read(path))[1:]:
        name, exact, _ = block.partition("==")
        if not exact or HASHED not in block:
            faults.append(f"{path}: {block.split()[0]} is not pinned by version and hash; run make lock")
        # Comments tell whose requirement it is in the checkout.
        kept = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        blocks[canonicalize_name(name)] = "\n".join(kept) + "\n"
    if faults:
        raise PackagingError(faults)
    return Pins(path, blocks)


def read_roots(path: Path) -> list[Requirement]:
    """Return what a function asks for by itself. Raises PackagingError for a missing file and lines of another kind."""
    roots: list[Requirement] = []
    faults: list[str] = []
    for number, line in enumerate(_read(path).splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if content:
            try:
                roots.append(Requirement(content))
            except InvalidRequirement:
                faults.append(f"{path}:{number}: {content!r} is not name==version")
    if faults:
        raise PackagingError(faults)
    return roots


def needed(
    roots: Iterable[Requirement], pinned: Mapping[NormalizedName, Distribution], target: Target
) -> set[NormalizedName]:
    """Return the pinned distributions that `roots` need on the target, by its own environment markers.

    `make lock` evaluates markers for the Python that it runs on, and the installer for its own: neither sees what only
    the target's Python needs. Raises PackagingError with every requirement that no pin satisfies.
    """
    found: set[tuple[NormalizedName, str]] = set()
    faults: set[str] = set()
    waiting = [("the function", root) for root in roots]
    while waiting:
        by, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in pinned or not requirement.specifier.contains(pinned[name].version, prereleases=True):
            is_there = f"{name} {pinned[name].version} is" if name in pinned else "it is not"
            wanted = f"{requirement.name}{requirement.specifier}"
            faults.add(f"{by} needs {wanted} for {target}, and {is_there} pinned: add it to the .in file, make lock")
            continue
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                environment = {**target.markers, "extra": extra}
                waiting += [
                    (name, one)
                    for one in pinned[name].requires
                    if one.marker is None or one.marker.evaluate(environment)
                ]
    if faults:
        raise PackagingError(sorted(faults))
    return {name for name, _ in found}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PackagingError([f"{path} cannot be read ({error.strerror}): reinstall tailpipe-exports"]) from error
