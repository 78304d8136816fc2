"""The chain of a series' documents: each is stored once, names its predecessor, and is then published in order.

Nothing but the store's compare-and-swap keeps it whole, so that a run, an event's function and a copy of either may
work on one chain at the same time, and each may die after any call. A document is stored before it is published:
the next process finds it and publishes it under the same id, even if it was published before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from shared.deliveries.document import (
    SIZE_LIMIT,
    Current,
    DeliveryDocument,
    FileSet,
    Series,
    current_name,
    delta_name,
    is_same,
    next_document,
)
from shared.errors import CloudError, Permanent, Transient
from shared.runtime.context import RunContext
from shared.state.store import Blob, Conflict

CONFLICTS = 5
MOST_SKIPPED = 1000  # documents of an earlier chain of the same series that are passed over for a free number
MOST_REFUSED = 3  # refusals of the topic after which it is left alone for the rest of the run


class Documents(Protocol):
    """Where the documents are stored: beside the data, where the connector may read. Compare-and-swap, as the state."""

    def load(self, limit: int, document: str = ...) -> Blob:
        """Return a document of at most `limit` bytes, `Blob()` if it does not exist. Raises CloudError."""
        ...

    def save(self, data: bytes, version: str | None, document: str = ...) -> str:
        """Write a document if it still has `version` (None: if it does not exist). Raises Conflict, CloudError."""
        ...


class StoredDeliveries(Protocol):
    """The documents of all series, as an operator or a reader finds them."""

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Yield name and time of writing of each document below a prefix, in any order. Raises CloudError."""
        ...

    def load(self, limit: int, document: str = ...) -> Blob:
        """Return a document of at most `limit` bytes, `Blob()` if it does not exist. Raises CloudError."""
        ...


class Topic(Protocol):
    """Where deliveries are published. Called from several threads at once."""

    def publish(self, event: bytes, event_id: str, key: str) -> None:
        """Publish a CloudEvent (JSON); events of one `key` are kept in order where the topic can. Raises CloudError."""
        ...


class Chain:
    """Appends deliveries to the chains of one cloud's series, and publishes them. Safe in several threads.

    `topics` are where they are published, by a name that stays: one that fails holds back none of the others, and one
    that is added gets what follows. Without any, the documents are stored alone.
    """

    def __init__(self, cloud: str, topics: Mapping[str, Topic], run: RunContext) -> None:
        self._cloud = cloud
        self._topics = topics
        self._run = run
        self._refusals: Counter[str] = Counter()
        self._lock = threading.Lock()

    def current(self, series: Series, documents: Documents) -> tuple[Current, str | None]:
        """Return the newest delivery of a series as it is stored, and its version. Raises CloudError."""
        blob = documents.load(SIZE_LIMIT, current_name(series))
        try:
            return msgspec.json.decode(blob.data or b"{}", type=Current), blob.version
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # What was published is not known then: the chain begins anew, and its readers read all files again.
            self._run.log("warning", "delivery-unreadable", reason=f"{current_name(series)}: {str(error)[:100]}")
            return Current(), blob.version

    def append(self, series: Series, documents: Documents, found: FileSet) -> list[DeliveryDocument]:
        """Store and publish what was found, if it is news, and what was stored before and not published.

        Returns the documents that were stored now. Raises CloudError; what could be stored is stored even if the topic
        refuses it.
        """
        stored: list[DeliveryDocument] = []
        for _ in range(CONFLICTS):
            try:
                self._append(series, documents, found, stored)
            except Conflict:
                continue
            return stored
        raise Transient(
            "delivery-contended",
            f"other runs wrote the chain of {series.path} in {CONFLICTS} tries",
            "Nothing at first: the next run looks again. If it stays, find out what else runs as the function.",
        )

    def _append(self, series: Series, documents: Documents, found: FileSet, stored: list[DeliveryDocument]) -> None:
        current, version = self.current(series, documents)
        newest = current.newest
        last = newest.data.sequence if newest else 0
        published = {name: current.published.get(name, last) for name in self._topics}
        earlier = (self._read(series, documents, one) for one in range(min(published.values(), default=last) + 1, last))
        waiting = [one for one in earlier if one is not None]
        waiting += [newest] if newest else []
        while True:
            number, ahead = self._free(series, documents, newest, last)
            if ahead is None and is_same(newest, found):
                break
            if ahead is None:
                ahead = next_document(self._cloud, series, newest, number, found, self._run.clock.now())
                documents.save(ahead.encode(), None, delta_name(series, number))
                stored.append(ahead)
            newest, last = ahead, number
            waiting.append(ahead)
        refusals = [
            error for name, topic in self._topics.items() if (error := self._publish(waiting, name, topic, published))
        ]
        changed = Current({**current.published, **published}, newest)
        if newest is not None and changed != current:
            documents.save(msgspec.json.encode(changed), version, current_name(series))
        if refusals:
            raise refusals[0]

    def is_published(self, current: Current) -> bool:
        """Return whether each topic has the newest delivery."""
        last = current.newest.data.sequence if current.newest else 0
        return all(current.published.get(name, last) >= last for name in self._topics)

    def _free(
        self, series: Series, documents: Documents, newest: DeliveryDocument | None, last: int
    ) -> tuple[int, DeliveryDocument | None]:
        """Return the next number, with the document that a run stored there after `newest` and did not come to note.

        Documents of an earlier chain, whose newest was lost, keep their numbers. Raises CloudError.
        """
        for number in range(last + 1, last + 1 + MOST_SKIPPED):
            blob = documents.load(SIZE_LIMIT, delta_name(series, number))
            if blob.version is None:
                return number, None
            document = _decoded(blob)
            if document is not None and _predecessor(document) == (newest and newest.id):
                return number, document
        raise Permanent(
            "delivery-chain-blocked",
            f"{MOST_SKIPPED} documents of an earlier chain lie before the next number of {series.path}",
            f"Delete the folder of {delta_name(series, 1)}: readers then begin with the newest delivery.",
        )

    def _read(self, series: Series, documents: Documents, number: int) -> DeliveryDocument | None:
        """Return one document of the chain, None if it expired, is damaged, or belongs to an earlier chain."""
        return _decoded(documents.load(SIZE_LIMIT, delta_name(series, number)))

    def _publish(
        self, waiting: list[DeliveryDocument], name: str, topic: Topic, published: dict[str, int]
    ) -> CloudError | None:
        """Publish what a topic has not yet, in order; note each in `published`. Return why it took no more, if so."""
        for document in waiting:
            if document.data.sequence > published[name]:
                try:
                    self._offer(document, name, topic)
                except CloudError as error:
                    return error
                published[name] = document.data.sequence
        return None

    def _offer(self, document: DeliveryDocument, name: str, topic: Topic) -> None:
        """Publish one document, unless the topic has refused too many in this run. Raises CloudError."""
        if self._refusals[name] >= MOST_REFUSED:
            raise Transient(
                "delivery-topic-refuses",
                f"{name} refused {MOST_REFUSED} deliveries in this run",
                "See why, in the log before this line; the documents are stored, and the next run publishes them.",
            )
        try:
            topic.publish(document.event(), document.id, document.partitionkey)
        except CloudError:
            with self._lock:
                self._refusals[name] += 1
            raise


def _predecessor(document: DeliveryDocument) -> str | None:
    return document.data.previous.id if document.data.previous else None


def _decoded(blob: Blob) -> DeliveryDocument | None:
    try:
        return msgspec.json.decode(blob.data, type=DeliveryDocument) if blob.data else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
