"""The output of a plan and its permissions before the confirmation."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console

from cli.deployment.grants import grants
from cli.deployment.model import Change, Finding, Place, Problem
from cli.deployment.output import (
    show_alarms,
    show_changes,
    show_findings,
    show_grants,
    show_place,
    show_problems,
    verb_of,
)


def shown(print_: Callable[[Console], None]) -> str:
    """Return the output on a wide screen without colors."""
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    print_(screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def changed(address: str, *actions: str, importing: bool = False, **after: object) -> Change:
    """Return a change of a resource of the module."""
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
def test_each_change_has_one_word(change: Change, verb: str) -> None:
    """A replacement is always called that, even if adopted; unknown actions are shown unchanged."""
    assert verb_of(change) == verb


def test_changes_are_counted_by_verb_and_type() -> None:
    """Each row has the names without the module's address, and the last line has the totals."""
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


def test_plan_for_2000_subscriptions_is_summarized() -> None:
    """Similar resources have a count and examples; all of them are shown on request."""
    many = [changed(f'azurerm_role_assignment.function["{number}"]', "create") for number in range(2000)]
    text = shown(lambda screen: show_changes(screen, many))
    assert "create 2,000 azurerm_role_assignment: function" in text
    assert "and 1,995 more" in text
    assert len(text) < 1000
    assert 'function["1999"]' in shown(lambda screen: show_changes(screen, many, everything=True))


def test_findings_on_2000_subscriptions_are_summarized() -> None:
    """Similar findings have examples, the remedy and a count; other findings are all shown."""
    alike = [
        Finding(f"deploy: Assign on subscription {number}", False, "missing", "grant it") for number in range(2000)
    ]
    text = shown(lambda screen: show_findings(screen, [*alike, Finding("the schedule", False, "is off", "turn it on")]))
    assert text.count("grant it") == 3
    assert "deploy: Assign: 1,997 more like these · missing" in text
    assert "turn it on" in text


def test_plan_output_has_no_attribute_values() -> None:
    """It has addresses and types."""
    text = shown(lambda screen: show_changes(screen, [changed("aws_iam_role.x", "create", name="a-value-of-it")]))
    assert "a-value-of-it" not in text


def test_empty_plan_is_reported_in_words() -> None:
    """No empty table is shown."""
    assert "nothing to change" in shown(lambda screen: show_changes(screen, []))


def reasons(cloud: str, granted: Mapping[str, Sequence[str]] | None) -> str:
    """Return the output about the permissions in one line."""
    return " ".join(shown(lambda screen: show_grants(screen, cloud, granted)).split())


def why(grant: Mapping[str, Any]) -> str:
    """Return a grant's reason as shown."""
    return " ".join(grant["why"].split()).rstrip(".")


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_only_the_permissions_of_the_plan_are_shown(cloud: str) -> None:
    """Each reason has its role or actions; disabled options are not mentioned."""
    every = {holder: [one["id"] for one in listed] for holder, listed in grants(cloud).items()}
    chosen = {holder: ids[::2] for holder, ids in every.items()}
    text = reasons(cloud, chosen)
    assert text.index("The function may:") < text.index("Tailpipe may:")
    assert "only with" not in text
    shown: dict[str, bool] = {}  # two identities may have the same permission for the same reason
    for holder, listed in grants(cloud).items():
        for grant in listed:
            first = grant.get("role") or [*grant.get("actions", ()), *grant.get("data_actions", ())][0]
            line = f"- {why(grant)}: {first}"
            shown[line] = shown.get(line, False) or grant["id"] in chosen[holder]
    assert {line: line in text for line in shown} == shown


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_identities_without_permissions_are_not_shown(cloud: str) -> None:
    """This holds if Tailpipe gets no access or no policy is assigned."""
    text = reasons(cloud, {"function": [grants(cloud)["function"][0]["id"]], "connector": []})
    assert "The function may:" in text
    assert "Tailpipe may" not in text
    assert "policy" not in text


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_all_permissions_are_shown_with_conditions_if_the_plan_lacks_them(cloud: str) -> None:
    """Nothing that may be granted is omitted."""
    text = reasons(cloud, None)
    for listed in grants(cloud).values():
        for grant in listed:
            assert f"- {why(grant)}{' (only with ' + grant['when'] + ')' if 'when' in grant else ''}: " in text


def alarmed(number: int, emails: Sequence[str], confirm: bool = False) -> str:
    """Return the output about a number of alarms in one line."""
    return " ".join(shown(lambda screen: show_alarms(screen, number, emails, confirm)).split())


@pytest.mark.parametrize(
    ("number", "said"), [(1, "1 alarm of this deployment notifies"), (9, "9 alarms of this deployment notify")]
)
def test_alarms_without_a_receiver_are_a_warning_with_a_remedy(number: int, said: str) -> None:
    """The number is that of the plan."""
    text = alarmed(number, [])
    assert f"Warning: the {said} no one." in text
    assert "--alarm-email ADDRESS" in text


def test_alarm_addresses_are_shown_without_a_warning() -> None:
    """Required confirmations are mentioned; without alarms nothing is shown."""
    assert alarmed(5, ["a@example.com", "b@example.com"]) == "5 alarms notify a@example.com, b@example.com"
    assert alarmed(1, ["a@example.com"], confirm=True).endswith("each address must confirm the mail that it gets first")
    assert alarmed(0, []) == ""


def test_finding_has_a_mark_and_a_remedy_unless_it_is_well() -> None:
    """The marks distinguish well, wrong and unknown."""
    findings = [
        Finding("one", True, "fine", "unneeded"),
        Finding("two", False, "bad", "mend it"),
        Finding("three", None, "unread", "look"),
    ]
    lines = shown(lambda screen: show_findings(screen, findings)).splitlines()
    assert [line.strip() for line in lines] == ["✓ one · fine", "✗ two · bad", "mend it", "? three · unread", "look"]
    brief = shown(lambda screen: show_findings(screen, findings, everything=False))
    assert "one" not in brief


def test_control_characters_from_a_cloud_are_not_printed() -> None:
    """They may be in a name or a message."""
    text = shown(lambda screen: show_findings(screen, [Finding("\x1b[2Jname", False, "\x07", "re\x1b[0mmedy")]))
    text += shown(lambda screen: show_problems(screen, "title", [Problem("\x1b]0;x", "\x1b[1A")]))
    text += shown(lambda screen: show_place(screen, Place("aws", "1", "account", "\x1b[2J", "x", {"a": "\x1b[2J"})))
    assert "\x1b" not in text
    assert "\x07" not in text
