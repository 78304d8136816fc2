"""The ledger of deliveries: which periods of which dataset of which scope hold data.

It is a document of its own beside the state, and like it never the truth: lost, it refills from what runs list anyway.
Ten thousand scopes with two datasets and 36 months are 720,000 entries, so an entry is a row of fixed width:
the ledger in memory is those rows, packed, and only what is asked for becomes objects. In the store the rows lie byte
column by byte column (all first bytes, all second bytes, …), which zlib packs to about a third.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from shared.periods import Period, number_of, period_of, start_of
from shared.target_state import Moment

DELIVERIES = "deliveries.bin"
VERSION = 2  # 1 has no last column, and minutes for the time of observation, which thus is older than any other
SIZE_LIMIT = 32 * 1024 * 1024  # bytes as stored
RAW_LIMIT = 64 * 1024 * 1024  # bytes when unpacked: two million entries
MONTHS_KEPT = timedelta(days=7 * 366)  # cost data goes back no further
DAYS_KEPT = timedelta(days=400)
SLACK = timedelta(days=1)  # so far ahead may the clock of a host be that wrote an entry
LEVEL = 3  # of zlib: higher ones take four times as long for two percent

# Period as YYYYMMDD (day 00: a month), files, bytes, then minutes from the period's beginning to the first arrival, the
# last one and the watermark, then when that was observed, in seconds since 1970, and 1 if it was announced as it is.
_ROW = struct.Struct("<IIQiiiIB")
WIDTH = _ROW.size
_WIDTHS = {1: WIDTH - 1, VERSION: WIDTH}
_CONTENTS = 6  # so many values say what the period holds
_KEY = struct.Struct("<I")
_NO_FILES, _NO_BYTES, _NO_TIME = 2**32 - 1, 2**64 - 1, -(2**31)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE, _SECOND = timedelta(minutes=1), timedelta(seconds=1)

Row = tuple[int, int, int, int, int, int, int, int]
Series = tuple[str, str]  # scope and dataset


class CorruptLedger(Exception):
    """The document is no ledger, or another deployment's; `str` says why."""


class NewerLedger(Exception):
    """A newer version of the function wrote the document: it is left alone."""


class _Head(msgspec.Struct, omit_defaults=True):
    version: Annotated[int, msgspec.Meta(ge=1)]
    cloud: str = ""
    owner: str = ""
    updated_at: Moment | None = None
    series: dict[str, dict[str, Annotated[int, msgspec.Meta(ge=0)]]] = {}  # scope → dataset → number of rows


class Ledger:
    """The periods of each scope and dataset; entries are accurate to the minute.

    `owner` is the organization, tenant or parent that all scopes belong to, as in the state.
    """

    def __init__(self, cloud: str, owner: str = "") -> None:
        self.cloud = cloud
        self.owner = owner
        self.updated_at: datetime | None = None
        self._rows: dict[Series, bytes | memoryview] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and self._contents() == other._contents()

    __hash__ = None  # type: ignore[assignment]  # it changes, so it is no key

    def __bool__(self) -> bool:
        return bool(self._rows)

    def _contents(self) -> tuple[str, str, dict[Series, bytes]]:
        return self.cloud, self.owner, {key: bytes(rows) for key, rows in self._rows.items()}

    def series(self) -> Iterator[Series]:
        """Yield each scope and dataset of which something is known, in order."""
        return iter(sorted(self._rows))

    def periods(self, scope: str, dataset: str) -> dict[str, Period]:
        """Return what is known of one dataset of a scope, by period, oldest first."""
        rows = self._rows.get((scope, dataset), b"")
        found = (_unpacked(row) for row in _ROW.iter_unpack(rows))
        return dict(one for one in found if one is not None)

    def oldest(self) -> str | None:
        """Return the oldest month of which anything is known, None of an empty ledger."""
        numbers = (_first_key(rows) for rows in self._rows.values() if len(rows))
        return min((name[:7] for name in map(period_of, numbers) if number_of(name) is not None), default=None)

    def note(self, scope: str, dataset: str, periods: Mapping[str, Period], now: datetime) -> None:
        """Record what a run observed of a dataset at the time `now`; what is no period is left out."""
        rows = sorted(row for name, one in periods.items() if (row := _packed(name, one, now)) is not None)
        if rows:
            made = b"".join(_ROW.pack(*row) for row in rows)
            before = self._rows.get((scope, dataset))
            self._rows[scope, dataset] = made if before is None else _merged(before, made, _latest(now))[0]

    def unannounced(self) -> Iterator[tuple[str, str, str, Period]]:
        """Yield scope, dataset, name and contents of each period that was not announced as it is now, oldest first.

        A period that never held data has nothing to announce. One that lost its data still has its first arrival.
        """
        for scope, dataset in sorted(self._rows):
            for row in _ROW.iter_unpack(self._rows[scope, dataset]):
                found = None if row[-1] else _unpacked(row)
                if found is not None and (found[1].has_data or found[1].first is not None):
                    yield scope, dataset, *found

    def mark_announced(self, announced: Mapping[Series, Mapping[str, Period]]) -> bool:
        """Note that periods were announced with these contents; return whether that is new of any.

        A period that holds something else by now is left as it is.
        """
        changed = False
        for key, periods in announced.items():
            rows = bytearray(self._rows.get(key, b""))
            for start in range(0, len(rows), WIDTH):
                row = _ROW.unpack_from(rows, start)
                found = None if row[-1] else _unpacked(row)
                if found is not None and periods.get(found[0]) == found[1]:
                    rows[start + WIDTH - 1] = 1
                    changed = True
            if rows:
                self._rows[key] = bytes(rows)
        return changed

    def digest(self) -> str:
        """Return a digest of all entries without the times of their observation; "" for an empty ledger."""
        if not self:
            return ""
        found = hashlib.sha256()
        for scope, dataset in sorted(self._rows):
            found.update(msgspec.json.encode((scope, dataset)))
            for row in _ROW.iter_unpack(self._rows[scope, dataset]):
                found.update(_ROW.pack(*row[:_CONTENTS], 0, 0))
        return found.hexdigest()[:32]

    def merge(self, other: Ledger, now: datetime) -> bool:
        """Take in what another ledger knows; return whether anything is new but the time of the observation.

        Per period the newest observation wins, and the earliest first arrival stays: in any order and any number of
        times the same comes out. An observation later than `now` was timed by a wrong clock and never wins.
        """
        latest, changed = _latest(now), False
        for key, rows in other._rows.items():
            before = self._rows.get(key)
            if before is None:
                self._rows[key], changed = rows, True
            elif before != rows:
                self._rows[key], news = _merged(before, rows, latest)
                changed = changed or news
        return changed

    def compact(self, now: datetime) -> None:
        """Drop months that began more than seven years ago, and days of more than 400 days ago."""
        months, days = (int(f"{now - kept:%Y%m%d}") for kept in (MONTHS_KEPT, DAYS_KEPT))
        for key, rows in list(self._rows.items()):
            # Most have nothing to drop, which the oldest row shows.
            if not len(rows) or _first_key(rows) >= (days if _first_key(rows) % 100 else months):
                continue
            kept = [row for row in _ROW.iter_unpack(rows) if row[0] >= (days if row[0] % 100 else months)]
            self._rows[key] = b"".join(_ROW.pack(*row) for row in kept)
        self._rows = {key: rows for key, rows in self._rows.items() if len(rows)}

    def encode(self, now: datetime) -> bytes:
        """Return the document as it is stored."""
        self.updated_at = now
        head = _Head(VERSION, self.cloud, self.owner, now, {})
        order = sorted(self._rows)
        for scope, dataset in order:
            head.series.setdefault(scope, {})[dataset] = len(self._rows[scope, dataset]) // WIDTH
        rows = b"".join(self._rows[key] for key in order)
        packer = zlib.compressobj(LEVEL)
        parts = [packer.compress(msgspec.json.encode(head)), packer.compress(b"\n")]
        parts += [packer.compress(rows[column::WIDTH]) for column in range(WIDTH)]
        return b"".join([*parts, packer.flush()])


def decode(data: bytes, cloud: str, owner: str = "") -> Ledger:
    """Return the ledger in `data`; any `owner` is right where none is given.

    Raises CorruptLedger if it is damaged or another deployment's, NewerLedger if a newer function wrote it.
    """
    head, columns = _parts(data)
    if head.cloud != cloud or (owner and head.owner != owner):
        raise CorruptLedger(f"it belongs to {head.cloud[:40]!r}, {head.owner[:80]!r}")
    width = _WIDTHS[head.version]
    count, rest = divmod(len(columns), width)
    if rest or sum(number for one in head.series.values() for number in one.values()) != count:
        raise CorruptLedger("its rows are not as many as its head says")
    rows = bytearray(count * WIDTH)
    for column in range(width):
        rows[column::WIDTH] = columns[column * count : (column + 1) * count]
    ledger = Ledger(head.cloud, head.owner)
    ledger.updated_at = head.updated_at
    # Each series is a view of the one buffer: nothing is copied until it changes.
    view, start = memoryview(bytes(rows)), 0
    for scope in sorted(head.series):
        for dataset, number in sorted(head.series[scope].items()):
            end = start + number * WIDTH
            ledger._rows[scope, dataset] = view[start:end]
            start = end
    return ledger


def _parts(data: bytes) -> tuple[_Head, memoryview]:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, RAW_LIMIT)
        if not unpacker.eof or unpacker.unused_data:
            raise CorruptLedger("it ends too early, goes on after its end, or is too large")
        end = text.find(b"\n")
        head = msgspec.json.decode(text[: max(0, end)], type=_Versioned)
        if head.version > VERSION:
            raise NewerLedger(f"format {head.version} wrote it, this function knows {VERSION}")
        return msgspec.json.decode(text[:end], type=_Head), memoryview(text)[end + 1 :]
    except zlib.error as error:
        raise CorruptLedger(f"it cannot be unpacked: {str(error)[:100]}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptLedger(f"its head is unreadable: {str(error)[:100]}") from error


class _Versioned(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=1)]


def _packed(name: str, period: Period, now: datetime) -> Row | None:
    number = number_of(name)
    if number is None:
        return None
    start = start_of(number)
    return (
        number,
        _NO_FILES if period.files is None else min(max(period.files, 0), _NO_FILES - 1),
        _NO_BYTES if period.bytes is None else min(max(period.bytes, 0), _NO_BYTES - 1),
        _minutes(period.first, start),
        _minutes(period.last, start),
        _minutes(period.watermark, start),
        min(max((now - _EPOCH) // _SECOND, 0), 2**32 - 1),
        0,
    )


def _minutes(moment: datetime | None, start: datetime) -> int:
    return _NO_TIME if moment is None else min(max((moment - start) // _MINUTE, _NO_TIME + 1), 2**31 - 1)


def _unpacked(row: Row) -> tuple[str, Period] | None:
    """Return a row's period, None for a row that no function wrote."""
    number, files, size, first, last, watermark, *_ = row
    name = period_of(number)
    if number_of(name) is None:
        return None
    start = start_of(number)
    period = Period(
        None if files == _NO_FILES else files,
        None if size == _NO_BYTES else size,
        *(_moment(one, start) for one in (first, last, watermark)),
    )
    return name, period


def _moment(minutes: int, start: datetime) -> datetime | None:
    try:
        return None if minutes == _NO_TIME else start + minutes * _MINUTE
    except OverflowError:
        return None


def _latest(now: datetime) -> int:
    return (now + SLACK - _EPOCH) // _SECOND


def _first_key(rows: bytes | memoryview) -> int:
    return int(_KEY.unpack_from(rows)[0])


def _merged(one: bytes | memoryview, other: bytes | memoryview, latest: int) -> tuple[bytes, bool]:
    """Return the rows of both, and whether they hold more than `one` but for times of observation."""
    merged = {row[0]: row for row in _ROW.iter_unpack(one)}
    changed = False
    for row in _ROW.iter_unpack(other):
        known = merged.get(row[0])
        won = row if known is None else _newer(known, row, latest)
        merged[row[0]] = won
        changed = changed or known is None or won[:_CONTENTS] != known[:_CONTENTS] or won[-1] > known[-1]
    return b"".join(_ROW.pack(*merged[key]) for key in sorted(merged)), changed


def _newer(one: Row, other: Row, latest: int) -> Row:
    number, files, size, _, last, watermark, at, _ = max(one, other, key=lambda row: _rank(row, latest))
    firsts = [row[3] for row in (one, other) if row[3] != _NO_TIME]
    first = min(firsts, default=_NO_TIME)
    # What was announced is files, bytes and the last arrival, whenever that was observed.
    announced = any(row[-1] and (row[1], row[2], row[4]) == (files, size, last) for row in (one, other))
    return number, files, size, first, last, watermark, at, int(announced)


def _rank(row: Row, latest: int) -> tuple[int, ...]:
    _, files, size, _, last, watermark, at, _ = row
    return (at if at <= latest else -1, files, size, last, watermark, at)
