"""Labels of scopes, such as tags: what an owner calls them, for people to see and to search by.

They come from outside and in any number, so they are bounded where they are recorded, and again where many are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from shared.redaction import printable, redact

MOST, LONGEST_NAME, LONGEST_VALUE = 10, 60, 120  # labels of a scope, and characters
PAGE_BYTES = 500_000  # of the status page, about
_INDEX_BYTES = 5


def bounded(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the first MOST labels, printable and cut."""
    return {
        _cut(name, LONGEST_NAME): _cut(value, LONGEST_VALUE)
        for name, value in islice(labels.items(), MOST)
        if name.strip()
    }


def packed(labels: Iterable[Mapping[str, str]], room: int = PAGE_BYTES) -> tuple[list[str], list[list[int]], int]:
    """Return the distinct labels as texts, the places of each scope's in that list, and how many scopes lack some.

    What looks like a secret is masked in them. A label is left out where less than `room` bytes of JSON would be left
    for it.
    """
    places: dict[str, int] = {}
    known: dict[str, str] = {}
    rows: list[list[int]] = []
    incomplete = 0
    for of_scope in labels:
        row = []
        for name, value in of_scope.items():
            raw = f"{name}: {value}"
            text = known.get(raw) or known.setdefault(raw, redact(raw))
            size = _INDEX_BYTES + (0 if text in places else len(text.encode("utf-8", "replace")) + 3)
            if size <= room:
                room -= size
                row.append(places.setdefault(text, len(places)))
        incomplete += len(row) < len(of_scope)
        rows.append(row)
    return list(places), rows, incomplete


def presentable(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of one scope, with what looks like a secret masked."""
    return {redact(name): redact(value) for name, value in labels.items()}


def _cut(text: str, longest: int) -> str:
    flat = " ".join(printable(text[: 4 * longest]).split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"
