"""Parsing of environment variables into settings."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.errors import SettingsError
from shared.settings import EngineSettings, Reader, is_loopback

Read = Callable[[Reader], object]


def problems(reader: Reader) -> tuple[str, ...]:
    """Return the reader's recorded problems."""
    with pytest.raises(SettingsError) as raised:
        reader.finish()
    return raised.value.problems


@pytest.mark.parametrize(
    ("value", "read", "expected"),
    [
        pytest.param("", lambda r: r.text("X", "d"), "d", id="empty is the default"),
        pytest.param("  a b ", lambda r: r.text("X"), "a b", id="blanks around are taken off"),
        pytest.param("ab1", lambda r: r.text("X", pattern="[a-z]+1"), "ab1", id="a matching text"),
        pytest.param("two", lambda r: r.choice("X", "one", ("one", "two")), "two", id="a choice"),
        pytest.param("", lambda r: r.choice("X", "one", ("one", "two")), "one", id="no choice made"),
        pytest.param("b,a,b", lambda r: r.choices("X", "a", ("a", "b")), ("b", "a"), id="choices once, in order"),
        pytest.param("", lambda r: r.choices("X", "a", ("a", "b")), ("a",), id="no choices made"),
        pytest.param("a, b,,a , c", lambda r: r.items("X"), ("a", "b", "c"), id="items once, in order"),
        pytest.param("", lambda r: r.items("X"), (), id="no items"),
        pytest.param(" , ", lambda r: r.items("X"), (), id="only separators"),
        pytest.param("0", lambda r: r.number("X", 5, 0, 9), 0, id="the lowest number"),
        pytest.param("9", lambda r: r.number("X", 5, 0, 9), 9, id="the highest number"),
        pytest.param("", lambda r: r.number("X", 5, 0, 9), 5, id="no number"),
        pytest.param("http://127.0.0.1:5000", lambda r: r.endpoint("X"), "http://127.0.0.1:5000", id="loopback"),
        pytest.param("", lambda r: r.endpoint("X"), "", id="no override"),
    ],
)
def test_valid_value_is_returned_in_its_type(value: str, read: Read, expected: object) -> None:
    """Each method returns the value or the default, and records no problem."""
    reader = Reader({"X": value})
    assert read(reader) == expected
    reader.finish()


@pytest.mark.parametrize(
    ("value", "read", "usable", "fault"),
    [
        pytest.param("", lambda r: r.text("X", None, hint="a name"), "", "X: is required: a name", id="required"),
        pytest.param("", lambda r: r.text("X", None), "", "X: is required", id="required, no hint"),
        pytest.param("A", lambda r: r.text("X", "d", "[a-z]", "a letter"), "d", "X: 'A' is not a letter", id="form"),
        pytest.param("ab", lambda r: r.text("X", "d", "[a-z]"), "d", "X: 'ab' is not in the expected", id="whole form"),
        pytest.param("zz", lambda r: r.choice("X", "a", ("a", "b")), "a", "X: 'zz' is not one of a, b", id="choice"),
        pytest.param("b,zz", lambda r: r.choices("X", "a", ("a", "b")), ("b",), "X: 'zz' is not one of", id="choices"),
        pytest.param("a,1", lambda r: r.items("X", "", "[a-z]", "letters"), ("a",), "X: '1' is not letters", id="item"),
        pytest.param("ten", lambda r: r.number("X", 5, 0, 9), 5, "X: 'ten' is not a whole number", id="a word"),
        pytest.param("1.5", lambda r: r.number("X", 5, 0, 9), 5, "X: '1.5' is not a whole number", id="a fraction"),
        pytest.param("10", lambda r: r.number("X", 5, 0, 9), 5, "X: 10 is not between 0 and 9", id="too high"),
        pytest.param("-1", lambda r: r.number("X", 5, 0, 9), 5, "X: -1 is not between 0 and 9", id="too low"),
        pytest.param("http://10.0.0.1", lambda r: r.endpoint("X"), "", "X: endpoint overrides", id="endpoint"),
    ],
)
def test_invalid_value_is_recorded_with_the_expected_form(value: str, read: Read, usable: object, fault: str) -> None:
    """The reader continues with the default, so that it finds every other problem."""
    reader = Reader({"X": value})
    assert read(reader) == usable
    (only,) = problems(reader)
    assert only.startswith(fault)


def test_error_lists_and_counts_every_problem() -> None:
    """One message has all problems and their number."""
    reader = Reader({"A": "x", "B": "99", "C": "http://example.com"})
    reader.number("A", 1, 0, 5)
    reader.number("B", 1, 0, 5)
    reader.endpoint("C")
    reader.text("D", None)
    reader.check(False, "E", "must not be")
    reader.check(False, "F", lambda: "nor this")
    reader.check(True, "G", "is fine")
    with pytest.raises(SettingsError, match=r"^6 problem\(s\) in the settings: A: .*; B: .*; C: .*; D: .*; E: .*; F: "):
        reader.finish()


def test_secret_is_not_quoted_in_a_problem() -> None:
    """Neither a malformed secret nor an invalid endpoint, which may contain one, is in the message."""
    reader = Reader({"HASH": "hunter2", "URL": "http://ada:hunter2@example.com"})
    reader.text("HASH", None, "[0-9a-f]{64}", "a hash", secret=True)
    reader.endpoint("URL")
    text = "; ".join(problems(reader))
    assert "hunter2" not in text
    assert "HASH: its value is not a hash" in text


def test_huge_value_is_shortened_in_the_message() -> None:
    """The problem stays readable for a value of any length."""
    reader = Reader({"X": "9x" * 10_000})
    reader.number("X", 1, 0, 5)
    reader.choice("X", "a", ("a",))
    reader.items("X", "", "[a-z]", "letters")
    assert max(map(len, problems(reader))) < 150


def test_engine_settings_have_the_documented_defaults_and_ranges() -> None:
    """All four settings are checked against their range."""
    assert Reader({}).engine(1000) == EngineSettings(30, 0, 1000, 8)
    given = {"MAX_VANISHED_PERCENT": "50", "MAX_WRITES_PER_RUN": "7", "CALL_BUDGET": "0", "CALLS_AT_ONCE": "64"}
    assert Reader(given).engine(1000) == EngineSettings(50, 7, 0, 64)
    wrong = Reader(
        {"MAX_VANISHED_PERCENT": "101", "MAX_WRITES_PER_RUN": "-1", "CALL_BUDGET": "-1", "CALLS_AT_ONCE": "0"}
    )
    assert wrong.engine(1000) == EngineSettings(30, 0, 1000, 8)
    assert [fault.split(":")[0] for fault in problems(wrong)] == [
        "MAX_VANISHED_PERCENT",
        "MAX_WRITES_PER_RUN",
        "CALL_BUDGET",
        "CALLS_AT_ONCE",
    ]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:5000", True),
        ("https://127.8.9.1/path", True),
        ("http://[::1]:80", True),
        ("http://LocalHost:4566", True),
        ("127.0.0.1:10000", True),
        ("localhost", True),
        ("http://10.0.0.1", False),
        ("http://169.254.169.254/latest", False),
        ("http://0.0.0.0:80", False),
        ("http://example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://localhost.example.com", False),
        ("http://example.com/127.0.0.1", False),
        ("http://example.com#@127.0.0.1", False),
        ("http://127.0.0.1@example.com", False),
        ("http://ada@127.0.0.1", False),
        ("http://example.com\\@127.0.0.1", False),
        ("http://example.com\t.127.0.0.1", False),
        ("http://127.1", False),
        ("http://2130706433", False),
        ("http://[::1", False),
        ("//", False),
        ("", False),
    ],
)
def test_only_a_loopback_host_is_loopback(url: str, expected: bool) -> None:
    """Similar names and addresses, and those that parsers read differently, are not loopback."""
    assert is_loopback(url) is expected
