"""`logs` shows what the deployed function logged, each line once, in one form."""

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
    """Return the line of that number, written so many seconds after the start."""
    text = json.dumps({"event": "write-failed", "run_id": "r-1", **fields})
    return parse_line(str(number), START + timedelta(seconds=number), text, level)


class Log(FakeOperator):
    """A deployment with a log; `later` are lines that each further reading finds beside the earlier ones."""

    def __init__(self, *lines: LogLine, later: Any = (), error: OperatorError | None = None) -> None:
        super().__init__([FUNCTION], {})
        self.lines, self.later, self.error = list(lines), iter(later), error
        self.searches: list[LogSearch] = []

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        """Yield the lines that the search admits."""
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
    """Return what the tool did."""
    return CliRunner().invoke(main, ["logs", "aws", *arguments])


def test_a_line_shows_time_level_event_scope_code_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of the scope stands before its id; the text of the platform stands as it is."""
    wrote = line(1, "ERROR", scope="111122223333", scope_name="Beta", code="AccessDenied", reason="not allowed")
    install(Log(wrote, LogLine("2", START + timedelta(seconds=2), "", text="Task timed out")), monkeypatch)
    done = called("--since", "2026-01-05")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "2026-01-05 12:00:01Z  ERROR    write-failed · Beta (111122223333) · AccessDenied · not allowed",
        "2026-01-05 12:00:02Z  -        Task timed out",
    ]


def test_run_and_scope_choose_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only lines with both values are shown; a run's id says where its log begins."""
    run = "20260105T120000Z-00000001"
    log = install(Log(line(1), line(2, run_id=run, scope="a"), line(3, run_id=run, scope="b")), monkeypatch)
    done = called("--run", run, "--scope", "b")
    assert [one[:20] for one in done.stdout.splitlines()] == ["2026-01-05 12:00:03Z"]
    assert log.searches == [LogSearch(START, run, "b")]


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field of a line is in its object, and standard output holds nothing else."""
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
def test_hostile_text_stays_harmless_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control and direction characters never reach the terminal, neither of fields nor of plain text."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    hostile = line(1, scope="a", scope_name=HOSTILE, reason=f"{HOSTILE}\nnext line")
    install(Log(hostile, LogLine("2", START, "", text=HOSTILE)), monkeypatch)
    done = called("--since", "2026-01-05")
    assert not {"\x1b", "\u202e"} & set(done.output)
    assert len(done.stdout.splitlines()) == 2


def test_no_line_is_said_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty log ends with 0, and says since when it is empty on standard error."""
    install(Log(), monkeypatch)
    done = called("--since", "2026-01-05")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no line since 2026-01-05 00:00 UTC" in done.stderr


def test_a_log_that_cannot_be_read_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, the reason, and what to do."""
    install(Log(error=OperatorError(Problem("the log may not be read", "Grant it."))), monkeypatch)
    done = called()
    assert done.exit_code == 1
    assert "the log may not be read" in done.stderr
    assert "Grant it." in done.stderr


@pytest.mark.parametrize(("since", "expected"), [("30m", timedelta(minutes=30)), ("7d", timedelta(days=7))])
def test_an_age_is_counted_from_now(since: str, expected: timedelta, monkeypatch: pytest.MonkeyPatch) -> None:
    """--since takes an age too; what is neither is refused."""
    log = install(Log(), monkeypatch)
    assert called("--since", since).exit_code == 0
    assert timedelta(0) <= datetime.now(UTC) - expected - log.searches[0].since < timedelta(minutes=5)
    assert called("--since", "yesterday").exit_code != 0


@pytest.mark.parametrize(
    "arguments", [["--since", "0001-01-01"], ["--since", "99999d"], ["--run", "19000101T000000Z-x"]]
)
def test_a_log_is_not_searched_before_1970(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS refuses a negative time; whatever is asked for, no log begins earlier."""
    log = install(Log(line(1)), monkeypatch)
    assert called(*arguments).exit_code == 0
    assert log.searches[0].since == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_followed_log_shows_each_line_once_and_ends_cleanly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Late lines are found though newer ones were shown before; an interrupt ends it with 0."""
    later = [[line(3), line(9)], [], KeyboardInterrupt()]
    log = install(Log(line(1), line(7), later=later), monkeypatch)
    clock = VirtualClock()
    search = LogSearch(START)
    code = logs.logs(clouds.CLOUDS["aws"], "", search, follow=True, as_json=False, clock=clock)
    shown = [one[18:19] for one in capsys.readouterr().out.splitlines()]
    assert (code, shown) == (0, ["1", "7", "3", "9"])
    assert clock.monotonic() == 3 * logs.POLL_S
    assert {one.since for one in log.searches} == {START}


def test_a_followed_log_forgets_what_can_no_longer_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reading begins shortly before the newest line, so that a long watch reads and keeps little."""
    hour = 3600
    later = [[line(hour)], [], [], KeyboardInterrupt()]
    log = install(Log(line(1), later=later), monkeypatch)
    logs.logs(clouds.CLOUDS["aws"], "", LogSearch(START), follow=True, as_json=True, clock=VirtualClock())
    assert log.searches[-1].since == START + timedelta(seconds=hour) - logs.LATE


def test_text_that_only_looks_like_a_line_of_the_function_is_text() -> None:
    """A document without an event, and half a document, are shown as they are."""
    for text in ('{"message": "x"}', '{"event": 3}', '{"event": "a"', "[" * 100_000):
        assert (parse_line("1", START, text).fields, parse_line("1", START, text).text) == ({}, text)


def test_json_of_a_log_is_strict_and_has_its_error_on_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that only Python reads becomes null; what was read before the log failed is kept."""

    class Failing(Log):
        def logs(self, search: LogSearch) -> Iterator[LogLine]:
            """Yield the lines, and fail then."""
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
