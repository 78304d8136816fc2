"""Tables of vendors' facts, in JSON files beside the modules that use them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_table(module: str, name: str, kind: type[T]) -> T:
    """Return the JSON file `name` beside the file of a module (its ``__file__``), checked to be of `kind`."""
    return msgspec.json.decode((Path(module).parent / name).read_bytes(), type=kind)
