"""How a plan and a report are shown."""

from __future__ import annotations

import io
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.main import main
from cli.terminal.console import clean, console
from cli.terminal.render import ITEMS, planned_word, show_finished, show_report, word_of
from shared.model import Health, ManualStep, Present, Problem, Verb
from shared.reconcile import RunResult
from shared.report import cut_lists
from tests.cli.support.fakes import FakeFunction, action, finished, install

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


class Terminal(io.StringIO):
    """A stream that reports to be a terminal."""

    def isatty(self) -> bool:
        return True


def shown(screen: Console) -> str:
    """Return the output to a console without a terminal."""
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def rendered(ended: RunResult, width: int = 4000, called: str = "accounts", everything: bool = False) -> list[str]:
    """Return the lines that a terminal of that width shows for a finished run."""
    screen = Console(file=io.StringIO(), width=width, color_system=None)
    show_finished(screen, called, ended, everything)
    return shown(screen).splitlines()


def test_plan_shows_each_write_with_scope_and_reason() -> None:
    """A line has the change, kind, name, reason and difference, with the scope below it."""
    ended = finished(
        [action(Verb.CREATE, "1"), action(Verb.REPAIR, "22", reason="drift", detail="columns: two are missing")],
        dry_run=True,
    )
    lines = rendered(ended)
    at = lines.index("to create  export tailpipe-dataexport · absent")
    assert lines[at + 1] == "    1 (account 1)"
    at = lines.index("to repair  export tailpipe-dataexport · drift · columns: two are missing")
    assert lines[at + 1] == "    22 (account 22)"
    assert "plan  1 to create, 1 to repair" in lines
    assert any("dry run, nothing was written" in line for line in lines)


def test_kept_and_skipped_targets_are_listed_only_with_all() -> None:
    """Their number is always shown."""
    ended = finished([action(Verb.KEEP, "1"), action(Verb.SKIP, "2"), action(Verb.CREATE, "3")], dry_run=False)
    short, whole = rendered(ended), rendered(ended, everything=True)
    assert "run  1 created, 1 kept, 1 skipped" in short
    assert not [line for line in short if line.startswith(("kept", "skipped"))]
    for word, scope in (("kept", "1"), ("skipped", "2"), ("created", "3")):
        at = next(number for number, line in enumerate(whole) if line.startswith(f"{word}  export"))
        assert whole[at + 1] == f"    {scope} (account {scope})"


def test_each_verb_has_the_same_words_in_plan_list_total_and_progress() -> None:
    """A creation is `to create` in a plan, and `created`, `being created` or `not created` afterwards."""
    assert [word_of("CREATE", result) for result in ("planned", "done", "pending", "failed", "deferred")] == [
        "to create",
        "created",
        "being created",
        "not created",
        "deferred",
    ]
    assert [word_of(verb, result) for verb, result in (("KEEP", "unchanged"), ("SKIP", "excluded"))] == [
        "kept",
        "excluded",
    ]
    assert [planned_word(verb) for verb in Verb] == [
        "kept",
        "to create",
        "to repair",
        "to adopt",
        "skipped",
        "deferred",
        "blocked",
        "manual",
    ]


def test_actions_with_one_cause_are_grouped() -> None:
    """Three hundred accounts are one line with examples; --all lists each of them."""
    many = [action(Verb.CREATE, f"{number:012d}", detail="x" * 400) for number in range(300)]
    ended = finished(many, dry_run=True)
    short, whole = rendered(ended), rendered(ended, everything=True)
    at = short.index("to create  export tailpipe-dataexport · absent")
    assert short[at + 1].startswith("    300 accounts: 000000000000 (account 000000000000), 000000000001 (")
    assert short[at + 1].endswith(", …")
    assert [line for line in short if line.startswith("to create")] == [short[at]]
    assert sum(line.startswith("to create") for line in whole) == 300
    assert sum(line.endswith("x" * 400) for line in whole) == 300


def test_causes_beyond_the_limit_are_counted() -> None:
    """--all shows them."""
    problems = [Problem("denied", f"message {chr(65 + number)}", "Grant it.") for number in range(ITEMS + 3)]
    ended = finished([action(Verb.KEEP)], dry_run=True, problems=problems)
    assert "… and 3 more; --all shows them" in rendered(ended)
    assert sum("message " in line for line in rendered(ended)) == ITEMS
    assert sum("message " in line for line in rendered(ended, everything=True)) == ITEMS + 3


def test_failure_of_many_scopes_is_grouped() -> None:
    """Three hundred scopes with the same cause are one entry; --all lists each of them."""
    actions = [action(Verb.CREATE, f"{number:012d}") for number in range(300)]
    ended = finished(actions, dry_run=False, failing=[one.key.scope for one in actions])
    short, whole = rendered(ended), rendered(ended, everything=True)
    assert [line for line in short if line.strip() == "→ Grant it."] == ["    → Grant it."]
    assert sum(line.startswith("    300 accounts: 000000000000 (account 000000000000), ") for line in short) == 1
    assert sum(line.strip() == "→ Grant it." for line in whole) == 300


def test_shortened_report_shows_what_is_left_out() -> None:
    """It shows the first actions, the number of the others, and where they are."""
    ended = finished([action(Verb.CREATE, f"{number:012d}") for number in range(300)], dry_run=False)
    screen = Console(file=io.StringIO(), width=4000, color_system=None)
    show_report(screen, "accounts", cut_lists(ended.report, "s3://a-bucket/runs/r-1.json"))
    lines = shown(screen).splitlines()
    assert lines[1].startswith("    50 accounts: 000000000000 (")
    assert lines[3] == "250 more of 300. Read the whole report: s3://a-bucket/runs/r-1.json"
    assert "run  300 created" in lines
    assert not [line for line in lines if "*" in line]


def test_failures_with_different_causes_are_separate() -> None:
    """Messages that differ by more than an id are different causes."""
    problems = [
        Problem("denied", "account 111122223333 refuses s3:PutObject (request 4F-1A2B3C)", "Grant it.", "111122223333"),
        Problem("denied", "account 444455556666 refuses s3:PutObject (request 4F-2D3E4F)", "Grant it.", "444455556666"),
        Problem("denied", "account 111122223333 refuses s3:GetObject (request 4F-9A9B9C)", "Grant it.", "111122223333"),
    ]
    lines = rendered(finished([action(Verb.KEEP)], dry_run=True, problems=problems))
    assert [line.split(" refuses ")[1].split()[0] for line in lines if " refuses " in line] == [
        "s3:PutObject",
        "s3:GetObject",
    ]
    assert "    2 accounts: 111122223333 (account 111122223333), 444455556666" in lines


IDS = {
    "aws": ("accounts", "111122223333"),
    "azure": ("subscriptions", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    "gcp": ("billing accounts", "01ABCD-2EF345-6789AB"),
}
LINK = "https://portal.example.com/#view/Microsoft_Azure_CostManagement/ExportsBlade/scope/subscriptions-of-a-long-name"


@pytest.mark.parametrize("everything", [False, True], ids=["short", "all"])
@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("cloud", IDS)
def test_ids_are_not_broken_on_narrow_terminals(cloud: str, width: int, everything: bool) -> None:
    """At 60 and 80 columns every id, name, link and remedy is unbroken; no line is wider than its longest
    word needs, and none is padded.
    """
    called, scope = IDS[cloud]
    ids = [scope[:-2] + f"{number:02d}" for number in range(3)]
    problem = Problem("denied", f"no right to read {ids[2]}", f"Run: tool grant --scope {ids[2]} --role reader", ids[2])
    ended = finished(
        [
            action(Verb.CREATE, ids[0]),
            action(Verb.REPAIR, ids[1], reason="drift", detail="destination: x → y"),
            action(Verb.MANUAL, ids[2]),
        ],
        dry_run=False,
        problems=[problem],
        manual_step=ManualStep(
            f"Nobody reads {ids[2]}.", (f"Open {ids[2]}, and give the reader its right there.",), LINK
        ),
    )
    lines = rendered(ended, width, called, everything)
    words = {word for line in lines for word in line.split()}
    assert set(ids) <= {word.strip(".,:()") for word in words}
    assert LINK in words
    for line in lines:
        assert line == line.rstrip()
        assert len(line) <= width or len(line.split()) == 1, line


def test_excluded_scopes_are_grouped_by_reason() -> None:
    """Each reason has the number, the scopes and the cloud's message."""
    refused = Present(health=Health.INACTIVE, code="AccountCostDisabled", detail="view charges is off")
    actions = [
        action(Verb.SKIP, f"{number:012d}", reason=refused.code, detail=refused.detail, observation=refused)
        for number in range(7)
    ]
    screen = console(io.StringIO())
    show_finished(screen, "subscriptions", finished(actions, dry_run=False))
    text = shown(screen)
    assert "0 of 7 active subscriptions covered (7 excluded)" in text
    assert "excluded  AccountCostDisabled\n    7 subscriptions: 000000000000 (account 000000000000), " in text
    assert text.count("view charges is off") == 1


def test_manual_steps_have_links_and_failures_have_remedies() -> None:
    """The steps are shown in order."""
    ended = finished([action(Verb.MANUAL, "1"), action(Verb.CREATE, "2")], dry_run=False, failing=["2"])
    screen = console(io.StringIO())
    show_finished(screen, "accounts", ended)
    text = shown(screen)
    assert "manual  The role tailpipe-connector-role trusts nobody.\n    1 (account 1)\n" in text
    assert text.index("1. Open the role.") < text.index("2. Set its trust.") < text.index("https://example.com/role")
    assert re.search("failed  AccessDenied .*not allowed\n    2 ", text)
    assert "→ Grant it." in text
    assert "next  " in text


def test_colors_are_only_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets none even with FORCE_COLOR, and NO_COLOR is honored."""
    ended = finished([action(Verb.CREATE)], dry_run=True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    pipe, terminal = console(io.StringIO()), console(Terminal())
    show_finished(pipe, "accounts", ended)
    show_finished(terminal, "accounts", ended)
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    colorless = console(Terminal())
    show_finished(colorless, "accounts", ended)
    assert not CONTROL.search(shown(pipe))
    assert re.search("\x1b\\[[0-9;]*32m", shown(terminal))
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", shown(colorless))


def test_hostile_names_cannot_control_the_terminal() -> None:
    """Escape sequences, line breaks and direction marks are neutralized."""
    assert clean("a\x1b[31mb\r\nc\u202ed\x07") == "a�[31mb� c�d�"
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # all of Bidi_Control
    assert clean(marks) == "�" * len(marks)
    ended = finished([action(Verb.CREATE, "1\x1b[2J")], dry_run=True)
    screen = console(io.StringIO())
    show_finished(screen, "accounts", ended)
    assert not CONTROL.search(shown(screen))


def test_progress_goes_to_stderr_and_the_result_to_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of libraries also goes to stderr, so that the result can be piped."""
    install(monkeypatch, FakeFunction([action(Verb.CREATE)]))
    result = CliRunner().invoke(main, ["run", "aws", "--yes"])
    assert "a library that writes" in result.stderr
    assert "a library that writes" not in result.stdout
    assert "run  1 created" in result.stdout
    assert not CONTROL.search(result.output)
