"""Partial responses: the `fields` parameter, as Google's APIs parse it (``items(name,size),nextPageToken``)."""

from __future__ import annotations

from typing import Any

from localcloud.gcp.errors import invalid

Mask = dict[str, Any]


def parse_mask(text: str) -> Mask:
    """Return a tree of names; an empty tree selects everything below. Raises GoogleError for an invalid one."""
    mask, position = _list(text, 0)
    if position != len(text):
        raise invalid(f"Invalid field selection {text[:80]}")
    return mask


def _list(text: str, position: int) -> tuple[Mask, int]:
    mask: Mask = {}
    while True:
        names: list[str] = []
        while True:
            start = position
            while position < len(text) and text[position] not in ",/()":
                position += 1
            if position == start:
                raise invalid(f"Invalid field selection {text[:80]}")
            names.append(text[start:position])
            if position < len(text) and text[position] == "/":
                position += 1
                continue
            break
        below: Mask = {}
        if position < len(text) and text[position] == "(":
            below, position = _list(text, position + 1)
            if position >= len(text) or text[position] != ")":
                raise invalid(f"Invalid field selection {text[:80]}")
            position += 1
        node = mask
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1]] = below
        if position < len(text) and text[position] == ",":
            position += 1
            continue
        return mask, position


def select(document: Any, mask: Mask) -> Any:
    """Return the selected part of a document; in lists, the mask applies to every element."""
    if not mask or "*" in mask:
        return document
    if isinstance(document, list):
        return [select(item, mask) for item in document]
    if not isinstance(document, dict):
        return document
    return {name: select(document[name], below) for name, below in mask.items() if name in document}
