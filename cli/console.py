"""Where the tool writes for people: colours and moving parts on a terminal only, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough that nothing is ever wrapped or cut in a file or a pipe.
PLAIN_WIDTH = 4000
# What would move the cursor, ring the bell or reverse the text: names in a cloud are not ours to trust.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def console(stream: TextIO) -> Console:
    """Return a console on `stream`; NO_COLOR and TERM=dumb are honoured, FORCE_COLOR on a pipe is not."""
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
    """Return the console for progress and trouble."""
    return console(sys.stderr)


def forgive_encoding() -> None:
    """Let a terminal without Unicode show question marks instead of ending the tool."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError, OSError):
                stream.reconfigure(errors="replace")


def quiet_sdks() -> None:
    """Keep what SDKs log, and Python's warnings, off the terminal: what matters of it comes as an error of ours.

    Without any handler Python prints what is logged from WARNING on, such as azure-identity's list of credentials.
    """
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def clean(value: object) -> str:
    """Return a value of the cloud's as one line of harmless text."""
    return " ".join(CONTROLS.sub("�", str(value)).split())


def say(target: Console, *parts: str | tuple[str, str], indent: int = 0) -> None:
    """Print one line of texts, each plain or with its style; wrapped lines keep the indent."""
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(clean_keep_spaces(content), style=style)
    if not indent:
        target.print(text)
        return
    grid = Table.grid(padding=0)
    grid.add_column(width=indent)
    grid.add_column(overflow="fold")
    grid.add_row("", text)
    show(target, grid)


def clean_keep_spaces(value: str) -> str:
    """Return text without control characters, its own spacing kept."""
    return CONTROLS.sub("�", value)


def table(*columns: str) -> Table:
    """Return an aligned table without lines; its headings are quiet."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def show(target: Console, renderable: Table) -> None:
    """Print a table without the blanks that pad its last column where nobody sees them anyway."""
    if target.is_terminal:
        target.print(renderable)
        return
    with target.capture() as capture:
        target.print(renderable)
    for line in capture.get().splitlines():
        target.print(Text(line.rstrip()))
