"""The locked requirements of a function, as `make lock` wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.packaging.faults import PackagingError

HASHED = "--hash=sha256:"
_BLOCKS = re.compile(r"^(?=[A-Za-z0-9])", re.MULTILINE)


@dataclass(frozen=True)
class Pins:
    """A lock file: each entry `name==version`, with its environment marker and hashes as the file has them."""

    path: Path
    blocks: Mapping[str, str]

    @property
    def text(self) -> str:
        """The file without its comments."""
        return "".join(self.blocks.values())

    def without(self, pin: str) -> Pins:
        """Return all entries but those of one `name==version`."""
        return Pins(self.path, {one: block for one, block in self.blocks.items() if one.split()[0] != pin})


def read_pins(path: Path) -> Pins:
    """Return the entries of a lock file. Raises PackagingError where it is missing or an entry has no hash."""
    blocks: dict[str, str] = {}
    faults: list[str] = []
    for block in _BLOCKS.split(_read(path))[1:]:
        if "==" not in block.split()[0] or HASHED not in block:
            faults.append(f"{path}: {block.split()[0]} is not pinned by version and hash. Run make lock.")
        kept = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        blocks[kept[0].rstrip("\\ ")] = "\n".join(kept) + "\n"
    if faults:
        raise PackagingError(faults)
    return Pins(path, blocks)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PackagingError([f"{path} cannot be read ({error.strerror}): reinstall tailpipe-exports"]) from error
