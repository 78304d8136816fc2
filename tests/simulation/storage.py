"""The simulated cloud's storage and topic, as one process reaches them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from shared.deliveries.announce import Announcer
from shared.deliveries.document import FileSet, Series
from shared.errors import Permanent
from shared.runtime.context import RunContext
from shared.state.store import STATE, Blob, Conflict
from tests.inmemory import InMemoryStore
from tests.simulation.cloud import Caller
from tests.simulation.timeline import Timeline
from tests.simulation.world import SimulatedWorld

R = TypeVar("R")
PRECONDITION = "precondition-failed"
HISTORY = 40  # versions of each document that a rollback can bring back
KEPT_S = 35 * 86_400  # after so long, the lifecycle rule deletes the document of a delivery


class TrueClock:
    """The storage service's own clock."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def now(self) -> datetime:
        return self._timeline.now()

    def monotonic(self) -> float:
        return self._timeline.elapsed

    def wait_until(self, moment: float) -> None:
        raise NotImplementedError("the storage service does not wait")


class Bucket(InMemoryStore):
    """Stored documents with their former versions.

    `written` says when each was written, `overwritten` which of those that never change was written again, `damaged`
    what each document held that was cut off.
    """

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(TrueClock(timeline))
        self._timeline = timeline
        self.history: dict[str, list[bytes]] = defaultdict(list)
        self.written: dict[str, float] = {}
        self.overwritten: list[str] = []
        self.damaged: set[bytes] = set()

    def replace(self, data: bytes, document: str = STATE) -> None:
        if document.startswith("deltas/"):
            self.written[document] = self._timeline.elapsed
            if document in self.documents:
                self.overwritten.append(document)
        else:
            former = self.history[document]
            former.append(data)
            del former[:-HISTORY]
        super().replace(data, document)

    def roll_back(self, document: str, versions: int) -> None:
        """Bring back an older version of a document, as a restore from a backup does."""
        former = self.history[document]
        if former:
            self.replace(former[-min(versions + 1, len(former))], document)

    def lose(self, document: str) -> None:
        """Delete a document."""
        self.documents.pop(document, None)

    def spoil(self, document: str, part: float) -> None:
        """Cut a document off after a part of it."""
        data = self.documents.get(document)
        if data is not None:
            cut = data[: int(len(data) * part)]
            self.damaged.add(cut)
            self.replace(cut, document)

    def expire(self) -> None:
        """Delete the documents of deliveries that the lifecycle rule deletes."""
        for name in [one for one, at in self.written.items() if self._timeline.elapsed - at > KEPT_S]:
            del self.written[name]
            self.documents.pop(name, None)


class ProcessStore:
    """A bucket as one process reaches it: the port of the state, and that of the deliveries' documents."""

    def __init__(
        self, bucket: Bucket, call: Caller, operation: str, on_save: Callable[[bytes], None] = lambda _data: None
    ) -> None:
        self._bucket = bucket
        self._on_save = on_save
        self._call = call
        self._operation = operation

    def _do(self, function: Callable[[], R]) -> R:
        return self._call("storage", self._operation, function)

    def load(self, limit: int, document: str = STATE) -> Blob:
        return self._do(lambda: self._bucket.load(limit, document))

    def save(self, data: bytes, version: str | None, document: str = STATE) -> str:
        def write() -> str:
            try:
                written = self._bucket.save(data, version, document)
            except Conflict as error:
                raise Permanent(PRECONDITION, "the document has another version") from error
            if document == STATE:
                self._on_save(data)
            return written

        try:
            return self._do(write)
        except Permanent as error:
            if error.code == PRECONDITION:
                raise Conflict from error
            raise

    def age(self) -> timedelta | None:
        return self._do(self._bucket.age)

    def set_aside(self, damaged: Blob, document: str = STATE) -> str:
        return self._do(lambda: self._bucket.set_aside(damaged, document))

    def put(self, document: str, data: bytes, content_type: str) -> str:
        return self._do(lambda: self._bucket.put(document, data, content_type))

    def put_report(self, run_id: str, data: bytes) -> str:
        return self._do(lambda: f"runs/{run_id}.json")  # nobody reads it again

    def report(self, run_id: str) -> bytes:
        raise NotImplementedError("no simulated run reads a report")

    def report_ids(self, since: str) -> list[str]:
        raise NotImplementedError("no simulated run reads reports")


class Published(msgspec.Struct, frozen=True):
    """What the topic accepted of one delivery."""

    id: str
    sequence: int


class _Data(msgspec.Struct):
    sequence: int
    document: str


class _Event(msgspec.Struct):
    id: str
    data: _Data


class TopicLog:
    """What a topic accepted, by its key, in order."""

    def __init__(self) -> None:
        self.accepted: dict[str, list[Published]] = defaultdict(list)


class ProcessTopic:
    """The topic as one process reaches it. It refuses what no stored document says: readers would miss it."""

    def __init__(self, log: TopicLog, world: SimulatedWorld, documents: Bucket, call: Caller) -> None:
        self._log = log
        self._world = world
        self._documents = documents
        self._call = call

    def publish(self, event: bytes, event_id: str, key: str) -> None:
        self._call("topic", "topic", lambda: self._accept(event, event_id, key))

    def _accept(self, event: bytes, event_id: str, key: str) -> None:
        found = msgspec.json.decode(event, type=_Event)
        stored = self._documents.documents.get(found.data.document, b"")
        if event_id.encode() not in stored and self._world.timeline.elapsed - self._world.lost_documents_at > 3600:
            self._world.violate("publish", f"{found.data.document} was published, and is not stored")
        self._log.accepted[key].append(Published(event_id, found.data.sequence))


class SimulatedSource:
    """What a process knows of the deliveries of the simulated world."""

    def __init__(self, world: SimulatedWorld, documents: ProcessStore, call: Caller) -> None:
        self._world = world
        self._documents = documents
        self._call = call

    def announces(self, series: Series) -> bool:
        return (len(series.period) == 10) == self._world.profile.by_day

    def documents(self, series: Series) -> ProcessStore:
        self._world.touched.add(series)
        return self._documents

    def files(self, series: Series) -> FileSet | None:
        def read() -> FileSet | None:
            if self._world.is_incomplete(series):
                return None
            found = self._world.data.get(series) or FileSet("s3://data/", (), self._world.timeline.now())
            return msgspec.structs.replace(found, delivered_at=self._world.delivered(series, found.delivered_at))

        return self._call("storage", "deliveries", read)


def announcer(world: SimulatedWorld, documents: Bucket, log: TopicLog, run: RunContext, call: Caller) -> Announcer:
    """Return what announces the deliveries of one run or event."""
    stored = ProcessStore(documents, call, "documents")
    topic = ProcessTopic(log, world, documents, call)
    return Announcer(SimulatedSource(world, stored, call), {"topic": topic}, run)
