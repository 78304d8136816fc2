"""A reader that follows deliveries: it keeps the files of each period, by nothing but the documents beside the data.

It remembers how far it came. Each look reads what is new; what expired meanwhile it replaces by the newest document,
which has all files. It never reads half a set: a file is kept only in the state that the document names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Content = bytes


class Changed(Exception):
    """A file is not (or no longer) what the document says: a newer document follows."""


class Kept(NamedTuple):
    """One file that the reader has: what the document says of it, and its content."""

    said: Mapping[str, Any]
    content: Content


class Period(NamedTuple):
    """What the reader has of one period: the last document that it applied, and the files by name."""

    last: str
    files: Mapping[str, Kept]


class DeltaReader:
    """Follows the deliveries of one dataset of one scope.

    `names` lists the documents below a prefix; `read` returns a document's content, None if it does not exist; `fetch`
    returns the content of a file, and raises Changed if the store has another one than the document names.
    """

    def __init__(
        self,
        names: Callable[[str], Iterable[str]],
        read: Callable[[str], bytes | None],
        fetch: Callable[[Mapping[str, Any]], Content],
    ) -> None:
        self._names, self._read, self._fetch = names, read, fetch
        self.periods: dict[str, Period] = {}
        self.fetched = 0

    def look(self, folder: str) -> None:
        """Apply all documents below ``deltas/{folder}`` that were not applied yet, in order.

        Of a period whose documents have all expired, the newest is read.
        """
        newest = (name.removesuffix(".json") for name in self._names(f"deliveries/{folder}"))
        series: dict[str, list[str]] = {f"deltas/{name.removeprefix('deliveries/')}": [] for name in newest}
        for name in sorted(self._names(f"deltas/{folder}")):
            series.setdefault(name.rpartition("/")[0], []).append(name)
        for path, names in series.items():
            self._follow(path, names)

    def events(self, documents: Iterable[Mapping[str, Any]]) -> None:
        """Apply documents as a topic delivers them: twice, late, or in another order; gaps are read from the store."""
        for document in documents:
            path = str(document["data"]["document"]).rpartition("/")[0]
            if not self._apply(path, document):
                self._follow(path, sorted(self._names(f"{path}/")))

    def rows(self, parse: Callable[[str, Content], Iterable[Any]]) -> list[Any]:
        """Return the rows of all files."""
        return [
            row
            for period in self.periods.values()
            for name, kept in sorted(period.files.items())
            for row in parse(name, kept.content)
        ]

    def _follow(self, path: str, names: list[str]) -> None:
        whole = False
        for name in names:
            text = self._read(name)
            document = json.loads(text) if text else None
            if document is not None and not self._apply(path, document):
                whole = True
        if whole or not names or path not in self.periods:
            self._restart(path)

    def _apply(self, path: str, document: Mapping[str, Any]) -> bool:
        """Apply one document; return False if its predecessor is not what was applied last."""
        data, known = document["data"], self.periods.get(path)
        if known is not None and known.last == document["id"]:
            return True
        if data["truncated"]:
            text = self._read(data["document"])
            return text is not None and self._apply(path, json.loads(text))
        before = known.files if known else {}
        if data["previous"] is None:
            if known is not None:
                return False
        elif known is None or data["previous"]["id"] != known.last:
            return False
        said = {one["name"]: one for one in data["files"]}
        delta = data["delta"]
        kept = {name: file for name, file in before.items() if name not in delta["gone"]}
        return self._take(path, str(document["id"]), kept, [said[one] for one in delta["added"] + delta["replaced"]])

    def _restart(self, path: str) -> None:
        """Begin with the newest document of a period."""
        text = self._read(f"deliveries/{path.removeprefix('deltas/')}.json")
        newest = json.loads(text)["newest"] if text else None
        if newest is None:
            return
        known = self.periods.get(path)
        have = known.files if known else {}
        files = newest["data"]["files"]
        kept = {one["name"]: have[one["name"]] for one in files if _same(have.get(one["name"]), one)}
        self._take(path, str(newest["id"]), kept, [one for one in files if one["name"] not in kept])

    def _take(self, path: str, last: str, kept: dict[str, Kept], wanted: list[Mapping[str, Any]]) -> bool:
        """Fetch files and note the period; nothing changes if one of them has been replaced meanwhile."""
        try:
            for one in wanted:
                kept[one["name"]] = Kept(one, self._fetch(one))
                self.fetched += 1
        except Changed:
            return True  # a newer document follows, perhaps in the next look
        self.periods[path] = Period(last, kept)
        return True


def _same(kept: Kept | None, said: Mapping[str, Any]) -> bool:
    return kept is not None and dict(kept.said) == dict(said)
