"""Load tables of vendor facts from JSON files next to the modules that use them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def read_table(module: str, name: str, kind: type[T]) -> T:
    """Return the JSON file `name` in the folder of a module (its ``__file__``), decoded and validated as `kind`."""
    return msgspec.json.decode((Path(module).parent / name).read_bytes(), type=kind)
