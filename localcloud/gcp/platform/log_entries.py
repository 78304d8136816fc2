"""Cloud Logging: stores the deployed function's log lines and searches them.

Source: "Logging query language" and "Structured logging" (Cloud Logging), "Logging and viewing logs" (Cloud Run).
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime

from localcloud.gcp.context import Answer, Context, Handler
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.platform.log_filter import Entry, groups

KEPT = 50_000  # entries
_PERMISSION = "logging.logEntries.list"
_DENIED = f"Permission '{_PERMISSION}' denied (or it may not exist)."
_DEFAULT, _MOST = 50, 1000  # entries per page


# difference: GCP-16
class LogEntries:
    """Keeps the newest entries; thread-safe."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._number = itertools.count(1)
        self.handlers: dict[str, Handler] = {"logging.entries.list": self._list}

    def keep(self, service: str, lines: Iterable[str]) -> None:
        """Store a service's log lines with the machine's time; a JSON object becomes a structured entry."""
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
        tests = list(groups(str(context.body.get("filter") or "").strip()))
        with self._lock:
            found = [entry for entry in self._entries if all(test(entry) for test in tests)]
        if context.body.get("orderBy") == "timestamp desc":
            found.reverse()
        start, size = int(context.body.get("pageToken") or 0), int(context.body.get("pageSize") or _DEFAULT)
        end = start + min(size, _MOST)
        page = {"entries": found[start:end]} if found[start:end] else {}
        return {**page, "nextPageToken": str(end)} if end < len(found) else page


def _payload(line: str) -> Entry:
    """Return a line's payload as the logging agent does: `severity` moves out of a structured payload."""
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return {"textPayload": line}
    severity = document.pop("severity", None)
    return {"jsonPayload": document, **({"severity": severity} if severity else {})}
