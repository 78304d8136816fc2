"""A private file is private from its first byte on, whatever was there before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli.terminal.private_file import write_private


def test_file_that_others_could_read_becomes_private(tmp_path: Path) -> None:
    """The new content is never in a file that others may read; nothing else is left in the folder."""
    file = tmp_path / "status.html"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Text that cannot be encoded costs neither the old content nor a half-written file."""
    file = tmp_path / "status.html"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_private(file, "\ud800")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_device_is_written_to_and_not_replaced() -> None:
    """`--out /dev/null` or /dev/stdout keeps the device."""
    write_private(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
