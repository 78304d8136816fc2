"""Why there is no archive."""

from __future__ import annotations

from collections.abc import Sequence


class PackagingError(Exception):
    """An archive could not be made; `problems` has every reason that was found, each with what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
