"""The few classes of failures."""

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
def test_a_text_is_cut_to_one_line_and_says_what_was_left_off(text: str, expected: str) -> None:
    """The limit counts characters of the flattened text."""
    assert cut(text, 10) == expected


def test_no_answer_body_fills_a_report() -> None:
    """The message of a failure, and its text, are bounded whatever the cloud answered."""
    error = Permanent("broken", "<html>\n" * 100_000)
    assert len(error.message) < MESSAGE_LIMIT + 50
    assert len(str(error)) < MESSAGE_LIMIT + 70
    assert "\n" not in str(error)


def test_a_failure_has_a_code_a_message_and_a_remedy() -> None:
    """They can be read one by one; the text has code and message."""
    error = CloudError("denied", "the right is missing", "Grant it.")
    assert (error.code, error.message, error.remedy) == ("denied", "the right is missing", "Grant it.")
    assert str(error) == "denied: the right is missing"


def test_a_manual_failure_speaks_by_its_guide() -> None:
    """What is wrong and the steps come from the guide, unless there is a message."""
    error = Manual("off", GUIDE)
    assert (error.message, error.remedy, error.manual_step) == ("it is broken", "Mend it.", GUIDE)
    assert Manual("off", GUIDE, "the raw answer").message == "the raw answer"


def test_time_that_is_up_is_not_waited_out_within_the_run() -> None:
    """It is transient, and left to the next run."""
    error = OutOfTime("the next call is allowed in 10 s")
    assert isinstance(error, Transient)
    assert (error.code, error.within_run) == ("deadline", False)
    assert Throttled("slow-down", "later").within_run


def test_what_ends_the_run_passes_every_handler_for_one_target() -> None:
    """It has a report's fields, and is not of the class that is caught per target or per call."""
    assert issubclass(RunStopped, ReportedError)
    assert not issubclass(RunStopped, CloudError)


def test_another_run_is_named_with_its_times_and_the_remedy() -> None:
    """Who holds the lock, since when, until when."""
    error = AnotherRun("run-a", "10:00", "10:05")
    assert isinstance(error, RunStopped)
    assert "run run-a has held the lock since 10:00; it expires at 10:05" in str(error)
    assert (error.holder, error.since, error.until) == ("run-a", "10:00", "10:05")
    assert error.remedy


@pytest.mark.parametrize(("kind", "what"), [(SettingsError, "settings"), (RequestError, "request")])
def test_bad_input_names_every_fault_in_one_message(kind: type[SettingsError | RequestError], what: str) -> None:
    """The faults can be read one by one, too."""
    error = kind(["A: is required", "B: is wrong"])
    assert str(error) == f"2 problem(s) in the {what}: A: is required; B: is wrong"
    assert error.problems == ("A: is required", "B: is wrong")
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    "page", ["<html><h1>Bad gateway</h1></html>", "<!DOCTYPE HTML PUBLIC>\n<p>x", "<HTML lang=en>x"]
)
def test_a_page_in_an_error_is_named_and_not_quoted(page: str) -> None:
    """What a proxy answers in the cloud's place is no text for a report; what stands before it is kept."""
    assert Permanent("odd", f"GET https://example.com/x: {page}").message == "GET https://example.com/x: (an HTML page)"
    assert Permanent("odd", "a <htmlish> word").message == "a <htmlish> word"
