"""A reader that follows the documents alone has the same rows as one that reads everything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.deliveries.announce import Announcer
from shared.deliveries.document import File, FileSet, Series
from tests.readers.deltas import Changed, DeltaReader, Period
from tests.shared.deliveries.memory import NOW, MemorySource
from tests.shared.setting import Setting

MONTHS = ("2026-06", "2026-07")
SCOPE, DATASET = "s1", "focus"
FOLDER = f"{DATASET}/{SCOPE}/"


class Cloud:
    """The delivered files of two months, by name; each line of a file is a row."""

    def __init__(self) -> None:
        self.source = MemorySource()
        self.files: dict[str, dict[str, bytes]] = {month: {} for month in MONTHS}
        self.announced: list[tuple[str, frozenset[bytes]]] = []

    def announce(self, month: str) -> None:
        """Announce a month as it is delivered now."""
        files = tuple(File(name, len(data), f"etag:{data.hex()}") for name, data in self.files[month].items())
        series = Series(SCOPE, DATASET, month)
        self.source.sets[series] = FileSet("memory://", files, NOW)
        Announcer(self.source, {"topic": self.source.topic}, Setting().new_run()).announce(series)
        self.announced.append((month, frozenset(self.files[month].values())))

    def names(self, prefix: str) -> Iterable[str]:
        """Return the names of the stored documents below a prefix."""
        return [name for name in self.source.store.documents if name.startswith(prefix)]

    def read(self, name: str) -> bytes | None:
        """Return a document."""
        return self.source.store.documents.get(name)

    def fetch(self, said: Mapping[str, Any]) -> bytes:
        """Return a file's content if it is still what a document says."""
        for files in self.files.values():
            data = files.get(said["name"])
            if data is not None and f"etag:{data.hex()}" == said["checksum"]:
                return data
        raise Changed

    def expire(self) -> None:
        """Remove all documents but the newest of each month, as the retention does."""
        for name in self.names("deltas/"):
            del self.source.store.documents[name]

    def reader(self) -> DeltaReader:
        """Return a reader that knows nothing."""
        return DeltaReader(self.names, self.read, self.fetch)

    def rows(self) -> list[bytes]:
        """Return all rows, as a full read has them."""
        return sorted(row for files in self.files.values() for data in files.values() for row in data.splitlines())


def rows_of(reader: DeltaReader) -> list[bytes]:
    """Return the rows that a reader has."""
    return sorted(reader.rows(lambda _name, content: content.splitlines()))


MONTH, NAME = st.sampled_from(MONTHS), st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), MONTH, NAME, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("remove"), MONTH, NAME, st.none()),
        st.tuples(st.just("announce"), MONTH, st.none(), st.none()),
        st.tuples(st.sampled_from(["look", "restart", "forget", "expire"]), st.none(), st.none(), st.none()),
        st.tuples(st.just("events"), st.none(), st.none(), st.randoms(use_true_random=False)),
    ),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_month_rebuilt_from_deltas_equals_a_full_read(steps: list[tuple[str, Any, Any, Any]]) -> None:
    """After restatements, late data, deletions, lost and repeated events, expired documents, and restarts anywhere.

    In between the reader has, for each month, one of the sets that were announced, and never a mixture.
    """
    cloud = Cloud()
    reader = cloud.reader()
    for step, month, name, more in steps:
        if step == "write":
            cloud.files[month][f"{month}/{name}"] = more
        elif step == "remove":
            cloud.files[month].pop(f"{month}/{name}", None)
        elif step == "announce":
            cloud.announce(month)
        elif step == "look":
            reader.look(FOLDER)
        elif step == "expire":
            cloud.expire()
        elif step == "forget":
            reader = cloud.reader()
        elif step == "restart":
            kept: dict[str, Period] = reader.periods
            reader = cloud.reader()
            reader.periods = kept
        else:
            events = [json.loads(one.event()) for _, _, one in cloud.source.topic.accepted]
            reader.events(more.sample(events * 2, k=min(4, len(events) * 2)))
        for path, period in reader.periods.items():
            found = frozenset(kept_file.content for kept_file in period.files.values())
            assert (path.rpartition("/")[2], found) in cloud.announced
    for month in MONTHS:
        cloud.announce(month)
    reader.look(FOLDER)
    assert rows_of(reader) == cloud.rows()


def test_only_what_changed_is_fetched() -> None:
    """A reader that slept for a week fetches the files of a week's deltas."""
    cloud = Cloud()
    cloud.files["2026-07"] = {f"2026-07/{number}": b"row" for number in range(10)}
    cloud.announce("2026-07")
    reader = cloud.reader()
    reader.look(FOLDER)
    assert reader.fetched == 10
    cloud.files["2026-07"]["2026-07/3"] = b"restated"
    cloud.announce("2026-07")
    reader.look(FOLDER)
    reader.look(FOLDER)
    assert reader.fetched == 11
    assert rows_of(reader) == cloud.rows()


def test_reader_that_slept_longer_than_documents_are_kept_begins_with_the_newest() -> None:
    """It fetches only what it has not got."""
    cloud = Cloud()
    cloud.files["2026-07"] = {"2026-07/a": b"1", "2026-07/b": b"2"}
    cloud.announce("2026-07")
    reader = cloud.reader()
    reader.look(FOLDER)
    cloud.files["2026-07"]["2026-07/b"] = b"3"
    cloud.announce("2026-07")
    cloud.expire()
    cloud.files["2026-07"]["2026-07/c"] = b"4"
    cloud.announce("2026-07")
    reader.look(FOLDER)
    assert (reader.fetched, rows_of(reader)) == (4, cloud.rows())
