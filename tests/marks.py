"""Parts of the documentation that commands write, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_between(document: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Replace what a document has between two lines. Raises ValueError without them."""
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(f"{begin}\n")
    _, found, after = rest.partition(f"{end}\n")
    if not found:
        raise ValueError(f"{document} lacks the marks {begin} and {end}")
    document.write_text("\n".join([before + begin, *lines, end, after]), encoding="utf-8")
