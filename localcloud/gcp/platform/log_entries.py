"""Cloud Logging: the lines that the deployed function wrote, and searches of them.

Source: "Logging query language" and "Structured logging" (Cloud Logging), "Logging and viewing logs" (Cloud Run).
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError

KEPT = 50_000  # entries
_PERMISSION = "logging.logEntries.list"
_DENIED = f"Permission '{_PERMISSION}' denied (or it may not exist)."
_DEFAULT, _MOST = 50, 1000  # entries of a page
_COMPARISON = re.compile(r'([A-Za-z_.]+)(:\*|(?:=|>=)("(?:[^"\\]|\\.)*"))')
# One comparison, or several in parentheses joined by OR; such groups are joined by AND.
_GROUP = re.compile(rf"\(?{_COMPARISON.pattern}(?:\s+OR\s+{_COMPARISON.pattern})*\)?")
_AND = re.compile(r"\s+AND\s+")

Entry = dict[str, Any]
Test = Callable[[Entry], bool]


# difference: GCP-16
class LogEntries:
    """Keeps the newest entries; may be called by any thread."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._number = itertools.count(1)
        self.handlers: dict[str, Handler] = {"logging.entries.list": self._list}

    def keep(self, service: str, lines: Iterable[str]) -> None:
        """Keep what a service wrote, by the machine's time; a JSON object is structured, and names its severity."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        with self._lock:
            for line in lines:
                self._entries.append(
                    {
                        "insertId": f"local-{next(self._number):012d}",
                        "timestamp": now,
                        "resource": {"type": "cloud_run_revision", "labels": {"service_name": service}},
                        **_payload(line),
                    }
                )

    def _list(self, context: Context) -> Answer:
        names = [str(one) for one in context.body.get("resourceNames") or ()]
        if not names:
            raise GoogleError(400, "badRequest", "resource_names must be specified.")
        for name in names:
            context.need(_PERMISSION, "/".join(name.split("/")[:2]), _DENIED)
        tests = list(_groups(str(context.body.get("filter") or "").strip()))
        with self._lock:
            found = [entry for entry in self._entries if all(test(entry) for test in tests)]
        if context.body.get("orderBy") == "timestamp desc":
            found.reverse()
        start, size = int(context.body.get("pageToken") or 0), int(context.body.get("pageSize") or _DEFAULT)
        end = start + min(size, _MOST)
        page = {"entries": found[start:end]} if found[start:end] else {}
        return {**page, "nextPageToken": str(end)} if end < len(found) else page


def _payload(line: str) -> Entry:
    """Return the payload of a line as the logging agent makes it: `severity` leaves a structured one."""
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return {"textPayload": line}
    severity = document.pop("severity", None)
    return {"jsonPayload": document, **({"severity": severity} if severity else {})}


def _groups(text: str) -> Iterator[Test]:
    """Yield a test for each part of a filter that AND joins."""
    position = 0
    while position < len(text):
        found = _GROUP.match(text, position)
        joined = found and (_AND.match(text, found.end()) or (found.end() == len(text) and found))
        if not found or not joined:
            unknown = text[position:]
            raise GoogleError(
                501, "notImplemented", f"The local GCP does not know this part of a log filter: {unknown}"
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
