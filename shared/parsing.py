"""Parses external text and documents into ids, numbers, dates and known shapes, within bounds.

All input from a cloud, a proxy, a header or the stored state passes through here before it becomes an ``int``, a date
or a sleep: digits of other scripts, numbers with thousands of digits, infinity and booleans are refused instead of
raising errors later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from shared.errors import NotUnderstood, cut
from shared.redaction import printable

LONGEST_WAIT = timedelta(days=1)  # no cloud requests a longer wait; a longer one is ignored
LONGEST_ID = 512  # characters; Azure's resource ids are the longest scope ids
LAST_MICROS = 253_402_300_799_999_999  # microseconds from 1970 to the end of the year 9999
LARGEST = 2**63 - 1  # the values of foreign JSON documents

# What an SDK raises when it cannot parse a response, without information about the request.
PARSING = ValueError | LookupError | TypeError | AttributeError | OverflowError

_WHOLE = re.compile(r"\s*-?[0-9]{1,19}\s*")
_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")


def parse_int(value: object, low: int = 0, high: int = LARGEST) -> int | None:
    """Return a whole number from `low` to `high`, given as a number or in ASCII digits; None for anything else."""
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            return None
        value = int(value)
    elif isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if low <= value <= high else None


def require_int(value: object, what: str, low: int = 0, high: int = LARGEST) -> int:
    """Return a whole number as `parse_int` does. Raises NotUnderstood for anything else."""
    found = parse_int(value, low, high)
    if found is None:
        raise NotUnderstood(what, f"{_kind(value)} stands where a number from {low} to {high} belongs")
    return found


def parse_time(value: object) -> datetime | None:
    """Return a moment in UTC from ISO 8601 text or a datetime (without zone: UTC); None for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) <= 40 and value.isascii() else None
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:  # year 1 or 9999, with an offset
        return None


def parse_http_date(value: object) -> datetime | None:
    """Return the moment of an HTTP date (``Sun, 06 Nov 1994 08:49:37 GMT``) in UTC; None for anything else."""
    if not isinstance(value, str) or len(value) > 64 or not value.isascii():
        return None
    try:
        return parse_time(parsedate_to_datetime(value))
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


def age_of(headers: Mapping[str, Any]) -> timedelta | None:
    """Return the age of a stored object by the response's own ``Date`` and ``Last-Modified``; None without them."""
    low = {str(name).lower(): value for name, value in headers.items()}
    now, modified = parse_http_date(low.get("date")), parse_http_date(low.get("last-modified"))
    return max(now - modified, timedelta(0)) if now is not None and modified is not None else None


def requested_wait(
    headers: Mapping[str, Any], names: Iterable[str] = (), ms_names: Iterable[str] = ()
) -> timedelta | None:
    """Return the longest wait that a response's headers request, above zero and at most a day; None without one.

    ``Retry-After`` and the further `names` hold seconds or an HTTP date, relative to the response's own ``Date``;
    `ms_names` hold milliseconds. Names are compared without regard to case.
    """
    low = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    waits = [_wait(low.get(name, ""), low.get("date", "")) for name in ("retry-after", *names)]
    waits += [_seconds(low.get(name, ""), 1000) for name in ms_names]
    return max((one for one in waits if one is not None and timedelta(0) < one <= LONGEST_WAIT), default=None)


def _wait(value: str, date: str) -> timedelta | None:
    if _SECONDS.fullmatch(value):
        return _seconds(value, 1)
    until, now = parse_http_date(value), parse_http_date(date)
    return until - now if until is not None and now is not None else None


def _seconds(value: str, parts: int) -> timedelta | None:
    return timedelta(seconds=float(value) / parts) if _SECONDS.fullmatch(value) else None


def is_id(value: object) -> bool:
    """Return whether a value may be a scope's id: printable text of a plausible length, without surrounding blanks."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_ID
        and value == value.strip()
        and printable(value) == value
        and not re.search(r"[\r\n\t]", value)
    )


def is_tenant_id(value: object) -> bool:
    """Return whether a value may be a tenant's id: 1 to 40 of a–z, 0–9 and -, without - at either end."""
    return isinstance(value, str) and _TENANT.fullmatch(value) is not None


def digits(value: object, length: int) -> str | None:
    """Return a text of exactly `length` ASCII digits (an account's id); None for anything else."""
    return value if isinstance(value, str) and re.fullmatch(rf"[0-9]{{{length}}}", value) else None


def mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else; for parts that are optional."""
    return value if isinstance(value, Mapping) else {}


def parse_texts(value: object) -> tuple[str, ...]:
    """Return the texts of a JSON list; empty for anything else."""
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()


def require(document: object, fields: Mapping[str, type | tuple[type, ...]], what: str) -> Mapping[str, Any]:
    """Return a response's document if it is an object that has all these fields with these types.

    A field may be a path (``properties.definition.type``). Raises NotUnderstood that names the first invalid field:
    only a document that was understood proves that something does not exist.
    """
    if not isinstance(document, Mapping):
        raise NotUnderstood(what, f"the body is {_kind(document)}, not an object")
    for path, kind in fields.items():
        value: Any = document
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise NotUnderstood(what, f"its field {path} is {_kind(value)}")
    return document


def permit(document: object, fields: Mapping[str, tuple[type, ...]], what: str) -> None:
    """Check that optional fields of a response have one of their types, unless they are missing or null.

    `fields` maps paths to types; a name that ends in ``[]`` stands for each item of a list (``rule[].condition``).
    Raises NotUnderstood that names the first invalid field.
    """
    for path, kinds in fields.items():
        for value in _at(document, path.split("."), path, what):
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise NotUnderstood(what, f"its field {path} is {_kind(value)}")


def _at(value: Any, names: list[str], path: str, what: str) -> Iterator[Any]:
    """Yield the values at a path, nothing if a part is missing. Raises NotUnderstood if a list has another type."""
    for place, name in enumerate(names):
        value = value.get(name.removesuffix("[]")) if isinstance(value, Mapping) else None
        if value is None:
            return
        if name.endswith("[]"):
            if not isinstance(value, list):
                raise NotUnderstood(what, f"its field {path} is {_kind(value)}, not a list")
            rest = names[place + 1 :]
            for item in value:
                if not rest:
                    yield item
                elif isinstance(item, Mapping):
                    yield from _at(item, rest, path, what)
                elif item is not None:
                    raise NotUnderstood(what, f"an item of its field {path} is {_kind(item)}")
            return
    yield value


def is_html(body: bytes) -> bool:
    """Return whether a body is an HTML page: proxies and gateways send such pages, the clouds' APIs do not."""
    return body[:256].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith((b"<!doctype html", b"<html"))


def _kind(value: object) -> str:
    """Describe a value. Text is not quoted: it may be a proxy's page, or the request itself."""
    if value is None:
        return "missing"
    if isinstance(value, str | bytes):
        return f"text of {len(value)} characters"
    return f"{type(value).__name__} {cut(repr(value), 40)}"
