"""The document of one delivery: a CloudEvent with the files that now count, and what changed since the one before.

Sources: "CloudEvents 1.0, JSON event format"; "Partitioning" (its extension, for topics that keep an order by key).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, NamedTuple
from urllib.parse import quote

import msgspec

from shared.target_state import Moment

TYPE = "io.tailpipe.exports.delivery.v1"
DELTAS, CURRENT = "deltas/", "deliveries/"  # folders: one document for each delivery, and the newest of each period
SIZE_LIMIT = 64 * 1024 * 1024  # bytes of a stored document: more files than any export delivers for a period
EVENT_LIMIT = 200_000  # bytes of a published event: the smallest limit of the topics is 256 KB (SNS)
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]")

Natural = Annotated[int, msgspec.Meta(ge=0)]


class File(msgspec.Struct, frozen=True, order=True):
    """One delivered file: its name below the location, its bytes, and its checksum.

    `checksum` is what the store says of the content, with the algorithm: ``md5:…``, ``crc32c:…``, or ``etag:…``, which
    only tells one content from another.
    """

    name: str
    bytes: Natural
    checksum: str


class FileSet(msgspec.Struct, frozen=True):
    """All files that a period consists of now, as the delivery's own manifest lists them.

    `location` is where they lie, such as ``s3://bucket/``; `delivered_at` when the manifest was written. `watermark` is
    up to when the data is complete by the cloud's own word, `schema` a fingerprint of the columns; None and "" where
    the cloud does not say.
    """

    location: str
    files: tuple[File, ...]
    delivered_at: Moment
    watermark: Moment | None = None
    schema: str = ""


class Series(NamedTuple):
    """What deliveries follow each other in: one period of one dataset of one scope."""

    scope: str
    dataset: str
    period: str

    @property
    def path(self) -> str:
        """Return the series as a path that every store takes."""
        return "/".join(safe_name(one) for one in (self.dataset, self.scope, self.period))


class Delta(msgspec.Struct, frozen=True):
    """What changed since the delivery before: names of files, sorted."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class Predecessor(msgspec.Struct, frozen=True):
    """The delivery before, in the same series."""

    id: str
    document: str


class DeliveryData(msgspec.Struct, frozen=True):
    """What a delivery's document says.

    `sequence` counts the documents of the series from 1, perhaps with gaps. `previous` is None for the first: its files
    are all that there are. `document` is the name of the stored document, beside the data. `truncated` is true only in
    a published event that was too large: `files` and `delta` are empty there, and the stored document has them.
    """

    cloud: str
    scope: str
    dataset: str
    period: str
    sequence: Annotated[int, msgspec.Meta(ge=1)]
    document: str
    location: str
    delivered_at: Moment
    watermark: Moment | None
    schema: str
    files: tuple[File, ...]
    delta: Delta
    previous: Predecessor | None = None
    truncated: bool = False


class DeliveryDocument(msgspec.Struct, frozen=True):
    """One delivery as a CloudEvent. The `id` follows from the contents: the same delivery has the same id."""

    id: str
    source: str
    subject: str
    partitionkey: str
    time: Moment
    data: DeliveryData
    specversion: str = "1.0"
    type: str = TYPE
    datacontenttype: str = "application/json"

    def encode(self) -> bytes:
        """Return the document as it is stored."""
        return msgspec.json.encode(self)

    def event(self) -> bytes:
        """Return the document as it is published, without the list of files if it would exceed EVENT_LIMIT."""
        whole = self.encode()
        if len(whole) <= EVENT_LIMIT:
            return whole
        data = msgspec.structs.replace(self.data, files=(), delta=Delta(), truncated=True)
        return msgspec.json.encode(msgspec.structs.replace(self, data=data))


class Current(msgspec.Struct, frozen=True):
    """The newest delivery of a series, and up to which sequence each topic has accepted them, by the topic's name."""

    published: Mapping[str, Natural] = {}
    newest: DeliveryDocument | None = None


def delta_name(series: Series, sequence: int) -> str:
    """Return the name of a delivery's document: in the order of the sequence."""
    return f"{DELTAS}{series.path}/{sequence:08d}.json"


def current_name(series: Series) -> str:
    """Return the name of the document of a series' newest delivery."""
    return f"{CURRENT}{series.path}.json"


def next_document(
    cloud: str, series: Series, previous: DeliveryDocument | None, sequence: int, found: FileSet, now: datetime
) -> DeliveryDocument:
    """Return the document of the delivery `found`, which follows `previous` (None: it is the first)."""
    before = () if previous is None else previous.data.files
    files = tuple(sorted(found.files))
    data = DeliveryData(
        cloud=cloud,
        scope=series.scope,
        dataset=series.dataset,
        period=series.period,
        sequence=sequence,
        document=delta_name(series, sequence),
        location=found.location,
        delivered_at=found.delivered_at,
        watermark=found.watermark,
        schema=found.schema,
        files=files,
        delta=delta_between(before, files),
        previous=Predecessor(previous.id, previous.data.document) if previous else None,
    )
    path = series.path
    source = f"/tailpipe-exports/{quote(cloud, safe='')}/{quote(series.scope, safe='')}"
    return DeliveryDocument(_id_of(source, data), source, path, path, now, data)


def delta_between(before: tuple[File, ...], after: tuple[File, ...]) -> Delta:
    """Return what changed from one set of files to another; a file with other bytes or checksum is replaced."""
    old, new = ({one.name: one for one in files} for files in (before, after))
    return Delta(
        added=tuple(sorted(new.keys() - old.keys())),
        replaced=tuple(sorted(name for name, one in new.items() if old.get(name, one) != one)),
        gone=tuple(sorted(old.keys() - new.keys())),
    )


def is_same(document: DeliveryDocument | None, found: FileSet) -> bool:
    """Return whether a series' newest document says what was found; without a document, nothing was found so far."""
    if document is None:
        return not found.files
    data = document.data
    return (data.files, data.location, data.schema) == (tuple(sorted(found.files)), found.location, found.schema)


def _id_of(source: str, data: DeliveryData) -> str:
    return hashlib.sha256(msgspec.json.encode((source, data))).hexdigest()[:32]


def safe_name(text: str) -> str:
    """Return a name as one part of a path that every store takes; what had to be replaced adds a digest."""
    safe = _UNSAFE.sub("_", text)
    if safe == text and text.strip("."):
        return text
    return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
