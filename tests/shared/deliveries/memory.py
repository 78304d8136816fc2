"""A topic, and a source of deliveries, in memory; any call may be interrupted as by the end of the process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from shared.deliveries.document import Current, DeliveryDocument, File, FileSet, Series, current_name
from shared.errors import CloudError
from shared.state.store import Blob
from tests.inmemory import InMemoryStore

NOW = datetime(2026, 7, 10, 9, tzinfo=UTC)


class Killed(BaseException):
    """The process ended."""


class Calls:
    """Counts calls, and does something before or after the one with a given number."""

    def __init__(self) -> None:
        self.made = 0
        self.before: dict[int, Callable[[], None]] = {}
        self.after: dict[int, Callable[[], None]] = {}

    def begin(self) -> int:
        """Return the number of a call that begins now."""
        self.made += 1
        self.before.pop(self.made, lambda: None)()
        return self.made

    def end(self, number: int) -> None:
        """Note that a call has ended."""
        self.after.pop(number, lambda: None)()


class MemoryDocuments:
    """The documents of all series in an in-memory store."""

    def __init__(self, store: InMemoryStore, calls: Calls) -> None:
        self._store = store
        self._calls = calls

    def load(self, limit: int, document: str = "") -> Blob:
        number = self._calls.begin()
        found = self._store.load(limit, document)
        self._calls.end(number)
        return found

    def save(self, data: bytes, version: str | None, document: str = "") -> str:
        number = self._calls.begin()
        written = self._store.save(data, version, document)
        self._calls.end(number)
        return written


class MemoryTopic:
    """A topic that keeps what it accepted: (id, key, event)."""

    def __init__(self, calls: Calls) -> None:
        self.accepted: list[tuple[str, str, DeliveryDocument]] = []
        self.refusal: CloudError | None = None
        self.refused = 0
        self._calls = calls

    def publish(self, event: bytes, event_id: str, key: str) -> None:
        number = self._calls.begin()
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
        self.accepted.append((event_id, key, msgspec.json.decode(event, type=DeliveryDocument)))
        self._calls.end(number)


class MemorySource:
    """A cloud whose deliveries are `sets`; a missing one is not complete."""

    def __init__(self) -> None:
        self.store = InMemoryStore()
        self.calls = Calls()
        self.topic = MemoryTopic(self.calls)
        self.sets: dict[Series, FileSet] = {}
        self.failures: dict[Series, CloudError] = {}
        self.looked_at: list[Series] = []

    def announces(self, series: Series) -> bool:
        return len(series.period) == 7

    def documents(self, series: Series) -> MemoryDocuments:
        return MemoryDocuments(self.store, self.calls)

    def files(self, series: Series) -> FileSet | None:
        self.looked_at.append(series)
        if series in self.failures:
            raise self.failures[series]
        return self.sets.get(series)

    def chain(self) -> list[DeliveryDocument]:
        """Return all stored documents, by name."""
        names = sorted(name for name in self.store.documents if name.startswith("deltas/"))
        return [msgspec.json.decode(self.store.documents[name], type=DeliveryDocument) for name in names]

    def current(self, series: Series) -> Current:
        """Return the stored newest document of a series."""
        return msgspec.json.decode(self.store.documents[current_name(series)], type=Current)


def file_set(schema: str = "s1", **files: str) -> FileSet:
    """Return a set with these files; each text stands for a content, as long as it."""
    made = tuple(File(name, len(content), f"etag:{content}") for name, content in files.items())
    return FileSet("s3://bucket/", made, NOW, schema=schema)
