"""Shows a run's log lines as they are written: a bar and noteworthy lines on a terminal, else plain lines."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from cli.terminal.console import clean, say
from cli.terminal.render import planned_word, word_of
from localcloud.common.foreground import uninterrupted
from shared.errors import cut
from shared.model import WRITES, Result, Verb
from shared.runtime.log import EVENTS, FIELDS

# Events that get a line of their own; all others are in the result or in the bar.
SHOWN = frozenset({"enumerated", "observed", "planned", "write-done", "write-pending", "run-finished"})
SETTLED = frozenset({"write-done", "write-pending", "write-failed"})
PHASES = {
    "run-started": "listing",
    "enumerated": "looking",
    "observed": "planning",
    "planned": "writing",
    "run-finished": "finished",
}
# The plan's event counts its verbs: `CREATE 3, KEEP 40`.
PLANNED_WRITES = re.compile(rf"\b(?:{'|'.join(sorted(WRITES))}) (\d+)")
COUNTED = re.compile(rf"\b({'|'.join(Verb)}) (\d+)")
WRITTEN = {"write-done": Result.DONE, "write-pending": Result.PENDING, "write-failed": Result.FAILED}
REPEATS = 5  # lines of one event; further ones are only counted
TROUBLE = {"warning": "yellow", "error": "bold red", "critical": "bold red"}
_POLL_S = 0.1
WHY = 120  # characters of a reason in its line


class Tally:
    """The state of a run by its log lines: the phase, and how many of the plan's writes are done."""

    def __init__(self) -> None:
        self.phase = "running"
        self.settled = 0
        self.writes: int | None = None
        self.events: Counter[str] = Counter()

    def take(self, event: str, fields: Mapping[str, Any]) -> None:
        """Count one event."""
        self.events[event] += 1
        self.phase = PHASES.get(event, self.phase)
        self.settled += event in SETTLED
        if event == "planned":
            counted = PLANNED_WRITES.findall(str(fields.get("reason", "")))
            self.writes = sum(int(number) for number in counted)


def parse_line(line: str) -> tuple[str, str, dict[str, Any]] | None:
    """Return level, event and fields of one JSON log line of a function; None for any other line."""
    if not line.startswith("{"):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("event") not in EVENTS:
        return None
    # Cloud Logging calls it severity.
    level = fields.get("level") or fields.get("severity") or "info"
    return str(level).lower(), str(fields["event"]), fields


class Watcher:
    """Shows a run in progress. `sink` takes its events from any thread; with `quiet`, nothing is shown."""

    def __init__(self, screen: Console, quiet: bool = False, lines: bool = True, title: str = "") -> None:
        self.tally = Tally()
        self._screen = screen
        self._lines = lines and not quiet
        self._title = title
        self._noted = ""
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if screen.is_terminal and not screen.is_dumb_terminal and not quiet:
            self._bar = Progress(
                SpinnerColumn("dots"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30, complete_style="cyan", finished_style="green", pulse_style="cyan"),
                TimeElapsedColumn(),
                console=screen,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._describe(), total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def sink(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Take one event of the engine's log."""
        with self._lock:
            self.tally.take(event, fields)
            if self._bar is not None and self._task is not None:
                self._bar.update(
                    self._task,
                    description=self._describe(),
                    total=self.tally.writes,
                    completed=self.tally.settled,
                )
            if self._lines:
                self._tell(level.lower(), event, fields)

    def line(self, line: str) -> None:
        """Take one line of a function's output."""
        parsed = parse_line(line)
        if parsed is not None:
            self.sink(*parsed)

    def note(self, text: str) -> None:
        """Show further information about the run beside its phase."""
        with self._lock:
            self._noted = text
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, description=self._describe())

    def _describe(self) -> str:
        writes = f"{self.tally.settled} of {self.tally.writes} writes" if self.tally.writes else ""
        return " · ".join(filter(None, (f"{self._title}{self.tally.phase}", writes, self._noted)))

    def _tell(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if level not in TROUBLE and event not in SHOWN:
            return
        repeat = self.tally.events[event]
        if repeat > REPEATS:
            return
        detail = readable(fields)
        say(
            self._screen,
            (f"{datetime.now(UTC):%H:%M:%S}  ", "dim"),
            (spoken(event, fields), TROUBLE.get(level, "")),
            (f" · {detail}" if detail else "", "dim"),
            (" · further ones are only counted" if repeat == REPEATS else "", "dim"),
            hang=10,
        )


@contextmanager
def noting(watcher: Watcher, known: Callable[[], str]) -> Iterator[None]:
    """While the context is open, show what is `known` about the run beside its phase, unless it is ""."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(_POLL_S):
            if text := known():
                watcher.note(text)

    thread = threading.Thread(target=follow, name="progress", daemon=True)
    try:
        with uninterrupted():
            thread.start()
        yield
    finally:
        over.set()
        if thread.ident is not None:  # an interrupt may come before the start
            thread.join()


def spoken(event: str, fields: Mapping[str, Any]) -> str:
    """Return an event in the words of the report."""
    verb = str(fields.get("verb", ""))
    if event in WRITTEN and verb in WRITES:
        return word_of(verb, WRITTEN[event])
    return EVENTS[event]


def readable(fields: Mapping[str, Any]) -> str:
    """Return the fields of an event on one line: the target, the reason, and the others."""
    rest = {name: clean(value) for name, value in fields.items() if name in FIELDS and name != "verb"}
    scope_name = rest.pop("scope_name", "")
    target = " ".join(rest.pop(part) for part in ("kind", "name", "scope") if part in rest)
    target = f"{target} ({scope_name})" if scope_name else target
    code, why = rest.pop("code", ""), cut(COUNTED.sub(_count, rest.pop("reason", "")), WHY)
    if "duration_ms" in rest:
        rest["after"] = f"{int(rest.pop('duration_ms')) / 1000:.1f} s"
    others = ", ".join(f"{name} {value}" for name, value in rest.items())
    return " · ".join(filter(None, (target, code if code != why else "", why, others)))


def _count(match: re.Match[str]) -> str:
    return f"{match[2]} {planned_word(match[1])}"
