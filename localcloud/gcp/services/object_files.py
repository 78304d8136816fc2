"""The files that store object contents, and their checksums."""

from __future__ import annotations

import base64
import hashlib
import threading
from pathlib import Path
from typing import Protocol

import google_crc32c

_SMALL = 4096  # bytes; larger contents are stored in files


class ObjectFiles:
    """Stores contents: small ones in memory, larger ones as files in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._count = 0

    def keep(self, data: bytes) -> bytes | Path:
        """Store a content and return its handle: the bytes themselves or the file's path."""
        if len(data) <= _SMALL:
            return data
        path = self.path()
        path.write_bytes(data)
        return path

    def path(self) -> Path:
        """Return an unused path."""
        with self._lock:
            self._count += 1
            return self._folder / f"{self._count:08d}"


def read(content: bytes | Path) -> bytes:
    """Return the bytes of a content."""
    return content if isinstance(content, bytes) else content.read_bytes()


class _Hash(Protocol):
    """The checksum object of the untyped package."""

    def update(self, data: bytes) -> None: ...

    def digest(self) -> bytes: ...


def _checksum() -> _Hash:
    made: _Hash = google_crc32c.Checksum()  # type: ignore[no-untyped-call]  # the package carries no annotations
    return made


def checksums(content: bytes | Path) -> tuple[int, str, str]:
    """Return (size, base64 MD5, base64 CRC32C in big-endian order), reading a file piece by piece."""
    md5, crc, size = hashlib.md5(usedforsecurity=False), _checksum(), 0
    if isinstance(content, bytes):
        md5.update(content)
        crc.update(content)
        size = len(content)
    else:
        with content.open("rb") as source:
            while part := source.read(1 << 20):
                md5.update(part)
                crc.update(part)
                size += len(part)
    return size, base64.b64encode(md5.digest()).decode(), base64.b64encode(crc.digest()).decode()
