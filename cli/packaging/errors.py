"""The error of a failed build."""

from __future__ import annotations

from collections.abc import Sequence


class PackagingError(Exception):
    """An archive could not be made; `problems` has every reason, each with its remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
