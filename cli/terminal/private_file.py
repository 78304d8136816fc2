"""Files that only the operator can read: they name accounts and their problems, or contain a secret."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the operator's folder for files of commands, outside every checkout. It may not exist yet."""
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "tailpipe-exports"


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, private from its first byte on; an existing one is replaced in one step.

    A special file, such as /dev/stdout, is written to directly. Raises OSError.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
