"""Parsing of foreign text and documents into numbers, dates, ids and known structures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import NotUnderstood
from shared.parsing import (
    LONGEST_WAIT,
    age_of,
    digits,
    is_html,
    is_id,
    parse_int,
    parse_time,
    requested_wait,
    require,
    require_int,
)

NOW = "Mon, 02 Nov 2026 09:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", None),
        ("30", 30.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("86400", 86400.0),
        ("86401", None),
        ("1000000000000", None),
        ("1e12", None),
        ("1e30", None),
        ("9" * 5000, None),
        ("²", None),
        ("٣", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("soon", None),
        ("Mon, 02 Nov 2026 09:01:30 GMT", 90.0),
        ("Mon, 02 Nov 2026 08:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Mon, 99 Nov 2026 09:01:30 GMT", None),
    ],
)
def test_requested_wait_is_bounded(value: str, expected: float | None) -> None:
    """Seconds and HTTP dates up to a day are accepted; anything else leaves the engine's back-off in force."""
    found = requested_wait({"Retry-After": value, "Date": NOW})
    assert found == (None if expected is None else timedelta(seconds=expected))


def test_longest_of_several_waits_applies() -> None:
    """Header names ignore case, some headers are in milliseconds, and a malformed header is skipped."""
    headers = {"retry-after": "9" * 400, "X-Quota-Retry-After": "20", "x-ms": "45000"}
    assert requested_wait(headers, ("x-quota-retry-after",), ("x-ms",)) == timedelta(seconds=45)
    assert requested_wait({}) is None


def test_http_date_without_a_date_header_is_ignored() -> None:
    """The server's clock is unknown then, so the engine's back-off applies."""
    assert requested_wait({"Retry-After": "Mon, 02 Nov 2026 09:01:30 GMT"}) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80), st.text(max_size=40))
def test_any_header_is_a_bounded_wait_or_none(value: str, date: str) -> None:
    """No text raises an exception."""
    found = requested_wait({"Retry-After": value, "Date": date})
    assert found is None or timedelta(0) < found <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        ("7", 7),
        (" 7 ", 7),
        (0, 0),
        (-1, None),
        (101, None),
        (True, None),
        (7.0, None),
        ("7.0", None),
        ("²", None),
        ("٣", None),
        ("1_0", None),
        ("+7", None),
        ("", None),
        (None, None),
        ("9" * 5000, None),
        (10**400, None),
        (float("nan"), None),
        ([7], None),
    ],
)
def test_whole_number_has_ascii_digits_and_is_within_bounds(value: object, expected: int | None) -> None:
    """Digits of other scripts, booleans, fractions and huge numbers are refused."""
    assert parse_int(value, 0, 100) == expected
    if expected is None:
        with pytest.raises(NotUnderstood, match="a listing"):
            require_int(value, "a listing", 0, 100)


@pytest.mark.parametrize(
    "value",
    ["", "soon", "9" * 5000, "²026-01-01", 7, None, True, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)
def test_invalid_time_is_none(value: object) -> None:
    """This includes times that UTC cannot represent."""
    assert parse_time(value) is None


def test_time_is_converted_to_utc() -> None:
    """A time without a zone is UTC; seven decimals, as Azure writes them, are accepted."""
    expected = datetime(2026, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)
    for text in ("2026-01-05T09:00:00.1234567+01:00", "2026-01-05T08:00:00.123456", "2026-01-05T08:00:00.123456Z"):
        assert parse_time(text) == expected
    assert parse_time(expected) == expected


def test_age_is_measured_by_the_stores_clock() -> None:
    """Both times come from one response; small clock differences between servers give no negative age."""
    assert age_of({"Date": NOW, "Last-Modified": "Mon, 02 Nov 2026 08:56:00 GMT"}) == timedelta(minutes=4)
    assert age_of({"date": NOW, "last-modified": "Mon, 02 Nov 2026 09:00:02 GMT"}) == timedelta(0)
    assert (
        age_of({"Date": NOW}) is age_of({"Last-Modified": NOW}) is age_of({"Date": "x", "Last-Modified": NOW}) is None
    )


@pytest.mark.parametrize("value", ["", " x", "x\n", "\ud800", "a\x00b", "x" * 513, 7, None, ["x"], "a\u202eb"])
def test_invalid_id_is_none(value: object) -> None:
    """This covers lone surrogates, control characters, surrounding blanks, other types and HTML."""
    assert not is_id(value)


def test_ids_of_all_clouds_are_accepted() -> None:
    """Numbers, paths and dashes are valid."""
    billing = "/providers/Microsoft.Billing/billingAccounts/1234:5678_2019-05-31/billingProfiles/AB-CD"
    assert all(is_id(one) for one in ("111122223333", "012345-ABCDEF-678901", billing))
    assert digits("111122223333", 12) == "111122223333"
    assert digits("1111222²3333", 12) is digits(111122223333, 12) is digits("1", 12) is None


def test_missing_or_mistyped_field_is_refused_with_its_call() -> None:
    """The error names field and call; booleans are not numbers."""
    document = {"a": {"b": "text"}, "n": 1, "t": True, "z": None}
    assert require(document, {"a.b": str, "n": int}, "GET x") is document
    for fields in ({"a.c": str}, {"a.b.c": str}, {"z": str}, {"n": str}, {"t": int}):
        with pytest.raises(NotUnderstood, match=f"GET x.*field {next(iter(fields))}"):
            require(document, fields, "GET x")
    value: object
    for value in ([], None, "text", 7):
        with pytest.raises(NotUnderstood, match="not an object"):
            require(value, {}, "GET x")


def test_html_page_is_recognized_by_its_beginning() -> None:
    """The case does not matter, and XML is not a page."""
    assert is_html(b"\xef\xbb\xbf\n <!DOCTYPE html><html>")
    assert is_html(b"<HTML lang='en'>")
    assert not is_html(b"<?xml version='1.0'?><ListBucketResult/>")
    assert not is_html(b"")
