"""Why there is no archive."""

from __future__ import annotations

from collections.abc import Sequence


class PackagingError(Exception):
    """An archive could not be made; `faults` has every reason that could be found, each with its remedy."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
