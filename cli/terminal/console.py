"""Output for people: colors and progress bars on a terminal only, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough that nothing is wrapped or cut in a file or a pipe.
PLAIN_WIDTH = 4000
WORDS = re.compile(r"\s*\S+\s*")
# Characters that move the cursor, ring the bell or reverse text: names in a cloud are untrusted input.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_ESCAPED = re.compile(f"{CONTROLS.pattern}|[\ud800-\udfff]")


def console(stream: TextIO) -> Console:
    """Return a console on `stream`; NO_COLOR and TERM=dumb are honored, FORCE_COLOR on a pipe is not."""
    terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=terminal,
        color_system="auto" if terminal else None,
        width=None if terminal else PLAIN_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def out() -> Console:
    """Return the console for results."""
    return console(sys.stdout)


def err() -> Console:
    """Return the console for progress and errors."""
    return console(sys.stderr)


def forgive_encoding() -> None:
    """Make a terminal without Unicode show question marks instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="replace")


def quiet_sdks() -> None:
    """Keep SDK logs and Python's warnings off the terminal; important failures are raised as errors.

    Without any handler, Python prints log messages from WARNING on, such as azure-identity's list of credentials.
    """
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def defect(error: Exception) -> tuple[str, str]:
    """Return the message and the remedy for an unexpected exception; its trace goes to a file.

    Only its owner can read the file, since the trace may quote anything.
    """
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"a defect of the command: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    descriptor, name = tempfile.mkstemp(prefix="tailpipe-exports-", suffix=".trace")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return what, f"Report it with its trace, which is in {name}; it may hold names of yours."


def clean(value: object) -> str:
    """Return a value from the cloud as one line of text without control characters."""
    return " ".join(CONTROLS.sub("�", str(value)).split())


def say(target: Console, *parts: str | tuple[str, str], indent: int = 0, hang: int = 0) -> None:
    """Print texts, each plain or with its style, wrapped between words.

    Every line is indented by `indent` columns, and lines after the first one by `hang` more. A word is never broken,
    even on a narrow terminal: an id or an address must stay in one piece.
    """
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(clean_keep_spaces(content), style=style)
    for paragraph in text.split("\n", allow_blank=True):
        margin = indent
        for line in paragraph.divide(_breaks(paragraph.plain, target.width - indent, hang)):
            line.rstrip()
            shown = Text(" " * margin if line else "").append_text(line)
            target.print(shown, overflow="ignore", no_wrap=True, crop=False)
            margin = indent + hang


def _breaks(text: str, width: int, hang: int) -> list[int]:
    """Return where the second and later lines of at most `width` columns begin; a longer word is kept whole."""
    found: list[int] = []
    used = 0
    for word in WORDS.finditer(text):
        if used > (hang if found else 0) and used + cell_len(word[0].rstrip()) > width:
            found.append(word.start())
            used = hang
        used += cell_len(word[0])
    return found


def clean_keep_spaces(value: str) -> str:
    """Return text without control characters, keeping its spacing."""
    return CONTROLS.sub("�", value)


def print_document(document: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a document to standard output, which holds nothing else; with `indent` None on one line."""
    sys.stdout.write(document_text(document, indent) + "\n")
    sys.stdout.flush()


def document_text(document: Mapping[str, Any], indent: int | None = 2) -> str:
    """Return a document as strict JSON.

    Numbers that JSON cannot express (NaN, infinities) become null. Control characters, characters that turn the
    direction of text, and halves of surrogate pairs are escaped: the document may be shown on a terminal.
    """
    try:
        text = json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(document), indent=indent, ensure_ascii=False, allow_nan=False, default=str)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(*columns: str) -> Table:
    """Return an aligned table without lines and with dimmed headings."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(target: Console, renderable: Table) -> None:
    """Print a table; in a file or a pipe, without the blanks that pad its last column."""
    if target.is_terminal:
        target.print(renderable)
        return
    with target.capture() as capture:
        target.print(renderable)
    for line in capture.get().splitlines():
        target.print(Text(line.rstrip()))
