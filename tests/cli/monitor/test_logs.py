"""`logs` shows each line of the deployed function's log once and in one form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.deployment.log_lines import LogLine, LogSearch, parse_line
from cli.deployment.model import OperatorError, Problem
from cli.main import main
from cli.monitor import logs
from shared.runtime.clock import VirtualClock
from tests.cli.support.fakes import FUNCTION, FakeOperator

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOSTILE = "team\x1b[31m\u202egro"


def line(number: int, level: str = "INFO", **fields: Any) -> LogLine:
    """Return the line with that number, written a number of seconds after the start."""
    text = json.dumps({"event": "write-failed", "run_id": "r-1", **fields})
    return parse_line(str(number), START + timedelta(seconds=number), text, level)


class Log(FakeOperator):
    """A deployment with a log; each further read finds additional lines from `later`."""

    def __init__(self, *lines: LogLine, later: Any = (), error: OperatorError | None = None) -> None:
        super().__init__([FUNCTION], {})
        self.lines, self.later, self.error = list(lines), iter(later), error
        self.searches: list[LogSearch] = []

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        """Yield the lines that match the search."""
        if self.error:
            raise self.error
        if self.searches:
            found = next(self.later)
            if isinstance(found, BaseException):
                raise found
            self.lines += found
        self.searches.append(search)
        yield from filter(search.admits, self.lines)


def install(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Let the tool find this log on AWS."""
    entry = replace(clouds.CLOUDS["aws"], operator=lambda: cast("Any", log))
    monkeypatch.setitem(clouds.CLOUDS, "aws", entry)
    return log


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, ["logs", "aws", *arguments])


def test_line_has_time_level_event_scope_code_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scope's name precedes its id, and the platform's text is unchanged."""
    wrote = line(1, "ERROR", scope="111122223333", scope_name="Beta", code="AccessDenied", reason="not allowed")
    install(Log(wrote, LogLine("2", START + timedelta(seconds=2), "", text="Task timed out")), monkeypatch)
    done = called("--since", "2026-01-05")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "2026-01-05 12:00:01Z  ERROR    write-failed · Beta (111122223333) · AccessDenied · not allowed",
        "2026-01-05 12:00:02Z  -        Task timed out",
    ]


def test_run_and_scope_filter_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both must match; a run's id sets where the log starts."""
    run = "20260105T120000Z-00000001"
    log = install(Log(line(1), line(2, run_id=run, scope="a"), line(3, run_id=run, scope="b")), monkeypatch)
    done = called("--run", run, "--scope", "b")
    assert [one[:20] for one in done.stdout.splitlines()] == ["2026-01-05 12:00:03Z"]
    assert log.searches == [LogSearch(START, run, "b")]


def test_json_has_one_object_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has every field, and standard output has nothing else."""
    install(Log(line(1, scope="a"), LogLine("2", START, "", text="killed")), monkeypatch)
    found = [json.loads(one) for one in called("--json", "--since", "2026-01-05").stdout.splitlines()]
    assert found == [
        {
            "time": "2026-01-05T12:00:01+00:00",
            "level": "INFO",
            "event": "write-failed",
            "run_id": "r-1",
            "scope": "a",
        },
        {"time": "2026-01-05T12:00:00+00:00", "level": "", "text": "killed"},
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_hostile_text_cannot_control_the_terminal_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control and direction characters of fields and text are not printed."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    hostile = line(1, scope="a", scope_name=HOSTILE, reason=f"{HOSTILE}\nnext line")
    install(Log(hostile, LogLine("2", START, "", text=HOSTILE)), monkeypatch)
    done = called("--since", "2026-01-05")
    assert not {"\x1b", "\u202e"} & set(done.output)
    assert len(done.stdout.splitlines()) == 2


def test_empty_log_is_reported_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 0, and standard error has the start of the search."""
    install(Log(), monkeypatch)
    done = called("--since", "2026-01-05")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no line since 2026-01-05 00:00 UTC" in done.stderr


def test_unreadable_log_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 1."""
    install(Log(error=OperatorError(Problem("the log may not be read", "Grant it."))), monkeypatch)
    done = called()
    assert done.exit_code == 1
    assert "the log may not be read" in done.stderr
    assert "Grant it." in done.stderr


@pytest.mark.parametrize(("since", "expected"), [("30m", timedelta(minutes=30)), ("7d", timedelta(days=7))])
def test_since_accepts_an_age(since: str, expected: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid value is refused."""
    log = install(Log(), monkeypatch)
    assert called("--since", since).exit_code == 0
    assert timedelta(0) <= datetime.now(UTC) - expected - log.searches[0].since < timedelta(minutes=5)
    assert called("--since", "yesterday").exit_code != 0


@pytest.mark.parametrize(
    "arguments", [["--since", "0001-01-01"], ["--since", "99999d"], ["--run", "19000101T000000Z-x"]]
)
def test_search_of_a_log_starts_in_1970_at_the_earliest(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS refuses a negative time."""
    log = install(Log(line(1)), monkeypatch)
    assert called(*arguments).exit_code == 0
    assert log.searches[0].since == datetime(1970, 1, 1, tzinfo=UTC)


def test_followed_log_shows_each_line_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Late lines are found after newer ones, and an interrupt exits with 0."""
    later = [[line(3), line(9)], [], KeyboardInterrupt()]
    log = install(Log(line(1), line(7), later=later), monkeypatch)
    clock = VirtualClock()
    search = LogSearch(START)
    code = logs.logs(clouds.CLOUDS["aws"], "", search, follow=True, as_json=False, clock=clock)
    shown = [one[18:19] for one in capsys.readouterr().out.splitlines()]
    assert (code, shown) == (0, ["1", "7", "3", "9"])
    assert clock.monotonic() == 3 * logs.POLL_S
    assert {one.since for one in log.searches} == {START}


def test_followed_log_keeps_only_recent_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read starts shortly before the newest line, so a long watch reads and stores little."""
    hour = 3600
    later = [[line(hour)], [], [], KeyboardInterrupt()]
    log = install(Log(line(1), later=later), monkeypatch)
    logs.logs(clouds.CLOUDS["aws"], "", LogSearch(START), follow=True, as_json=True, clock=VirtualClock())
    assert log.searches[-1].since == START + timedelta(seconds=hour) - logs.LATE


def test_text_that_resembles_an_event_is_shown_unchanged() -> None:
    """This covers a document without an event, and an incomplete one."""
    for text in ('{"message": "x"}', '{"event": 3}', '{"event": "a"', "[" * 100_000):
        assert (parse_line("1", START, text).fields, parse_line("1", START, text).text) == ({}, text)


def test_json_of_a_log_is_strict_and_ends_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that only Python reads becomes null, and the lines before the error are kept."""

    class Failing(Log):
        def logs(self, search: LogSearch) -> Iterator[LogLine]:
            """Yield the lines, then raise an error."""
            yield from super().logs(search)
            raise OperatorError(Problem("the log ended early", "Read it again."))

    odd = parse_line("1", START, '{"event": "write-failed", "ratio": NaN, "scope": "a\x9b"}')
    install(Failing(odd), monkeypatch)
    done = called("--json", "--since", "2026-01-05")
    first, last = done.stdout.splitlines()
    assert done.exit_code == 1
    assert '"ratio": null' in first
    assert json.loads(first)["scope"] == "a\x9b"
    assert "\x9b" not in first
    assert json.loads(last) == {"error": {"problems": [{"what": "the log ended early", "remedy": "Read it again."}]}}
