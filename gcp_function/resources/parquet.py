"""Reads the number of rows and the columns of a Parquet file from its footer."""

from __future__ import annotations

import hashlib

import msgspec

MAGIC = b"PAR1"  # the first and last bytes of a Parquet file


class Footer(msgspec.Struct, frozen=True):
    """What a Parquet file's footer says: its number of rows, and a fingerprint of its columns (16 digits).

    Files with the same columns (names, types, order), written by the same writer, have the same fingerprint.
    """

    rows: int
    schema: str


def parse_footer(footer: bytes) -> Footer:
    """Return the second and third field of a Parquet footer, a Thrift struct in the compact protocol.

    Reads no further than these. Raises ValueError or IndexError for anything else. Sources: the Thrift compact
    protocol's specification, and parquet.thrift (FileMetaData).
    """
    reader, field, schema = _Compact(footer), 0, b""
    while True:
        head = reader.byte()
        kind = head & 0x0F
        if kind == 0:
            raise ValueError("the footer has no number of rows")
        field = field + (head >> 4) if head >> 4 else reader.signed()
        if field == 3:
            return Footer(reader.signed(), hashlib.sha256(schema).hexdigest()[:16])
        start = reader.at
        reader.skip(kind)
        if field == 2:
            schema = footer[start : reader.at]


class _Compact:
    """Skips through a Thrift struct in the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")

    def signed(self) -> int:
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int, levels: int = 16) -> None:
        if levels == 0:
            raise ValueError("nested too deeply")
        if kind in (1, 2):
            return
        if kind == 3:
            self.at += 1
        elif kind in (4, 5, 6):
            self.unsigned()
        elif kind == 7:
            self.at += 8
        elif kind == 8:
            length = self.unsigned()
            self.at += length
        elif kind in (9, 10):
            head = self.byte()
            self._elements(head >> 4 if head >> 4 != 15 else self.unsigned(), head & 0x0F, levels)
        elif kind == 12:
            while head := self.byte():
                if not head >> 4:
                    self.signed()
                self.skip(head & 0x0F, levels - 1)
        else:
            raise ValueError(f"the footer has a field of the unknown type {kind}")

    def _elements(self, number: int, kind: int, levels: int) -> None:
        # Each item takes at least a byte: a count larger than the rest of the footer would loop almost forever.
        if number > len(self._data) - self.at:
            raise ValueError("a list is longer than the footer")
        for _ in range(number):
            # In a list a boolean takes a byte; in a field its value is the type itself.
            self.skip(3 if kind in (1, 2) else kind, levels - 1)
