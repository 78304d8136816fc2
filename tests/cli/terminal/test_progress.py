"""How the log lines of a run are shown."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from cli.terminal.console import console
from cli.terminal.progress import REPEATS, Tally, Watcher, parse_line
from shared.runtime.log import EVENTS


def lines_of(watcher_lines: list[str]) -> list[str]:
    """Return a watcher's output to a pipe for these log lines."""
    stream = io.StringIO()
    with Watcher(console(stream)) as watcher:
        for line in watcher_lines:
            watcher.line(line)
    return stream.getvalue().splitlines()


def event(name: str, level: str = "INFO", /, **fields: Any) -> str:
    """Return a log line as the functions write it."""
    return json.dumps({"level": level, "event": name, "run_id": "r-1", "cloud": "aws", **fields})


@pytest.mark.parametrize("line", ["", "START RequestId: 1", "{not json", '{"_aws": {}}', '["event"]', '{"event": "x"}'])
def test_other_lines_are_ignored(line: str) -> None:
    """The platform's lines, metrics and foreign JSON are skipped."""
    assert parse_line(line) is None


def test_progress_bar_counts_writes_of_the_plan() -> None:
    """The total is the number of planned writes, and every settled or failed one is a step."""
    tally = Tally()
    tally.take("planned", {"reason": "ADOPT 1, CREATE 2, KEEP 40, SKIP 7"})
    for name in ("write-done", "write-pending", "write-failed", "deferred"):
        tally.take(name, {})
    assert (tally.phase, tally.settled, tally.writes) == ("writing", 3, 3)


def test_notable_events_are_shown_in_words_with_their_target() -> None:
    """The words are those of the report; run ids and debug events are left out."""
    done, planned = lines_of(
        [
            event("state-saved", "DEBUG"),
            event("write-done", scope="1", scope_name="Alpha", kind="export", name="e", verb="CREATE"),
            event("planned", reason="ADOPT 1, KEEP 40"),
        ]
    )
    assert done.endswith("  created · export e 1 (Alpha)")
    assert planned.endswith(f"  {EVENTS['planned']} · 1 to adopt, 40 kept")


def test_repeated_events_are_summarized() -> None:
    """Thousands of equal events give a few lines and a count."""
    told = lines_of([event("write-done", scope=str(number)) for number in range(1000)])
    assert len(told) == REPEATS
    assert told[-1].endswith("further ones are only counted")


def test_quiet_watcher_writes_nothing() -> None:
    """This is the case with --json."""
    stream = io.StringIO()
    with Watcher(console(stream), quiet=True) as watcher:
        watcher.sink("error", "write-failed", {"scope": "1"})
    assert stream.getvalue() == ""
    assert watcher.tally.settled == 1
