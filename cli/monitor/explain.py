"""`tailpipe-exports explain`: an entry of the runbook in the terminal."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cli.deployment.model import OperatorError, Problem
from cli.deployment.session import OK, guarded
from cli.terminal.console import out, print_document, say
from tailpipe_exports import FILES, NAME

RUNBOOK = FILES / "docs" / "runbook.md"
_CELL = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True)
class Entry:
    """One row of the runbook: its section, its names, and its other cells by heading."""

    section: str
    names: tuple[str, ...]
    cells: Mapping[str, str]


def explain(name: str, *, as_json: bool) -> int:
    """Show every entry of the runbook about an event or a code. Returns 0, or 1 without an entry."""

    def command() -> int:
        found = list(entries(RUNBOOK.read_text(encoding="utf-8")))
        mine = [one for one in found if name in one.names]
        if not mine:
            near = difflib.get_close_matches(name, {known for one in found for known in one.names}, 3)
            hint = f"Did you mean {' or '.join(near)}?" if near else "A code that is not listed is the cloud's own."
            raise OperatorError(Problem(f"the runbook has no entry {name!r}", hint))
        if as_json:
            print_document(
                {"name": name, "entries": [{"section": one.section, **one.cells} for one in mine]},
            )
            return OK
        target = out()
        for one in mine:
            say(target, (name, "bold"), f" · {one.section}", hang=4)
            for heading, text in one.cells.items():
                say(target, (f"{heading}: ", "dim"), text, indent=2, hang=2)
        return OK

    return guarded(f"{NAME}: nothing to explain", command, as_json=as_json)


def entries(text: str) -> Iterator[Entry]:
    """Yield the rows of the runbook's tables whose first cell names events or codes."""
    section = ""
    headings: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            section, headings = line.lstrip("# "), []
        elif not line.startswith("|"):
            headings = []
        elif not headings:
            headings = _cells(line)
        elif names := re.findall(r"`([^`]+)`", _CELL.split(line)[1]):
            cells = dict(zip(headings[1:], _cells(line)[1:], strict=False))
            yield Entry(section, tuple(names), cells)


def _cells(line: str) -> list[str]:
    return [_LINK.sub(r"\1", cell).replace("`", "").replace("\\|", "|").strip() for cell in _CELL.split(line)[1:-1]]
