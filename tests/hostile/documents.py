"""Strategies: any JSON, and valid documents that are damaged in a few places."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

TEXTS = [
    *(
        "",
        " ",
        "²",
        "٣",
        "\ud800",
        "\x00",
        "\u202e",
        "nan",
        "-1",
        "9" * 400,
        "1e400",
        "../..",
        "%s%n",
        "{}",
        "a" * 3000,
    ),
    *("2026-13-45T99:99:99Z", "9999-12-31T23:59:59+23:59", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00", "*" * 40),
    *("arn:aws:iam::123456789012:role/x", "/subscriptions//", "projects/p", "'; DROP", "<script>", "\u2028"),
]
NUMBERS = [0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 1e308, -0.0, 1e-320]
SCALARS = (
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.text(max_size=12) | st.integers()
)
ANY: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
JUNK: st.SearchStrategy[Any] = SCALARS | st.sampled_from([[], {}, [[]], {"": None}, [None], [{}], {"value": []}]) | ANY


def paths_of(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value of a document."""
    if path:
        yield path
    inner: Iterable[tuple[Any, Any]] = document.items() if isinstance(document, Mapping) else ()
    for name, value in enumerate(document) if isinstance(document, list) else inner:
        yield from paths_of(value, (*path, name))


def damaged(*documents: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for copies of valid documents in which one to three values are junk, lost or repeated."""
    choices = [(one, list(paths_of(one))) for one in documents]

    @st.composite
    def strategy(draw: st.DrawFn) -> Any:
        document, paths = draw(st.sampled_from(choices)) if len(choices) > 1 else choices[0]
        document = copy.deepcopy(document)
        for path in draw(st.lists(st.sampled_from(paths), max_size=3)) if paths else ():
            _damage(document, path, draw)
        return document

    return strategy()


def _damage(document: Any, path: Sequence[Any], draw: st.DrawFn) -> None:
    for name in path[:-1]:
        try:
            document = document[name]
        except (KeyError, IndexError, TypeError):
            return  # an earlier change took it away
    last = path[-1]
    if isinstance(document, dict) and last in document:
        if draw(st.integers(0, 4)) == 0:
            del document[last]
        else:
            document[last] = copy.deepcopy(draw(JUNK))
    elif isinstance(document, list) and isinstance(last, int) and last < len(document):
        if draw(st.integers(0, 4)) == 0:
            document.append(copy.deepcopy(document[last]))
        else:
            document[last] = copy.deepcopy(draw(JUNK))


def spelled(documents: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return a strategy for the documents as JSON, sometimes cut off or with other bytes within."""

    @st.composite
    def strategy(draw: st.DrawFn) -> bytes:
        data = json.dumps(draw(documents)).encode()
        how = draw(st.integers(0, 9))
        if how == 0:
            return data[: draw(st.integers(0, len(data)))]
        if how == 1:
            place = draw(st.integers(0, len(data)))
            return data[:place] + draw(st.binary(max_size=6)) + data[place:]
        if how == 2:
            return draw(st.binary(max_size=40))
        return data

    return strategy()
