"""The classes of errors."""

from __future__ import annotations

import pytest

from shared.errors import (
    MESSAGE_LIMIT,
    AnotherRun,
    CloudError,
    Manual,
    OutOfTime,
    Permanent,
    ReportedError,
    RequestError,
    RunStopped,
    SettingsError,
    Throttled,
    Transient,
    cut,
)
from tests.shared.builders import GUIDE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("short", "short"),
        (" two\n l\t\tt ", "two l t"),
        ("x" * 10, "x" * 10),
        ("x" * 11, "x" * 10 + "… (1 more characters)"),
    ],
)
def test_text_is_shortened_to_one_line_with_the_omitted_length(text: str, expected: str) -> None:
    """The limit applies to the characters of the flattened text."""
    assert cut(text, 10) == expected


def test_message_of_an_error_is_bounded() -> None:
    """The message and the text of an error have a maximum length, whatever the response."""
    error = Permanent("broken", "<html>\n" * 100_000)
    assert len(error.message) < MESSAGE_LIMIT + 50
    assert len(str(error)) < MESSAGE_LIMIT + 70
    assert "\n" not in str(error)


def test_error_has_code_message_and_remedy() -> None:
    """The text of the error has code and message."""
    error = CloudError("denied", "the right is missing", "Grant it.")
    assert (error.code, error.message, error.remedy) == ("denied", "the right is missing", "Grant it.")
    assert str(error) == "denied: the right is missing"


def test_manual_error_has_the_text_of_its_step() -> None:
    """Description and steps come from the manual step, unless there is a message."""
    error = Manual("off", GUIDE)
    assert (error.message, error.remedy, error.manual_step) == ("it is broken", "Mend it.", GUIDE)
    assert Manual("off", GUIDE, "the raw answer").message == "the raw answer"


def test_expired_time_is_transient_but_not_retried_in_the_run() -> None:
    """The next run retries it."""
    error = OutOfTime("the next call is allowed in 10 s")
    assert isinstance(error, Transient)
    assert (error.code, error.within_run) == ("deadline", False)
    assert Throttled("slow-down", "later").within_run


def test_run_ending_error_is_not_caught_per_target() -> None:
    """It has the fields for a report, but is not a subclass of the error that is caught per target or per call."""
    assert issubclass(RunStopped, ReportedError)
    assert not issubclass(RunStopped, CloudError)


def test_concurrent_run_error_has_holder_times_and_remedy() -> None:
    """The message has the holder of the lock, its start and its expiry."""
    error = AnotherRun("run-a", "10:00", "10:05")
    assert isinstance(error, RunStopped)
    assert "run run-a has held the lock since 10:00; it expires at 10:05" in str(error)
    assert (error.holder, error.since, error.until) == ("run-a", "10:00", "10:05")
    assert error.remedy


@pytest.mark.parametrize(("kind", "what"), [(SettingsError, "settings"), (RequestError, "request")])
def test_validation_error_lists_every_problem(kind: type[SettingsError | RequestError], what: str) -> None:
    """The problems are also available as a list."""
    error = kind(["A: is required", "B: is wrong"])
    assert str(error) == f"2 problem(s) in the {what}: A: is required; B: is wrong"
    assert error.problems == ("A: is required", "B: is wrong")
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "page", ["<html><h1>Bad gateway</h1></html>", "<!DOCTYPE HTML PUBLIC>\n<p>x", "<HTML lang=en>x"]
)
def test_html_page_in_an_error_is_replaced_by_a_note(page: str) -> None:
    """A proxy's page is not readable in a report; the text before it is kept."""
    assert (
        Permanent("failed", f"GET https://example.com/x: {page}").message == "GET https://example.com/x: (an HTML page)"
    )
    assert Permanent("unexpected", "a <htmlish> word").message == "a <htmlish> word"
