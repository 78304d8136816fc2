"""The subset of Cloud Logging's query language that the deployment and its tools use.

Source: "Logging query language" (Cloud Logging).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from localcloud.gcp.errors import GoogleError

_COMPARISON = re.compile(r'([A-Za-z_.]+)(:\*|(?:=|!=|>=)("(?:[^"\\]|\\.)*"))')
# One comparison, or several in parentheses joined by OR; such groups are joined by AND.
_GROUP = re.compile(rf"\(?{_COMPARISON.pattern}(?:\s+OR\s+{_COMPARISON.pattern})*\)?")
_AND = re.compile(r"\s+AND\s+")

Entry = dict[str, Any]
Test = Callable[[Entry], bool]


def matches(text: str, entry: Entry) -> bool:
    """Return whether an entry matches a filter. Raises GoogleError 501 for an unsupported filter."""
    return all(test(entry) for test in groups(" ".join(text.split())))


def groups(text: str) -> Iterator[Test]:
    """Yield a test for each AND term of a filter."""
    position = 0
    while position < len(text):
        found = _GROUP.match(text, position)
        joined = found and (_AND.match(text, found.end()) or (found.end() == len(text) and found))
        if not found or not joined:
            unknown = text[position:]
            raise GoogleError(
                501, "notImplemented", f"The local GCP does not support this part of a log filter: {unknown}"
            )
        yield _any_of([_test(one) for one in _COMPARISON.finditer(found[0])])
        position = joined.end()


def _any_of(tests: Sequence[Test]) -> Test:
    return lambda entry: any(test(entry) for test in tests)


def _test(found: re.Match[str]) -> Test:
    path, rest = found[1].split("."), found[2]
    if rest == ":*":
        return lambda entry: _at(entry, path) is not None
    wanted = json.loads(found[3])
    if rest.startswith("!="):
        return lambda entry: _at(entry, path) != wanted
    if rest.startswith(">="):
        return lambda entry: _moment(_at(entry, path)) >= _moment(wanted)
    return lambda entry: _at(entry, path) == wanted


def _at(entry: Any, path: Iterable[str]) -> Any:
    for part in path:
        entry = entry.get(part) if isinstance(entry, Mapping) else None
    return entry


def _moment(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except ValueError as error:
        raise GoogleError(400, "badRequest", f"Unparsable filter: {text} is not a time.") from error
