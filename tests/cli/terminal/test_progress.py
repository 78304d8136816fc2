"""How a run's log lines are shown."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from cli.terminal.console import console
from cli.terminal.progress import REPEATS, Tally, Watcher, parse_line
from shared.runtime.log import EVENTS


def lines_of(watcher_lines: list[str]) -> list[str]:
    """Return what a watcher prints on a pipe for these log lines."""
    stream = io.StringIO()
    with Watcher(console(stream)) as watcher:
        for line in watcher_lines:
            watcher.line(line)
    return stream.getvalue().splitlines()


def event(name: str, level: str = "INFO", /, **fields: Any) -> str:
    """Return a log line as the functions write it."""
    return json.dumps({"level": level, "event": name, "run_id": "r-1", "cloud": "aws", **fields})


@pytest.mark.parametrize("line", ["", "START RequestId: 1", "{not json", '{"_aws": {}}', '["event"]', '{"event": "x"}'])
def test_other_lines_of_a_function_are_not_events(line: str) -> None:
    """The platform's lines, metrics and foreign JSON are passed over."""
    assert parse_line(line) is None


def test_the_bar_counts_writes_against_the_plan() -> None:
    """After the plan its writes are the whole, and every settled one, failed ones too, is a step."""
    tally = Tally()
    tally.take("planned", {"reason": "ADOPT 1, CREATE 2, KEEP 40, SKIP 7"})
    for name in ("write-done", "write-pending", "write-failed", "deferred"):
        tally.take(name, {})
    assert (tally.phase, tally.settled, tally.writes) == ("writing", 3, 3)


def test_noteworthy_events_are_reported_in_words_with_their_target() -> None:
    """A line says what happened and to what, in the report's words; run ids and debugging are left out."""
    done, planned = lines_of(
        [
            event("state-saved", "DEBUG"),
            event("write-done", scope="1", scope_name="Alpha", kind="export", name="e", verb="CREATE"),
            event("planned", reason="ADOPT 1, KEEP 40"),
        ]
    )
    assert done.endswith("  created · export e 1 (Alpha)")
    assert planned.endswith(f"  {EVENTS['planned']} · 1 to adopt, 40 kept")


def test_repeated_events_are_counted_not_recited() -> None:
    """Thousands of equal events give a handful of lines and a word about the rest."""
    told = lines_of([event("write-done", scope=str(number)) for number in range(1000)])
    assert len(told) == REPEATS
    assert told[-1].endswith("further ones are only counted")


def test_a_quiet_watcher_writes_nothing() -> None:
    """With --json nothing passes by."""
    stream = io.StringIO()
    with Watcher(console(stream), quiet=True) as watcher:
        watcher.sink("error", "write-failed", {"scope": "1"})
    assert stream.getvalue() == ""
    assert watcher.tally.settled == 1
