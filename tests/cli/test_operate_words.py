"""A plan and its grants as a person reads them before saying yes."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from cli.operate.model import Change, Fault, Finding, Place
from cli.operate.words import (
    grants,
    show_changes,
    show_faults,
    show_findings,
    show_grants,
    show_place,
    verb_of,
)


def shown(print_: Callable[[Console], None]) -> str:
    """Return what is printed on a wide screen without colours."""
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    print_(screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def changed(address: str, *actions: str, importing: bool = False, **after: object) -> Change:
    """Return a change of a resource below the module."""
    return Change(f"module.tailpipe.{address}", address.partition(".")[0], actions, after, importing)


@pytest.mark.parametrize(
    ("change", "verb"),
    [
        (changed("a.b", "create"), "create"),
        (changed("a.b", "update"), "change"),
        (changed("a.b", "delete"), "remove"),
        (changed("a.b", "create", "delete"), "replace"),
        (changed("a.b", "delete", "create"), "replace"),
        (changed("a.b", "no-op", importing=True), "adopt"),
        (changed("a.b", "update", importing=True), "adopt"),
        (changed("a.b", "delete", "create", importing=True), "replace"),
        (changed("a.b", "forget"), "forget"),
    ],
)
def test_each_change_is_one_word(change: Change, verb: str) -> None:
    """A replacement is never called anything milder, not even for what is adopted; unknown words stay."""
    assert verb_of(change) == verb


def test_changes_are_counted_by_verb_and_type() -> None:
    """Each verb and type is a row with its names, the module's address left out, and a line of sums ends it."""
    text = shown(
        lambda screen: show_changes(
            screen,
            [
                changed("aws_iam_role.function", "create"),
                changed("aws_iam_role.connector", "create"),
                changed("aws_s3_bucket.exports", "no-op", importing=True),
                changed("aws_sqs_queue.failed", "delete", "create"),
            ],
        )
    )
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "create 2 aws_iam_role: function, connector" in rows
    assert "adopt 1 aws_s3_bucket: exports" in rows
    assert "replace 1 aws_sqs_queue: failed" in rows
    assert rows[-1] == "1 to adopt, 2 to create, 1 to replace"


def test_values_of_a_plan_are_never_shown() -> None:
    """Addresses and types are said, no value of any attribute."""
    text = shown(lambda screen: show_changes(screen, [changed("aws_iam_role.x", "create", name="a-value-of-it")]))
    assert "a-value-of-it" not in text


def test_an_empty_plan_says_so() -> None:
    """Nothing to do is said in words, not with an empty table."""
    assert "nothing to change" in shown(lambda screen: show_changes(screen, []))


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_every_grant_is_said_with_its_reason(cloud: str) -> None:
    """Who may do what, from the file that the module grants from: each reason, and the role or actions."""
    text = " ".join(shown(lambda screen: show_grants(screen, cloud)).split())
    assert text.index("The function may:") < text.index("Tailpipe may:")
    for holder in ("function", "connector"):
        for grant in grants(cloud)[holder]:
            assert " ".join(grant["why"].split()).rstrip(".") in text
            first = grant.get("role") or [*grant.get("actions", ()), *grant.get("data_actions", ())][0]
            assert first in text


def test_a_finding_has_its_mark_and_the_remedy_where_it_is_not_well() -> None:
    """Well, wrong and unknown have a mark each; a remedy is for what is not well only."""
    findings = [
        Finding("one", True, "fine", "unneeded"),
        Finding("two", False, "bad", "mend it"),
        Finding("three", None, "unread", "look"),
    ]
    lines = shown(lambda screen: show_findings(screen, findings)).splitlines()
    assert [line.strip() for line in lines] == ["✓ one · fine", "✗ two · bad", "mend it", "? three · unread", "look"]
    brief = shown(lambda screen: show_findings(screen, findings, everything=False))
    assert "one" not in brief


def test_what_a_cloud_says_cannot_steer_the_terminal() -> None:
    """Control characters in a name or a message are not passed on."""
    text = shown(lambda screen: show_findings(screen, [Finding("\x1b[2Jname", False, "\x07", "re\x1b[0mmedy")]))
    text += shown(lambda screen: show_faults(screen, "title", [Fault("\x1b]0;x", "\x1b[1A")]))
    text += shown(lambda screen: show_place(screen, Place("aws", "1", "account", "\x1b[2J", "x", {"a": "\x1b[2J"})))
    assert "\x1b" not in text
    assert "\x07" not in text
