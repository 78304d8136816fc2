"""The lines of a function's log as the operator port returns them, for all clouds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class LogSearch:
    """Selects lines: from `since` on; of one run, about one scope and for one tenant, or of all if these are empty."""

    since: datetime
    run_id: str = ""
    scope: str = ""
    tenant: str = ""

    def wanted(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the value of each field that a line must have."""
        fields = (("run_id", self.run_id), ("scope", self.scope), ("tenant", self.tenant))
        yield from ((name, one) for name, one in fields if one)

    def terms(self) -> list[str]:
        """Return texts that every wanted line contains in stored form: parts that JSON does not escape."""
        longest = (max(re.split(r"[^ !#-\[\]-~]", one), key=len) for _, one in self.wanted())
        return [one for one in longest if one]

    def admits(self, line: LogLine) -> bool:
        """Return whether a line matches; text of the platform belongs to no run and no scope."""
        return line.at >= self.since and all(
            str(line.fields.get(name)).lower() == one.lower() for name, one in self.wanted()
        )


@dataclass(frozen=True)
class LogLine:
    """One line.

    `id` is unique within the log. `level` is one of LEVELS, "" if the platform gives none. A line of the function has
    `fields`, with at least `event`; any other has its `text`.
    """

    id: str
    at: datetime
    level: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""


def parse_line(line_id: str, at: datetime, text: str, level: str = "") -> LogLine:
    """Return a stored line; `level` is the platform's own, and overrides that in the line."""
    fields = _fields(text)
    if fields is None:
        return LogLine(line_id, at, level, text=text)
    return LogLine(line_id, at, level or level_of(fields.get("level")), fields)


def level_of(name: object) -> str:
    """Return a level by its name, "" for an unknown one."""
    level = str(name or "").upper()
    return level if level in LEVELS else ""


def _fields(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
