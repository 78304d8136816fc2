"""Reads the number of rows of a Parquet file from its footer."""

from __future__ import annotations

MAGIC = b"PAR1"  # the first and last bytes of a Parquet file


def rows_of_footer(footer: bytes) -> int:
    """Return num_rows of a Parquet footer: the third field of a Thrift struct in the compact protocol.

    Reads no further than that field. Raises ValueError or IndexError for anything else. Sources: the Thrift compact
    protocol's specification, and parquet.thrift (FileMetaData).
    """
    reader, field = _Compact(footer), 0
    while True:
        head = reader.byte()
        kind = head & 0x0F
        if kind == 0:
            raise ValueError("the footer has no number of rows")
        field = field + (head >> 4) if head >> 4 else reader.signed()
        if field == 3:
            return reader.signed()
        reader.skip(kind)


class _Compact:
    """Skips through a Thrift struct in the compact protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
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
            self._at += 1
        elif kind in (4, 5, 6):
            self.unsigned()
        elif kind == 7:
            self._at += 8
        elif kind == 8:
            length = self.unsigned()
            self._at += length
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
        if number > len(self._data) - self._at:
            raise ValueError("a list is longer than the footer")
        for _ in range(number):
            # In a list a boolean takes a byte; in a field its value is the type itself.
            self.skip(3 if kind in (1, 2) else kind, levels - 1)
