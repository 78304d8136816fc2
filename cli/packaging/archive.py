"""Writes zip archives whose bytes depend only on their contents."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cli.packaging.errors import PackagingError

EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time of the format
REGULAR = 0o100644 << 16  # a regular file, readable by all regardless of the umask
UNIX = 3
LEVEL = 9


def write(path: Path, entries: Mapping[str, bytes]) -> str:
    """Write an archive of `entries` (names with slashes → contents) and return its SHA-256 in hexadecimal digits.

    Entries are sorted and have one timestamp and one mode; folders have no entries. Another release of zlib may
    compress the same contents to different bytes. An existing archive is replaced in one step or left unchanged. Raises
    PackagingError if the archive cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w+b") as file:
                with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
                    for name in sorted(entries):
                        archive.writestr(_entry(name), entries[name], ZIP_DEFLATED, LEVEL)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            # Temporary files are readable only by their owner; an archive is a regular file.
            Path(unfinished).chmod(0o644)
            Path(unfinished).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(unfinished).unlink()
            raise
    except OSError as error:
        raise PackagingError([f"{path} cannot be written: {error.strerror or error}"]) from error
    return digest


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name, EARLIEST)
    entry.create_system = UNIX
    entry.external_attr = REGULAR
    return entry
