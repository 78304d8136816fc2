"""What a person sees of a plan and a report."""

from __future__ import annotations

import io
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.console import clean, console
from cli.main import main
from cli.render import ITEMS, ROWS, show_finished
from shared.model import Health, Present, Problem, Verb
from tests.cli.fakes import FakeFunction, action, finished, install

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(screen: Console) -> str:
    """Return what was written to a console of a StringIO."""
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_plan_is_aligned_and_says_why() -> None:
    """Each write stands in a row with verb, scope, kind, name, reason and what differs, columns aligned."""
    ended = finished(
        [action(Verb.CREATE, "1"), action(Verb.REPAIR, "22", reason="drift", changes=("columns", "format"))],
        dry_run=True,
    )
    screen = console(io.StringIO())
    show_finished(screen, "accounts", ended)
    lines = shown(screen).splitlines()
    heading = next(line for line in lines if line.startswith("verb"))
    create = next(line for line in lines if line.startswith("CREATE"))
    repair = next(line for line in lines if line.startswith("REPAIR"))
    for column, left, right in (
        ("scope", "1", "22"),
        ("kind", "export", "export"),
        ("name", "tailpipe-dataexport", "tailpipe-dataexport"),
        ("reason", "absent", "drift"),
    ):
        place = heading.index(column)
        assert f"{create} "[place:].startswith(left + " ")
        assert f"{repair} "[place:].startswith(right + " ")
    assert repair.endswith("columns, format")
    assert "plan  1 to create, 1 to repair" in shown(screen)
    assert "dry run, nothing was written" in shown(screen)


def test_kept_and_skipped_are_only_counted_until_all_is_asked_for() -> None:
    """KEEP and SKIP rows appear with --all only; their number is always said."""
    ended = finished([action(Verb.KEEP, "1"), action(Verb.SKIP, "2"), action(Verb.CREATE, "3")], dry_run=False)
    short, whole = console(io.StringIO()), console(io.StringIO())
    show_finished(short, "accounts", ended)
    show_finished(whole, "accounts", ended, everything=True)
    assert "CREATE 1 done · KEEP 1 unchanged · SKIP 1 skipped" in shown(short)
    assert not re.search("^KEEP", shown(short), re.MULTILINE)
    assert re.search("^KEEP +1 ", shown(whole), re.MULTILINE)
    assert re.search("^SKIP +2 ", shown(whole), re.MULTILINE)
    assert re.search("^CREATE +3 .* done", shown(whole), re.MULTILINE)


def test_long_plans_and_lists_are_cut_with_the_count() -> None:
    """Beyond a screenful the rest is counted, and --all shows it."""
    many = [action(Verb.CREATE, f"{number:012d}") for number in range(ROWS + 7)]
    problems = [Problem("denied", f"message {number}", f"Grant it on {number}.") for number in range(ITEMS + 3)]
    ended = finished(many, dry_run=True, problems=problems)
    short, whole = console(io.StringIO()), console(io.StringIO())
    show_finished(short, "accounts", ended)
    show_finished(whole, "accounts", ended, everything=True)
    assert "… and 7 more; --all shows them" in shown(short)
    assert "… and 3 more; --all shows them" in shown(short)
    assert shown(short).count("CREATE ") == ROWS
    assert shown(whole).count("CREATE ") == ROWS + 7
    assert shown(whole).count("message ") == ITEMS + 3


def test_one_cause_is_told_once_with_its_number_and_examples() -> None:
    """Three hundred scopes that one cause ails are one entry; --all shows each."""
    actions = [action(Verb.CREATE, f"{number:012d}") for number in range(300)]
    ended = finished(actions, dry_run=False, failing=[one.key.scope for one in actions])
    short, whole = console(io.StringIO()), console(io.StringIO())
    show_finished(short, "accounts", ended)
    show_finished(whole, "accounts", ended, everything=True)
    assert shown(short).count("→ Grant it.") == 1
    assert "… and 299 more of the same cause: 000000000001, 000000000002, " in shown(short)
    assert shown(whole).count("→ Grant it.") == 300


def test_excluded_scopes_are_told_by_reason_with_the_clouds_words() -> None:
    """What the cloud refuses for good is a line a reason: how many, which ones, and why."""
    refused = Present(health=Health.INACTIVE, code="AccountCostDisabled", detail="view charges is off")
    actions = [
        action(Verb.SKIP, f"{number:012d}", reason=refused.code, detail=refused.detail, observation=refused)
        for number in range(7)
    ]
    screen = console(io.StringIO())
    show_finished(screen, "subscriptions", finished(actions, dry_run=False))
    text = shown(screen)
    assert "0 of 7 active subscriptions covered (7 excluded)" in text
    assert "excluded  AccountCostDisabled  7 subscriptions: 000000000000, 000000000001, " in text
    assert text.count("view charges is off") == 1


def test_manual_steps_come_with_their_link_and_failures_with_their_remedy() -> None:
    """What is left to a person is spelt out: the steps in order, the link, and each failure's way out."""
    ended = finished([action(Verb.MANUAL, "1"), action(Verb.CREATE, "2")], dry_run=False, failing=["2"])
    screen = console(io.StringIO())
    show_finished(screen, "accounts", ended)
    text = shown(screen)
    assert "manual  1: The role tailpipe-connector-role trusts nobody." in text
    assert text.index("1. Open the role.") < text.index("2. Set its trust.") < text.index("https://example.com/role")
    assert re.search("failed  2: AccessDenied .*not allowed", text)
    assert "→ Grant it." in text
    assert "next  " in text


def test_a_pipe_gets_no_control_characters_and_a_terminal_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are for terminals: a pipe stays plain even with FORCE_COLOR, and NO_COLOR is honoured."""
    ended = finished([action(Verb.CREATE)], dry_run=True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    pipe, terminal = console(io.StringIO()), console(Terminal())
    show_finished(pipe, "accounts", ended)
    show_finished(terminal, "accounts", ended)
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    colourless = console(Terminal())
    show_finished(colourless, "accounts", ended)
    assert not CONTROL.search(shown(pipe))
    assert re.search("\x1b\\[[0-9;]*32m", shown(terminal))
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", shown(colourless))


def test_hostile_names_cannot_steer_the_terminal() -> None:
    """Escape sequences, line breaks and direction marks in a cloud's text are made harmless."""
    assert clean("a\x1b[31mb\r\nc\u202ed\x07") == "a�[31mb� c�d�"
    ended = finished([action(Verb.CREATE, "1\x1b[2J")], dry_run=True)
    screen = console(io.StringIO())
    show_finished(screen, "accounts", ended)
    assert not CONTROL.search(shown(screen))


def test_progress_goes_to_stderr_and_the_result_to_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result can be piped: what passes by on the way, libraries' prints included, is on stderr."""
    install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    result = CliRunner().invoke(main, ["run", "aws"])
    assert "a library that writes" in result.stderr
    assert "a library that writes" not in result.stdout
    assert "run  CREATE 1 done" in result.stdout
    assert not CONTROL.search(result.output)
