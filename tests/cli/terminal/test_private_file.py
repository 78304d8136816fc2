"""A private file is private from its first byte, whatever existed before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cli.terminal.private_file import write_private


def test_readable_file_becomes_private(tmp_path: Path) -> None:
    """No readable file ever has the new content, and the folder has no other file afterwards."""
    file = tmp_path / "status.html"
    file.write_text("old", encoding="utf-8")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_keeps_the_previous_file(tmp_path: Path) -> None:
    """Text that cannot be encoded leaves no partial file."""
    file = tmp_path / "status.html"
    file.write_text("old", encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        write_private(file, "\ud800")
    assert file.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_device_is_written_and_not_replaced() -> None:
    """This applies to `--out /dev/null` and /dev/stdout."""
    write_private(Path("/dev/null"), "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
