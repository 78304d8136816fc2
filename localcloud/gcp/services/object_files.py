"""The files that hold the contents of objects, and their checksums."""

from __future__ import annotations

import base64
import hashlib
import threading
from pathlib import Path
from typing import Protocol

import google_crc32c

_SMALL = 4096  # bytes; larger contents lie in files


class ObjectFiles:
    """Where contents lie: small ones in memory, the others in a folder that is the spool's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._count = 0

    def keep(self, data: bytes) -> bytes | Path:
        """Return a handle of this content."""
        if len(data) <= _SMALL:
            return data
        path = self.path()
        path.write_bytes(data)
        return path

    def path(self) -> Path:
        """Return a path that is not used yet."""
        with self._lock:
            self._count += 1
            return self._folder / f"{self._count:08d}"


def read(content: bytes | Path) -> bytes:
    """Return a whole content."""
    return content if isinstance(content, bytes) else content.read_bytes()


class _Hash(Protocol):
    """What the checksum package, which is untyped, gives."""

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
